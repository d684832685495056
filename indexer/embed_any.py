"""Passages and queries to vectors with any sentence-transformers model, from a folder or the hub.

The model's own prompts, pooling and modules make the dense vector; token vectors come from the
same pass where the model gives them and they are small enough to store. It promises less speed
than embed.py, and knows no model by name. Which characters a token covers is found by tokenizing
once more with offsets (a few per cent of a pass); a model whose own preprocessing disagrees with
that gets no token vectors, and `without_tokens_because` says so. What a text spells never becomes
one of the model's control tokens; those of its own prompts stay. Calls take turns, because the
tokenizer inside may not be shared: a query waits for at most one batch of passages.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.control_tokens import ControlTokens
from longleaf.core.errors import ConfigError, ModelUnavailable
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.indexer import models, quantize, sequence
from longleaf.indexer.embed import choose_dtype, fingerprint
from longleaf.indexer.projection import Projection, identity, load_projection, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from longleaf.core.types import FloatArray

LARGEST_TOKEN_DIM = 128
WINDOW_PASSAGES = 256
BATCH_TOKENS = 8192
_PROBES = ("Straße İSTANBUL, naïve ﬁ", "§ 12(b)(iii) of the Act; see 5 U.S.C.")


class SentenceTransformerEmbedder:
    """A `core.protocols.Embedder` around a SentenceTransformer.

    `model` is a local folder or a hub id. `token_dim` is the hidden size where that is at most
    128; with `projection_file` (made by benchmarks/fit_projection.py) the file's; otherwise 0, and
    `without_tokens_because` says why. An instruction takes the place of the query prompt's text
    (of the task sentence only, in prompts of the form "Instruct: …\\nQuery:") where the model has
    a query prompt; elsewhere it changes nothing (`takes_instruction`). `dimensions` keeps the first
    so many of a dense vector (Matryoshka Representation Learning, arXiv 2205.13147).
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        projection_file: Path | None = None,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        if threads is not None:
            torch.set_num_threads(threads)
        folder = models.resolve_model(model)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype, self.dtype_reason = choose_dtype(dtype, device)
        try:
            with models.quiet_loading():
                self._model: Any = SentenceTransformer(
                    str(folder.path),
                    device=device,
                    trust_remote_code=False,
                    truncate_dim=dimensions,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True, "dtype": self.dtype},
                )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelUnavailable(
                f"The model {model} cannot be loaded: {error}",
                "Set embedder.model to another local folder or hub id, or to 'bundled'.",
            ) from error
        self.name = folder.path.name if Path(model).expanduser().is_dir() else model
        if max_tokens is not None:
            self._model.max_seq_length = max_tokens
        self.max_tokens = int(self._model.max_seq_length or 512)
        self.tokenizer, self.tokenizer_id = _fast_tokenizer(self._model, model)
        self._control_tokens = ControlTokens(self.tokenizer)
        self._cut_tokenizer = type(self.tokenizer).from_str(self.tokenizer.to_str())
        self._cut_tokenizer.enable_truncation(
            self.max_tokens, direction=self._model.tokenizer.truncation_side
        )
        tokenizer_file = folder.path / "tokenizer.json"
        self.tokenizer_file = tokenizer_file if tokenizer_file.is_file() else None
        prompts = {name: text for name, text in self._model.prompts.items() if text}
        self._document_prompt = _prompt(self._model, prompts, ("document", "passage", "corpus"))
        self._query_prompt = _prompt(self._model, prompts, ("query",))
        self.takes_instruction = bool(self._query_prompt)
        self.languages: frozenset[str] | None = None
        self._one_at_a_time = threading.Lock()
        probe = self._encode(_PROBES, self._document_prompt)
        self.dim = int(probe[0]["sentence_embedding"].shape[-1])
        if dimensions is not None and self.dim != dimensions:
            raise ConfigError(
                f"The model {self.name} gives vectors of {self.dim} dimensions, fewer than "
                f"embedder.dimensions ({dimensions}).",
                f"Set it to {self.dim} or less, or to 0.",
            )
        self._projection, self.without_tokens_because = self._choose_projection(
            probe, projection_file
        )
        self.token_dim = self._projection.token_dim if self._projection else 0
        self.fingerprint = fingerprint(
            "st",
            folder=folder.sha256,
            prompts=[self._document_prompt, self._query_prompt],
            pooling="model",
            normalised=True,
            projection=self._projection.sha256 if self._projection else None,
            quantization="int8",
            max_tokens=self.max_tokens,
            prefix=sequence.PREFIX_RULE,
            **({} if dimensions is None else {"dimensions": dimensions}),
        )

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        """One `PassageVectors` for each input, in input order, a window at a time."""
        remaining = iter(inputs)
        while window := list(itertools.islice(remaining, WINDOW_PASSAGES)):
            laid_out = [self._lay_out(item) for item in window]
            vectors: dict[int, PassageVectors] = {}
            for batch in sequence.plan_batches([len(i.ids) for i in laid_out], BATCH_TOKENS):
                outputs = self._encode([laid_out[n].text for n in batch], self._document_prompt)
                for n, output in zip(batch, outputs, strict=True):
                    vectors[n] = self._passage(laid_out[n], output)
            yield from (vectors[n] for n in range(len(window)))

    def token_places(self, inputs: Sequence[EmbedInput]) -> list[list[tuple[int, int]]]:
        """See core.protocols.TokenPlaces."""
        if self._projection is None:
            return [[] for _ in inputs]
        return [self._lay_out(item).places for item in inputs]

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        """The query's vectors; the prompt's and the special tokens give none."""
        prompt = self._query_prompt
        if instruction and prompt:
            instruction = self._control_tokens.as_letters(sequence.encodable(instruction))
            prompt = sequence.with_instruction(prompt, instruction)
        text = self._control_tokens.as_letters(sequence.encodable(text).strip())
        (output,) = self._encode([text], prompt, query=True)
        dense = _dense(output)
        whole = len(self.tokenizer.encode(prompt + text).ids)
        truncated_tokens = max(0, whole - self.max_tokens)
        if self._projection is None:
            return QueryVectors(dense, np.zeros((0, 0), np.float32), truncated_tokens)
        encoding = self._cut_tokenizer.encode(prompt + text)
        kept = sequence.covering(encoding, len(prompt), len(prompt) + len(text))
        tokens = self._projection.apply(_token_rows(output, encoding.ids)[kept])
        codes = quantize.scale_query(tokens, self._projection.scale)
        return QueryVectors(dense, codes, truncated_tokens)

    def _lay_out(self, item: EmbedInput) -> _Laid:
        text = sequence.encodable(item.text)
        stripped = self._control_tokens.as_letters(text.strip())
        before = len(text) - len(text.lstrip())
        overlap_chars = max(0, item.overlap_chars - before)
        prompt_chars = len(self._document_prompt)
        alone = len(self.tokenizer.encode(self._document_prompt + stripped).ids)
        # Two tokens of slack: the seam between prefix and text may tokenize longer than its parts.
        room = min(sequence.PREFIX_MAX_TOKENS, self.max_tokens - alone - 2)
        joined = sequence.joined_prefix(sequence.encodable(item.prefix))
        prefix = sequence.shortened(self.tokenizer, self._control_tokens.as_letters(joined), room)
        whole = self._document_prompt + prefix + stripped
        total_tokens = len(self.tokenizer.encode(whole).ids)
        encoding = self._cut_tokenizer.encode(whole)
        text_start = prompt_chars + len(prefix)
        kept_prefix = (
            sequence.covering(encoding, prompt_chars, text_start) if item.keep_prefix else []
        )
        kept = sequence.covering(encoding, text_start + overlap_chars, len(whole))
        return _Laid(
            places=[
                (max(start - text_start, 0) + before, end - text_start + before)
                for start, end in (encoding.offsets[n] for n in kept)
            ],
            text=prefix + stripped,
            ids=encoding.ids,
            kept=np.array([*kept_prefix, *kept], np.int64),
            prefix_tokens=len(kept_prefix),
            truncated_tokens=total_tokens - len(encoding.ids),
        )

    def _passage(self, laid: _Laid, output: Mapping[str, Any]) -> PassageVectors:
        dense = _dense(output)
        if self._projection is None:
            return PassageVectors(
                dense, np.zeros((0, 0), np.int8), truncated_tokens=laid.truncated_tokens
            )
        tokens = self._projection.apply(_token_rows(output, laid.ids)[laid.kept])
        codes = quantize.quantize(tokens, self._projection.scale)
        return PassageVectors(dense, codes, laid.prefix_tokens, laid.truncated_tokens)

    def _encode(
        self, texts: Sequence[str], prompt: str, query: bool = False
    ) -> list[Mapping[str, Any]]:
        encode = self._model.encode_query if query else self._model.encode_document
        with self._one_at_a_time:
            outputs: list[Mapping[str, Any]] = encode(
                list(texts),
                prompt=prompt,
                batch_size=len(texts),
                output_value=None,
                show_progress_bar=False,
            )
        return outputs

    def _choose_projection(
        self, probe: Sequence[Mapping[str, Any]], file: Path | None
    ) -> tuple[Projection | None, str]:
        for text, output in zip(_PROBES, probe, strict=True):
            if not {"token_embeddings", "input_ids", "attention_mask"} <= output.keys():
                return None, f"{self.name} gives no token vectors"
            read = output["input_ids"][output["attention_mask"].bool()].tolist()
            if read != self._cut_tokenizer.encode(self._document_prompt + text).ids:
                return None, f"{self.name} reads other tokens than its tokenizer's offsets tell"
        hidden_dim = int(probe[0]["token_embeddings"].shape[-1])
        if file is not None:
            return load_projection(file, hidden_dim), ""
        if hidden_dim <= LARGEST_TOKEN_DIM:
            return identity(hidden_dim), ""
        return None, (
            f"{self.name} gives token vectors of {hidden_dim} dimensions, over "
            f"{LARGEST_TOKEN_DIM}; set embedder.projection to a file that "
            "benchmarks/fit_projection.py makes for it"
        )


