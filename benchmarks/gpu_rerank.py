"""Qwen3-Reranker on one GPU: ours against the model card's code and sentence-transformers.

Random weights at the models' true sizes (timing does not see what a weight means), token ids or
texts in, Python floats out, all in one run on one machine; the floor is the arithmetic that scoring
needs by formula over the rate of this device's own matrix products. Results are kept by cell in one
JSON file, so a run that was cut off goes on where it stopped: `--part` takes slices of under eight
minutes. `--tiny` runs every part on the CPU with a model of a few thousand weights: it proves that
the script works, and its numbers mean nothing. Needs torch, transformers, safetensors, tokenizers,
numpy; sentence-transformers and triton where they are.

    python benchmarks/gpu_rerank.py --part rivals --out gpu_rerank.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from benchmarks.gpu_rerank_table import plot, summary  # noqa: E402

from longleaf.reranker.instructions import instruction_text  # noqa: E402
from longleaf.reranker.qwen3.attention import choose_attention  # noqa: E402
from longleaf.reranker.qwen3.attention_rows import choose_row_attention  # noqa: E402
from longleaf.reranker.qwen3.fit import matmul_flops_per_second  # noqa: E402
from longleaf.reranker.qwen3.flops import forward_flops  # noqa: E402
from longleaf.reranker.qwen3.graphs import GraphedScorer  # noqa: E402
from longleaf.reranker.qwen3.kernels import choose_operations  # noqa: E402
from longleaf.reranker.qwen3.model import PlainOperations, Qwen3Scorer, Switches  # noqa: E402
from longleaf.reranker.qwen3.packing import pack_rows  # noqa: E402
from longleaf.reranker.qwen3.plan import Item, Limits, pack  # noqa: E402
from longleaf.reranker.qwen3.template import HEAD, TAIL, Template  # noqa: E402
from longleaf.reranker.qwen3.weights import load_weights  # noqa: E402

SIZES = {  # layers, hidden, inner, heads; 8 key-value heads of 128; tied head
    "0.6B": (28, 1024, 3072, 16, True),
    "4B": (36, 2560, 9728, 32, True),
    "8B": (36, 4096, 12_288, 32, False),
    "tiny": (2, 64, 96, 4, True),
}
QUERY = "who pays for repairs of the roof?"
BATCHES = (8, 32, 128)
ROUNDS = 4

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SAID = "{{ messages | selectattr('role', 'eq', '%s') | map(attribute='content') | first }}"
CHAT_TEMPLATE = (
    f"{HEAD}<Instruct>: {instruction_text(None)}\n<Query>: {_SAID % 'query'}\n"
    f"<Document>: {_SAID % 'document'}{TAIL[:-1]}"
    "{{ '\\n' }}"  # jinja drops a line's end at the end
)
Score = Callable[[], list[float]]


@dataclass(frozen=True)
class Case:
    """A cell's input. `spread`: fixed lengths, or lognormal ones (sigma 0.6) of that mean."""

    model: str
    documents: int
    tokens: int
    spread: str = "fixed"


@dataclass
class Bench:
    """One model with everything that scores with it, made once."""

    name: str
    folder: Path
    device: str
    dtype: torch.dtype
    template: Template
    model: Any
    ours: dict[str, Any]
    words: list[str]

    def texts(self, case: Case) -> list[str]:
        """Texts of about as many tokens as asked for, other words in each."""
        rng = np.random.default_rng(case.tokens)
        made = []
        for length in lengths(case):
            words = rng.choice(self.words, 2 * length)
            ids = self.template.encode_documents([" ".join(words)])[0]
            made.append(" ".join(words[: max(1, round(2 * length * length / len(ids)))]))
        return made


def lengths(case: Case) -> list[int]:
    if case.spread == "fixed":
        return [case.tokens] * case.documents
    rng = np.random.default_rng(case.documents)
    drawn = rng.lognormal(0.0, 0.6, case.documents)
    return [max(8, int(each)) for each in drawn / drawn.mean() * case.tokens]


