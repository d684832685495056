"""Token vectors by a late-interaction checkpoint (ColBERT), dense vectors by another embedder.

Such a checkpoint gives a vector for each token and none for a text, and the first stage needs one
for a text; so two models read a passage, and a generation's fingerprint covers both. The mean of a
ColBERT's token vectors would save a pass and was not trained to find anything. This module joins
the two; what a checkpoint reads stands in `colbert/`. Codes have the scale 1/127, which clips no
unit vector and needs no fitting: on real vectors of 128 dimensions a cosine is off by 0.0023, a
score by 0.0006 (standard deviations; `benchmarks/late_model.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.errors import ModelUnavailable
from longleaf.core.protocols import DistantEmbedder, Embedder
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.indexer import models, quantize, sequence
from longleaf.indexer.colbert.checkpoint import CHOOSE, SETTING, Checkpoint, read_checkpoint
from longleaf.indexer.colbert.encoder import TokenEncoder
from longleaf.indexer.colbert.layout import Layout
from longleaf.indexer.embed import choose_dtype, fingerprint
from longleaf.indexer.projection import identity

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from longleaf.core.types import FloatArray

WINDOW_PASSAGES = 256
_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
_PYLATE_DENSE = ("pylate.models.Dense.Dense",)
"""Read as data: its weights are a matrix, and PyLate's code is not needed for it."""


class LateTokens:
    """A `core.protocols.Embedder` of token vectors alone: `dim` is 0, dense vectors are empty.

    `model` is a local folder or a hub id. `document_tokens`: see `EmbedderSettings`. Methods are
    thread-safe. No text is cut (`truncated_tokens` 0); of a query what goes beyond the model's
    positions or 512 tokens. `query_tokens`: what shorter queries are filled up to, None where they
    are not. An instruction changes nothing. The fingerprint leaves the dtype out,
    as the bundled model's does.
    """

    takes_instruction = False
    languages: frozenset[str] | None = None
    dim = 0

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        document_tokens: int = 0,
    ) -> None:
        import torch

        folder, checkpoint = _resolve(model)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype, self.dtype_reason = choose_dtype(dtype, device)
        self.name = folder.path.name if Path(model).expanduser().is_dir() else model
        self._encoder = TokenEncoder(checkpoint, device=device, dtype=self.dtype)
        self._batch_tokens = _BATCH_TOKENS["cuda" if device.startswith("cuda") else "cpu"]
        tokenizer, mask_id = _tokenizer(checkpoint.transformer)
        self._layout = Layout(
            tokenizer,
            checkpoint,
            positions=self._encoder.positions,
            mask_id=mask_id,
            document_tokens=document_tokens,
        )
        self.token_dim = self._encoder.token_dim
        self._scale = identity(self.token_dim).scale
        self.document_tokens = self._layout.document_tokens
        self.query_tokens = self._layout.query_tokens if self._layout.fills_queries else None
        self.fingerprint = fingerprint(
            "colbert",
            folder=folder.sha256,
            checkpoint=checkpoint.told(),
            document_tokens=self.document_tokens,
            quantization="int8/127",
            layout="windows-v1",
            prefix=sequence.PREFIX_MAX_TOKENS,
        )

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        """One `PassageVectors` for each input, in input order, a window of inputs at a time."""
        remaining = iter(inputs)
        while some := list(itertools.islice(remaining, WINDOW_PASSAGES)):
            yield from self._embed(some)

    def _embed(self, inputs: Sequence[EmbedInput]) -> Iterator[PassageVectors]:
        laid_out = self._layout.passages(inputs)
        windows = [window for laid in laid_out for window in laid.windows]
        codes: dict[int, NDArray[np.int8]] = {}
        lengths = [len(window.ids) for window in windows]
        for batch in sequence.plan_batches(lengths, self._batch_tokens):
            members = [windows[n] for n in batch]
            made = self._encoder.vectors(
                [each.ids for each in members], [each.kept for each in members]
            )
            whole = quantize.quantize(_finite(made, self.name), self._scale)
            ends = np.cumsum([len(each.kept) for each in members])
            codes |= dict(zip(batch, np.split(whole, ends[:-1]), strict=True))
        first = 0
        nothing = np.zeros((0, self.token_dim), np.int8)
        for laid in laid_out:
            own = [codes[n] for n in range(first, first + len(laid.windows))]
            first += len(own)
            yield PassageVectors(
                np.zeros(0, np.float32), np.concatenate([nothing, *own]), laid.prefix_tokens
            )

    def token_places(self, inputs: Sequence[EmbedInput]) -> list[list[tuple[int, int]]]:
        """See core.protocols.TokenPlaces."""
        return [list(laid.places) for laid in self._layout.passages(inputs)]

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        """The query's token vectors, those of the tokens that fill it up too."""
        laid = self._layout.query(text)
        tokens = self._encoder.vectors([laid.ids], [laid.kept], [laid.attended])
        return QueryVectors(
            np.zeros(0, np.float32),
            quantize.scale_query(_finite(tokens, self.name), self._scale),
            laid.truncated_tokens,
        )


