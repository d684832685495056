"""Passages and queries to vectors with all-MiniLM-L6-v2: one forward pass, two kinds of vector.

A pass gives the dense vector (mean over all tokens, as the model was trained) and, from the same
last layer, the token vectors that late interaction reads: projected 384 → 128, unit length, one
byte a dimension. It knows no document, no chunking and no store. Work is in three steps: prepare
(sequence.py, strings to ids), core (`_forward`, tensors only), finish (numbers to vectors).

Trade-off: weights in bfloat16 where the CPU multiplies it (about twice the passages a second, dense
cosine to float32 above 0.999), and a window of passages sorted by length, so that nothing is
yielded before the window is done. Passages and queries go through the same weights: dynamic int8
for queries was as fast but gave cosines of 0.86-0.92 to float32.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from longleaf.core.errors import ConfigError
from longleaf.core.onecore import one_core_threads
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.indexer import models, projection, quantize, sequence
from longleaf.indexer.bert import BertEncoder

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

MAX_TOKENS = 256
WINDOW_PASSAGES = 512
# Small batches stay in the cache: per second of one core 5,570 tokens at 1,600 a batch, 4,510 at
# 12,800 (bfloat16). Widths rounded up to attention's blocks of 32 gained nothing.
BATCH_TOKENS = 2048


@functools.cache
def _one_core() -> ThreadPoolExecutor:
    """Threads for queries, shared by all that are ever opened: a second set would begin while
    others search (core.onecore)."""
    import torch

    return one_core_threads("query", torch.get_num_threads, torch.set_num_threads)


class MiniLMEmbedder:
    """The default `core.protocols.Embedder`: the bundled all-MiniLM-L6-v2 on the CPU.

    `folder` holds the model (default: the bundled package, hash checked). `threads` caps torch's
    threads for the whole process; None leaves them as they are. `dtype` `auto` takes bfloat16
    where the CPU has the instructions. Methods are thread-safe. The fingerprint leaves the dtype
    out: it moves a vector less than its int8 codes do, and a collection must stay readable on
    another machine. `weigh_query_tokens` gives long hidden states more say: a query token's scores
    are then the cosine times its length over the mean length (nDCG@10 of z(dense) + 2 z(MaxSim),
    mean of scifact train, cacm and cranfield: 0.570 against 0.562, 95 % of the paired difference
    in 0.0005-0.016); stored vectors stay the same.
    """

    takes_instruction = False
    languages: frozenset[str] | None = frozenset({"en"})
    without_tokens_because = ""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        dtype: Dtype = "auto",
        threads: int | None = None,
        weigh_query_tokens: bool = True,
        window_passages: int = WINDOW_PASSAGES,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        import torch
        from tokenizers import Tokenizer

        folder = folder or models.bundled_minilm()
        if threads is not None:
            torch.set_num_threads(threads)
        self.dtype, self.dtype_reason = choose_dtype(dtype)
        self._model = BertEncoder(folder, getattr(torch, self.dtype))
        self._one_core = _one_core()
        self._weigh_query_tokens = weigh_query_tokens
        self._window_passages = window_passages
        self._batch_tokens = batch_tokens
        self.name = "all-MiniLM-L6-v2"
        self.dim = self._model.dim
        self.max_tokens = MAX_TOKENS
        self.tokenizer_file = folder / "tokenizer.json"
        self.tokenizer_id = models.file_sha256(self.tokenizer_file)[:16]
        self.tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        # A document that spells "[SEP]" means the letters, never the model's own token.
        self.tokenizer.encode_special_tokens = True
        self._builder = sequence.SequenceBuilder(self.tokenizer, self.max_tokens)
        self._projection = projection.load_projection(projection.MINILM_PROJECTION, self.dim)
        self._matrix = torch.from_numpy(self._projection.matrix)
        self.token_dim = self._projection.token_dim
        self.fingerprint = fingerprint(
            "minilm",
            weights=models.file_sha256(folder / "model.safetensors"),
            tokenizer=self.tokenizer_id,
            pooling="mean",
            normalised=True,
            projection=self._projection.sha256,
            quantization="int8",
            max_tokens=self.max_tokens,
            prefix=sequence.PREFIX_RULE,
        )

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        """One `PassageVectors` for each input, in input order, a window at a time."""
        remaining = iter(inputs)
        while window := list(itertools.islice(remaining, self._window_passages)):
            yield from self._embed_window(window)

    def token_places(self, inputs: Sequence[EmbedInput]) -> list[list[tuple[int, int]]]:
        """See core.protocols.TokenPlaces."""
        return self._builder.places(inputs)

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        """The query's vectors; `instruction` changes nothing (the model was trained without).

        [CLS] and [SEP] take part in late interaction: without them MaxSim alone lost 0.0065
        nDCG@10.
        """
        ids, truncated_tokens = self._builder.query(text)
        dense, projected = self._one_core.submit(self._forward_query, ids).result()
        if self._weigh_query_tokens:
            tokens = projected / np.linalg.norm(projected, axis=1).mean()
        else:
            tokens = projection.unit_rows(projected)
        return QueryVectors(
            dense, quantize.scale_query(tokens, self._projection.scale), truncated_tokens
        )

    def _forward_query(self, ids: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Dense (dim,) of unit length and projected token vectors (len(ids), token_dim)."""
        import torch

        with torch.inference_mode():
            hidden = self._model.hidden(torch.tensor([ids]))[0].float()
            dense = torch.nn.functional.normalize(hidden.sum(dim=0), dim=0)
            return dense.numpy(), (hidden @ self._matrix).numpy()

    def _embed_window(self, window: Sequence[EmbedInput]) -> list[PassageVectors]:
        sequences = self._builder.passages(window)
        lengths = [len(item.ids) for item in sequences]
        vectors: dict[int, PassageVectors] = {}
        for batch in sequence.plan_batches(lengths, self._batch_tokens):
            members = [sequences[n] for n in batch]
            dense, projected = self._forward(
                [item.ids for item in members], [item.kept for item in members]
            )
            codes = quantize.quantize(projection.unit_rows(projected), self._projection.scale)
            end = 0
            for row, (n, item) in enumerate(zip(batch, members, strict=True)):
                start, end = end, end + len(item.kept)
                vectors[n] = PassageVectors(
                    dense=dense[row],
                    token_codes=codes[start:end],
                    prefix_tokens=item.prefix_tokens,
                    truncated_tokens=item.truncated_tokens,
                )
        return [vectors[n] for n in range(len(window))]

    def _forward(
        self, batch: Sequence[Sequence[int]], kept: Sequence[NDArray[np.int64]]
    ) -> tuple[FloatArray, FloatArray]:
        """Dense (len(batch), dim) of unit length, and the `kept` positions' projected token
        vectors (sum of len(kept), token_dim) as long as they come; both float32."""
        import torch

        width = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), width), np.int64)
        mask = np.zeros((len(batch), width), np.int64)
        for row, row_ids in enumerate(batch):
            ids[row, : len(row_ids)] = row_ids
            mask[row, : len(row_ids)] = 1
        flat = np.concatenate([row * width + positions for row, positions in enumerate(kept)])
        with torch.inference_mode():
            attention = torch.from_numpy(mask)
            hidden = self._model.hidden(
                torch.from_numpy(ids), None if mask.all() else attention
            )  # (batch, width, dim)
            # The mean without its division: the vector is normalised anyway.
            total = torch.bmm(attention[:, None, :].float(), hidden.float())[:, 0]
            dense = torch.nn.functional.normalize(total, dim=1)
            rows = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(flat)]
            return dense.numpy(), (rows.float() @ self._matrix).numpy()


def choose_dtype(wanted: str, device: str = "cpu") -> tuple[str, str]:
    """(`float32`, `bfloat16` or `float16`, why); raises `ConfigError` for any other dtype."""
    import torch

    if wanted in ("float32", "bfloat16", "float16"):
        return wanted, "set by embedder.dtype"
    if wanted != "auto":
        raise ConfigError(
            f"embedder.dtype = {wanted!r} is not a dtype.",
            "Write auto, float32, bfloat16 or float16.",
        )
    if not device.startswith("cpu"):
        return "bfloat16", f"the model runs on {device}"
    # torch answers only through private names; without them float32 is right everywhere.
    for name, instructions in (
        ("_is_amx_tile_supported", "AMX"),
        ("_is_avx512_bf16_supported", "AVX512-BF16"),
    ):
        probe = getattr(torch.cpu, name, None)
        if probe is not None and probe():
            return "bfloat16", f"this CPU has {instructions}"
    return "float32", "this CPU has no bfloat16 instructions"


def fingerprint(family: str, **parts: object) -> str:
    """A short name that changes with any of `parts`."""
    text = json.dumps(parts, sort_keys=True)
    return f"{family}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