def make_folder(name: str, folder: Path, dtype: torch.dtype, device: str) -> None:
    """A model of random weights with a tokenizer trained on this repository's documents."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    bpe = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 if name == "tiny" else 8_000,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator([*corpus(), "yes\nno\n" * 500], trainer)
    bpe.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    bpe.add_tokens([AddedToken(each, special=False) for each in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=40_960,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    layers, hidden, inner, heads, tied = SIZES[name]
    config = Qwen3Config(
        vocab_size=len(tokenizer) if name == "tiny" else 151_669,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2 if name == "tiny" else 8,
        head_dim=32 if name == "tiny" else 128,
        max_position_embeddings=40_960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=tied,
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            made = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    made.save_pretrained(folder, safe_serialization=True)


def corpus() -> list[str]:
    return [file.read_text("utf-8") for file in sorted((ROOT / "docs").glob("*.md"))]


def open_bench(name: str, scratch: Path, device: str) -> Bench:
    from tokenizers import Tokenizer
    from transformers import Qwen3ForCausalLM

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    folder = scratch / f"qwen3-{name}-{str(dtype).rpartition('.')[2]}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_folder(name, folder, dtype, device)
        (folder / "complete").touch()
    template = Template(Tokenizer.from_file(str(folder / "tokenizer.json")), 40_960)
    weights = load_weights(folder, template.yes_id, template.no_id, dtype=dtype, device=device)
    attention = choose_attention(device)
    plain = Qwen3Scorer(weights, attention, PlainOperations())
    fused = Qwen3Scorer(weights, attention, choose_operations(device))
    rows, why = choose_row_attention(device)
    whole = Qwen3Scorer(weights, attention, fused.operations, rows)
    print(f"# {name}: {attention.reason}; {fused.operations.name}; {why}", flush=True)
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    words = sorted({word for text in corpus() for word in text.split() if word.isalpha()})
    return Bench(
        name, folder, device, dtype, template, model.to(device).eval(),
        {"eager": plain, "kernels": fused, "row attention": whole, "graphs": GraphedScorer(whole)},
        words,
    )  # fmt: skip


def ours(bench: Bench, way: str, prefix: Any, documents: Sequence[Any], **off: bool) -> list[float]:
    """As the engine does it: batches of falling length, one answer to the processor each."""
    scorer = bench.ours[way]
    switches = Switches(last_rows_only=not off.get("every_row", False))
    suffix = bench.template.suffix
    whole = [np.concatenate([each, suffix]) for each in documents]
    if off.get("no_sharing"):
        whole, prefix = [np.concatenate([prefix, each]) for each in whole], prefix[:0]
    items = [Item(place, len(each)) for place, each in enumerate(whole)]
    logits = [0.0] * len(whole)
    with torch.inference_mode():
        for batch in pack(items, len(prefix), Limits()):
            places = [item.place for item in batch.items]
            made = scorer.batch(pack_rows([(prefix, [whole[place] for place in places])]))
            found = scorer.score(made, alone=batch.alone, switches=switches).tolist()
            for place, logit in zip(places, found, strict=True):
                logits[place] = logit
    return logits


def ours_of_texts(bench: Bench, texts: Sequence[str]) -> list[float]:
    prefix = bench.template.prefix(instruction_text(None), QUERY).ids
    documents = bench.template.encode_documents([f" {text}" for text in texts])
    return ours(bench, "graphs", prefix, documents)


def library(
    bench: Bench, rows: Sequence[Any], batch: int, *, all_logits: bool = False
) -> list[float]:
    """transformers: padded in front, sorted by length unless it is the model card's code.

    `all_logits`: as the card does, the logits of every token, in the order given.
    """
    order = np.arange(len(rows)) if all_logits else np.argsort([-len(row) for row in rows])
    logits = [0.0] * len(rows)
    yes, no = bench.template.yes_id, bench.template.no_id
    for start in range(0, len(rows), batch):
        places = order[start : start + batch]
        longest = max(len(rows[place]) for place in places)
        ids = np.zeros((len(places), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, place in enumerate(places):
            ids[row, longest - len(rows[place]) :] = rows[place]
            mask[row, longest - len(rows[place]) :] = 1
        with torch.inference_mode():
            last = bench.model(
                input_ids=torch.as_tensor(ids, device=bench.device),
                attention_mask=torch.as_tensor(mask, device=bench.device),
                use_cache=False,
                logits_to_keep=0 if all_logits else 1,
            ).logits[:, -1]
            found = (last[:, yes].float() - last[:, no].float()).tolist()
        for place, logit in zip(places, found, strict=True):
            logits[place] = logit
    return logits


def card_of_texts(bench: Bench, texts: Sequence[str]) -> list[float]:
    """The card's way: strings joined, encoded and padded at each call, all at once."""
    question = f"<Instruct>: {instruction_text(None)}\n<Query>: {QUERY}\n<Document>: "
    bodies = bench.template.encode_documents([question + text for text in texts])
    head = bench.template._form.encode(HEAD, add_special_tokens=False).ids
    rows = [np.concatenate([head, body, bench.template.suffix]) for body in bodies]
    return library(bench, rows, len(rows), all_logits=True)


