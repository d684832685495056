"""Fit the token projection that ships in indexer/data, or one for another model.

    python benchmarks/fit_projection.py --data ../shared/data/documents --out FILE [--model NAME]

Principal components of last-layer token vectors, without centring, over a seeded sample of openly
licensed text that no evaluation uses: statutes of the District of Columbia and NIST SP 800-63-3
(public domain), eLife preprints (CC0, CC BY). The same seed, text and weights give the same
numbers up to float rounding. It is run once per model and never on a user's corpus.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from longleaf.indexer import models, quantize

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

SOURCES = {"dc_laws": 700, "dc_code_sections": 700, "nist_800_63_3": 400, "elife_preprints": 400}
WORDS_PER_PASSAGE = 140
MAX_CHARS_PER_DOCUMENT = 60_000


def sample(folder: Path, seed: int) -> list[str]:
    """Passages of `WORDS_PER_PASSAGE` words, titles in front, `SOURCES[name]` of each source."""
    chosen: list[str] = []
    for name, count in SOURCES.items():
        rng = random.Random(f"{seed}:{name}")
        lines = (folder / name / "corpus.jsonl").read_text("utf-8").splitlines()
        rng.shuffle(lines)
        passages = [text for line in lines[:3000] for text in _passages(json.loads(line))]
        chosen += rng.sample(passages, min(count, len(passages)))
    return chosen


def _passages(document: dict[str, str]) -> Iterator[str]:
    words = document["text"][:MAX_CHARS_PER_DOCUMENT].split()
    title = f"{document['title']}. " if document["title"] else ""
    for start in range(0, len(words), WORDS_PER_PASSAGE):
        yield title + " ".join(words[start : start + WORDS_PER_PASSAGE])


def principal_axes(hidden: FloatArray, token_dim: int) -> FloatArray:
    """(hidden_dim, token_dim) float32: the top eigenvectors of the uncentred second moment."""
    moment = hidden.astype(np.float64).T @ hidden.astype(np.float64) / len(hidden)
    _, vectors = np.linalg.eigh(moment)
    axes = vectors[:, ::-1][:, :token_dim]
    # An eigenvector's sign is arbitrary; a fixed one makes two runs comparable.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray((axes * signs).astype(np.float32))


def token_vectors(folder: models.ModelFolder, passages: list[str]) -> FloatArray:
    """(n_tokens, hidden_dim) float32 of all passages, [CLS] and [SEP] left out."""
    from sentence_transformers import SentenceTransformer

    with models.quiet_loading():
        model = SentenceTransformer(
            str(folder.path), local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    encoded = model.encode_document(passages, output_value="token_embeddings", batch_size=16)
    return np.concatenate([tokens[1:-1].float().cpu().numpy() for tokens in encoded])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four sources")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--model", default=models.BUNDLED)
    parser.add_argument("--dim", type=int, default=128, help="token dimensions")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    folder = models.resolve_model(arguments.model)
    passages = sample(arguments.data, arguments.seed)
    hidden = token_vectors(folder, passages)
    matrix = principal_axes(hidden, arguments.dim)
    projected = hidden @ matrix
    kept = float((projected**2).sum() / (hidden**2).sum())
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    save_file(
        {"matrix": matrix, "scale": quantize.fit_scale(projected)},
        arguments.out,
        metadata={
            "model": arguments.model,
            "weights_sha256": folder.sha256,
            "method": "uncentred principal components of last-layer token vectors, unit length; "
            "scale = largest absolute value / 127",
            "text": json.dumps(SOURCES),
            "licences": "dc_laws, dc_code_sections, nist_800_63_3: public domain (US); "
            "elife_preprints: CC0 and CC BY",
            "seed": str(arguments.seed),
            "tokens": str(len(hidden)),
            "energy_kept": f"{kept:.4f}",
        },
    )
    print(f"{len(passages)} passages, {len(hidden)} tokens, {kept:.1%} of the energy kept")


if __name__ == "__main__":
    main()