class PairedEmbedder:
    """A `core.protocols.Embedder`: dense vectors of `dense`, token vectors of `of_tokens`.

    Passages are counted in `dense`'s tokens; `truncated_tokens` of a passage are those that it cut,
    of a query the more of both. An instruction is for `dense`.
    """

    without_tokens_because = ""

    def __init__(self, dense: Embedder, of_tokens: LateTokens) -> None:
        self.dense = dense
        self.of_tokens = of_tokens
        self.name = f"{dense.name} + {of_tokens.name}"
        self.dim, self.token_dim = dense.dim, of_tokens.token_dim
        self.languages = dense.languages
        self.takes_instruction = dense.takes_instruction
        self.fingerprint = f"{dense.fingerprint}+{of_tokens.fingerprint}"

    @property
    def tokenizer(self) -> Tokenizer:
        """What the chunker counts in."""
        tokenizer: Tokenizer = self._of_dense("tokenizer")
        return tokenizer

    @property
    def tokenizer_id(self) -> str:
        return str(self._of_dense("tokenizer_id"))

    @property
    def probe(self) -> FloatArray | None:
        """What a dense embedder elsewhere gave for its fixed sentence."""
        probe: FloatArray | None = self._of_dense("probe")
        return probe

    def _of_dense(self, name: str) -> Any:
        return getattr(self.dense, name, None)

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        """One `PassageVectors` for each input, in input order, a window of inputs at a time."""
        remaining = iter(inputs)
        while some := list(itertools.islice(remaining, WINDOW_PASSAGES)):
            pairs = zip(
                self.dense.embed_passages(some), self.of_tokens.embed_passages(some), strict=True
            )
            for of_text, tokens in pairs:
                yield replace(
                    of_text, token_codes=tokens.token_codes, prefix_tokens=tokens.prefix_tokens
                )

    def token_places(self, inputs: Sequence[EmbedInput]) -> list[list[tuple[int, int]]]:
        """See core.protocols.TokenPlaces."""
        return self.of_tokens.token_places(inputs)

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        """Both models' vectors of the query."""
        of_text = self.dense.embed_query(text, instruction)
        tokens = self.of_tokens.embed_query(text)
        truncated = max(of_text.truncated_tokens, tokens.truncated_tokens)
        return QueryVectors(of_text.dense, tokens.tokens, truncated)


class DistantPairedEmbedder(PairedEmbedder):
    """A `PairedEmbedder` whose dense vectors another machine computes: mostly waiting."""

    waits_elsewhere = True


def pair(dense: Embedder, of_tokens: LateTokens) -> PairedEmbedder:
    """Both as one embedder."""
    distant = isinstance(dense, DistantEmbedder)
    return (DistantPairedEmbedder if distant else PairedEmbedder)(dense, of_tokens)


def stated_late_files(model: str) -> str | None:
    """As `models.stated_files`: names what token vectors depend on in a folder's files."""
    if not Path(model).expanduser().is_dir():
        return None
    folder, checkpoint = _resolve(model)
    return fingerprint("files", folder=folder.sha256, checkpoint=checkpoint.told())


def _resolve(model: str) -> tuple[models.ModelFolder, Checkpoint]:
    folder = models.resolve_model(model, setting=SETTING, read_as_data=_PYLATE_DENSE)
    return folder, read_checkpoint(folder.path)


def _tokenizer(folder: Path) -> tuple[Tokenizer, int | None]:
    """A copy of the model's own, and its mask token's id."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    try:
        with models.quiet_loading():
            loaded: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelUnavailable(
            f"The tokenizer in {folder} cannot be loaded: {error}", CHOOSE
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelUnavailable(
            f"The model in {folder} has no fast tokenizer, which gives characters for tokens.",
            f"Choose a model with a tokenizer.json. {CHOOSE}",
        )
    return Tokenizer.from_str(backend.to_str()), loaded.mask_token_id


def _finite(vectors: FloatArray, name: str) -> FloatArray:
    if not np.isfinite(vectors).all():
        raise ModelUnavailable(
            f"The model {name} gives vectors that are not numbers.",
            "Its weights are damaged, or embedder.dtype does not work on this machine.",
        )
    return vectors