def cross_encoder(bench: Bench) -> Callable[[Sequence[str], int], list[float]] | None:
    """sentence-transformers on the same folder, or None where it is not or cannot."""
    try:
        from sentence_transformers import CrossEncoder

        encoder = CrossEncoder(
            str(bench.folder),
            device=bench.device,
            local_files_only=True,
            model_kwargs={"dtype": bench.dtype, "attn_implementation": "sdpa"},
            activation_fn=torch.nn.Identity(),
        )
    except Exception as error:  # whatever version is here: the other arms are still measured
        print(f"# no CrossEncoder: {type(error).__name__}: {error}", flush=True)
        return None

    def score(texts: Sequence[str], batch: int) -> list[float]:
        pairs = [(QUERY, text) for text in texts]
        found = encoder.predict(pairs, batch_size=batch, show_progress_bar=False)
        return [float(each) for each in found]

    return score


class Results:
    """Cells by name, kept after each one."""

    def __init__(self, file: Path, machine: str, rate: float, fewest: bool) -> None:
        self.file, self.rate, self.fewest = file, rate, fewest
        self.told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        if self.told.get("machine", machine) != machine:
            raise SystemExit(f"{file} is of {self.told['machine']}, this is {machine}: use another")
        self.told |= {"machine": machine, "torch": torch.__version__, "matmul_tflops": rate / 1e12}
        self.cells: dict[str, Any] = self.told.setdefault("cells", {})

    def measure(self, part: str, arm: str, case: Case, flops: int, score: Score) -> None:
        key = f"{part} {case.model} {arm} {case.documents}x{case.tokens} {case.spread}"
        if key in self.cells:
            return
        try:
            found = self._time(score)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            found = {"out_of_memory": True}
        cell: dict[str, Any] = {"part": part, "arm": arm, **vars(case), **found}
        if "p50_ms" in found:
            seconds = found["p50_ms"] / 1000.0
            cell |= {
                "items_per_second": case.documents / seconds,
                "tokens_per_second": sum(lengths(case)) / seconds,
                "matmul_tflops": self.rate / 1e12,
                "floor_ms": flops / self.rate * 1000.0,
                "utilisation": flops / self.rate / seconds,
            }
        self.cells[key] = cell
        self.keep()
        told = ("p50_ms", "p95_ms", "tokens_per_second", "utilisation", "repeats")
        shown = {name: cell.get(name) for name in told}
        print(f"{key}: {json.dumps(shown)}", flush=True)

    def _time(self, score: Score) -> dict[str, Any]:
        if self._once(score)[0] < 3.0:
            score()  # a graph is captured at the second pass
        once, _ = self._once(score)
        repeats = 1 if self.fewest or once > 3.0 else 50 if once < 0.1 else 5
        for _ in range(0 if repeats == 1 else 10 if once < 0.1 else 1):
            score()
        both = [self._once(score) for _ in range(repeats)]
        times = sorted(wall * 1000.0 for wall, _ in both)
        p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
        found = {"p50_ms": statistics.median(times), "p95_ms": p95, "repeats": repeats}
        on_device = [ms for _, ms in both if ms is not None]
        return found | ({"events_p50_ms": statistics.median(on_device)} if on_device else {})

    def _once(self, score: Score) -> tuple[float, float | None]:
        """Seconds by the clock, and milliseconds by CUDA events where there are any."""
        events = None
        if torch.cuda.is_available():
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
        started = time.perf_counter()
        score()  # ends with floats on the processor: nothing is left under way
        wall = time.perf_counter() - started
        if events is None:
            return wall, None
        events[1].record()
        events[1].synchronize()
        return wall, events[0].elapsed_time(events[1])

    def keep(self) -> None:
        partial = self.file.with_suffix(".part")
        partial.write_text(json.dumps(self.told, indent=1) + "\n", "utf-8")
        partial.replace(self.file)


