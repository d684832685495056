"""Goal 14, first half: whatever makes vectors other than the stored ones is refused at the start.

A data folder is indexed by a model in a folder of its own, through the command. Then each part of
what makes a vector is changed in turn (the chunker's sizes, the model, and in the model's files its
weights, pooling, normalisation, prompts and tokenizer), and `longleaf search` and `longleaf serve`
are started as a user would: each must end by itself, naming `longleaf reindex`, with the data
folder as before; the search within 5 s on a machine with nothing else to do. The second half, the
swap under queries, is benchmarks/swap.py.

    python -m benchmarks.trust.fingerprint
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.trust import common
from benchmarks.trust.serving import LONGLEAF, environment

MOST_SECONDS = 5.0
Change = Callable[[Path], dict[str, str]]


def _weights(model: Path) -> dict[str, str]:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    name = min(tensors)
    save_file(tensors | {name: tensors[name] + 0.01}, model / "model.safetensors")
    return {}


def _edited(file: str, change: Callable[[dict[str, object]], object]) -> Change:
    def edit(model: Path) -> dict[str, str]:
        path = model / file
        told = json.loads(path.read_text())
        path.write_text(json.dumps(change(told)))
        return {}

    return edit


def _normalisation(model: Path) -> dict[str, str]:
    modules = json.loads((model / "modules.json").read_text())
    kept = [each for each in modules if not each["type"].endswith("Normalize")]
    assert len(kept) == len(modules) - 1
    (model / "modules.json").write_text(json.dumps(kept))
    return {}


CHANGES: dict[str, Change] = {
    "chunker.target_tokens": lambda _: {"chunker__target_tokens": "64"},
    "chunker.overlap_tokens": lambda _: {"chunker__overlap_tokens": "9"},
    "embedder.model (and its dimensions)": lambda _: {"embedder__model": "bundled"},
    "weights": _weights,
    "pooling": _edited(
        "1_Pooling/config.json",
        lambda told: told | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
    ),
    "normalisation": _normalisation,
    "prompts": _edited(
        "config_sentence_transformers.json",
        lambda told: told | {"prompts": {"query": "ask: ", "document": "say: "}},
    ),
    "tokenizer": _edited("tokenizer_config.json", lambda told: told | {"strip_accents": True}),
}  # fmt: skip


def started(command: list[str], home: Path, settings: dict[str, str]) -> tuple[int, str, float]:
    """(exit status, what it said, seconds) of a command on the data folder."""
    began = time.monotonic()
    done = subprocess.run(
        [LONGLEAF, *command, "--home", str(home)], env=environment(**settings),
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def run(most_seconds: float = MOST_SECONDS) -> common.Outcome:
    """Every change; `most_seconds` for a busy machine."""
    from longleaf.indexer.models import bundled_minilm

    wrong: list[str] = []
    refused, slowest = 0, 0.0
    with common.scratch() as folder:
        home, template = folder / "home", folder / "model"
        make_model(bundled_minilm(), template)
        (folder / "a.txt").write_text(common.text_of(1))
        own = {"embedder__model": str(folder / "used")}
        shutil.copytree(template, folder / "used")
        code, said, _ = started(
            ["index", str(folder / "a.txt"), "--collection", common.COLLECTION], home, own
        )
        assert code == 0, said
        for what, change in CHANGES.items():
            shutil.rmtree(folder / "used")
            shutil.copytree(template, folder / "used")
            settings = own | change(folder / "used")
            for command in (["search", "rent"], ["serve", "--port", "0"]):
                code, said, seconds = started(command, home, settings)
                common.log(f"{what}: {command[0]} exit {code} in {seconds:.1f} s")
                if code == 0 or "longleaf reindex" not in said or "Traceback" in said:
                    wrong.append(f"{what}: {command[0]} was not refused: {code} {said[-200:]}")
                    continue
                refused += 1
                slowest = max(slowest, seconds)
        shutil.rmtree(folder / "used")
        shutil.copytree(template, folder / "used")
        code, said, _ = started(["search", "rent"], home, own)
        if code != 0:
            wrong.append(f"with all as it was, a search fails: {said[-300:]}")
    if slowest > most_seconds:
        wrong.append(f"the slowest refusal took {slowest:.1f} s")
    figure = (
        f"{refused} of {2 * len(CHANGES)} starts refused with the command, the slowest after "
        f"{slowest:.1f} s (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores)"
    )
    return common.Outcome(14, "fingerprint", figure, not wrong, wrong)


def make_model(bundled: Path, folder: Path) -> None:
    """The bundled model as a sentence-transformers folder with every part stated."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(bundled), device="cpu").save(str(folder))


def main() -> int:
    chosen = common.options(__doc__ or "")
    return common.finish(run(), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