@dataclass(frozen=True, slots=True)
class _Laid:
    """A passage ready to encode; as `sequence.TokenSequence`, with the text the model is given and
    where the text's kept tokens stand in the input's text."""

    text: str
    places: list[tuple[int, int]]
    ids: list[int]
    kept: NDArray[np.int64]
    prefix_tokens: int
    truncated_tokens: int


def _fast_tokenizer(model: Any, name: str) -> tuple[Tokenizer, str]:
    """A copy of the model's tokenizer without truncation and padding, and a hash of it."""
    from tokenizers import Tokenizer

    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelUnavailable(
            f"The model {name} has no fast tokenizer, which gives characters for tokens.",
            "Choose a model with a tokenizer.json.",
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]


def _prompt(model: Any, prompts: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of `names` that the model has, else its default prompt, else none."""
    for name in (*names, model.default_prompt_name):
        if name in model.prompts:
            return prompts.get(name, "")
    return ""


def _token_rows(output: Mapping[str, Any], ids: Sequence[int]) -> FloatArray:
    """(len(ids), hidden_dim) float32: the last layer without padding, left or right."""
    rows: FloatArray = (
        output["token_embeddings"][output["attention_mask"].bool()].float().cpu().numpy()
    )
    assert len(rows) == len(ids), (len(rows), len(ids))
    return rows


def _dense(output: Mapping[str, Any]) -> FloatArray:
    vector: FloatArray = unit_rows(output["sentence_embedding"].float().cpu().numpy()[None])[0]
    return vector