def random_case(bench: Bench, case: Case) -> tuple[Any, Callable[[], list[Any]], int]:
    """(prefix, documents of random ids, arithmetic that is needed); other ids at each call."""
    rng = np.random.default_rng(case.tokens)
    most = bench.model.config.vocab_size
    prefix = bench.template.prefix(instruction_text(None), QUERY).ids
    sizes = lengths(case)
    drawn = [
        [rng.integers(0, most, each).astype(np.uint32) for each in sizes] for _ in range(ROUNDS)
    ]
    rounds = itertools.cycle(drawn)
    suffix = len(bench.template.suffix)
    shape = bench.ours["eager"].weights.shape
    flops = forward_flops(shape, [(len(prefix), [each + suffix for each in sizes])])
    return prefix, lambda: next(rounds), flops


def run_ours(bench: Bench, results: Results, part: str, case: Case, tricks: bool = False) -> None:
    prefix, documents, flops = random_case(bench, case)

    def arm(name: str, way: str = "graphs", **off: bool) -> None:
        call = lambda: ours(bench, way, prefix, documents(), **off)  # noqa: E731
        results.measure(part, f"ours/{name}", case, flops, call)

    arm("graphs")
    if tricks:
        arm("row attention, no graphs", "row attention")
        arm("kernels, torch's attention", "kernels")
        arm("eager", "eager")
        arm("no shared prefix", no_sharing=True)
        arm("every row in the last layer", every_row=True)


def run_library(
    bench: Bench, results: Results, part: str, case: Case, batches: Sequence[int] | None = None
) -> None:
    prefix, documents, flops = random_case(bench, case)

    def rows() -> list[Any]:
        return [np.concatenate([prefix, each, bench.template.suffix]) for each in documents()]

    for batch in batches or (BATCHES if case.tokens <= 512 else (1, 4)):
        call = lambda batch=batch: library(bench, rows(), batch)  # noqa: E731
        results.measure(part, f"transformers sorted/{batch}", case, flops, call)
    if case.tokens <= 512 and batches is None:
        card = lambda: library(bench, rows(), case.documents, all_logits=True)  # noqa: E731
        results.measure(part, "model card", case, flops, card)
    few = documents()[:8]
    whole = [np.concatenate([prefix, each, bench.template.suffix]) for each in few]
    own = ours(bench, "graphs", prefix, few)
    note_difference(results, f"{case.model} {case.tokens}", library(bench, whole, 4), own)


def note_difference(results: Results, what: str, theirs: list[float], own: list[float]) -> None:
    """How far scores lie apart that should be the same: bfloat16's noise, and no more."""
    worst = float(np.abs(np.array(theirs) - np.array(own)).max())
    results.told.setdefault("largest_difference", {})[what] = worst


def run_texts(bench: Bench, results: Results, part: str, case: Case) -> None:
    texts = bench.texts(case)
    flops = random_case(bench, case)[2]
    results.measure(part, "ours/texts", case, flops, lambda: ours_of_texts(bench, texts))
    if case.tokens <= 512:  # all at once, with the logits of every token
        results.measure(part, "model card/texts", case, flops, lambda: card_of_texts(bench, texts))
    encoder = cross_encoder(bench)
    if encoder is not None:
        own = ours_of_texts(bench, texts[:8])
        what = f"{case.model} texts of {case.tokens}"
        note_difference(results, what, encoder(texts[:8], 4), own)
    for batch in (BATCHES if case.tokens <= 512 else (1, 4)) if encoder is not None else ():
        call = lambda batch=batch: encoder(texts, batch)  # noqa: E731
        results.measure(part, f"CrossEncoder/texts/{batch}", case, flops, call)


PARTS = ("passages", "rivals", "long", "4B", "8B")


def run_part(part: str, results: Results, scratch: Path, device: str, tiny: bool) -> None:
    name = "tiny" if tiny else part if part in SIZES else "0.6B"
    bench = open_bench(name, scratch, device)
    sizes = (4, 16, 24, 32, 64, 128) if tiny else (100, 128, 512, 2048, 8192, 32_768)
    few, short, middle, page, long, longest = sizes
    counts = (2, few) if tiny else (10, 50, 100)
    if part == "passages":
        for tokens in (short, middle) if tiny else (64, 128, 256, 512):
            for documents in counts:
                for spread in ("fixed", "lognormal"):
                    run_ours(bench, results, part, Case(name, documents, tokens, spread))
        return
    if part == "long":
        run_ours(bench, results, part, Case(name, 1, longest))
        run_texts(bench, results, part, Case(name, few, long))
        for tokens in (long, page):
            for documents in reversed(counts):
                run_ours(bench, results, part, Case(name, documents, tokens))
            run_library(bench, results, part, Case(name, few, tokens))
            run_ours(bench, results, part, Case(name, few, tokens, "lognormal"))
        return
    for tokens in (short, middle):
        case = Case(name, few, tokens)
        run_ours(bench, results, part, case, tricks=part == "rivals")
        if part == "rivals":
            run_texts(bench, results, part, case)
            run_library(bench, results, part, case)
    if part != "rivals":  # the scores' difference, and one rival: the sweep is part rivals'
        run_library(bench, results, part, Case(name, few, short), BATCHES[1:2])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--tiny", action="store_true", help="a toy on the CPU: proves the script")
    parser.add_argument("--out", type=Path, default=Path("gpu_rerank.json"))
    scratch = Path(tempfile.gettempdir()) / "longleaf-gpu"
    parser.add_argument("--scratch", type=Path, default=scratch, help="where models are made")
    given = parser.parse_args(arguments)
    device = "cpu" if given.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; --tiny shows that the script works.")
    machine = "tiny model on a CPU" if given.tiny else torch.cuda.get_device_name()
    dtype = torch.float32 if given.tiny else torch.bfloat16
    rate = matmul_flops_per_second(torch.device(device), dtype)
    results = Results(given.out, machine, rate, given.tiny)
    for part in PARTS if given.part == "all" else (given.part,):
        run_part(part, results, given.scratch, device, given.tiny)
        results.keep()
        if device == "cuda":
            torch.cuda.empty_cache()
    print(summary(results.told))
    print(f"largest differences of scores: {results.told.get('largest_difference', {})}")
    given.out.with_suffix(".svg").write_text(plot(results.told), "utf-8")


if __name__ == "__main__":
    main()
