"""`cross-encoder`: a sentence-transformers CrossEncoder reads each candidate's passages.

It knows neither where the model comes from (models.py) nor what the first stage thought. Every
passage is read with the title in front, as BEIR's models were trained; headings are left out, since
a long path would push the passage out of a 512-token model. A document is as good as its best
passage.

Trade-off: on a CPU one pair at a time. For a 6-layer, 384-wide model and 200-token passages a pair
costs 60 ms of one core alone and 59-75 ms in batches of 4-32, so batches buy nothing there, while
padding changes the last bits of a score with its neighbours; alone, equal inputs get equal scores
to the bit and a deadline is asked after each pair. On a GPU batches pay, and scores agree within
the noise of padding (1e-7 to 1e-5 of a logit in float32). A batch that does not fit into memory is
read in halves, and what does not fit alone stays unread, visibly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from longleaf.core.budget import Budget
from longleaf.core.control_tokens import ControlTokens
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import DocumentLimits, PassageText, Reading, ReadingInput
from longleaf.reranker.evidence import own_tokens
from longleaf.reranker.models import control_tokens_of, load_cross_encoder, model_fingerprint

_log = structlog.get_logger(__name__)

_WINDOW_CANDIDATES = 16
"""Pairs are sorted by length inside this many candidates, so a deadline still cuts off the last."""
_GPU_BATCH_PAIRS = 32
_WHOLE = {"truncation": True, "max_length": 1 << 30}
"""Counts tokens uncut, and without the warning that tokenizers give for `truncation=False`."""


@dataclass(slots=True)
class _Pair:
    """One passage of one candidate on its way through the model."""

    position: int
    passage: PassageText
    own_tokens: int
    text: str
    pair_tokens: int


@dataclass(slots=True)
class _Progress:
    """What is known of one candidate so far."""

    waiting: int
    scores: dict[int, float] = field(default_factory=dict)
    tokens_read: int = 0
    truncated_tokens: int = 0


class CrossEncoderReranker:
    """Scores are float32 logits (no sigmoid, which makes good candidates equal).

    `tokens_read` counts passage tokens as the embedder does. What the model's length cuts off is
    counted by the model's own tokenizer and subtracted in full: the title stands in front, so the
    cut falls on the passage's end (a query longer than the passage takes part of it instead). A
    candidate is read wholly or stays unread. Thread-safe: the model reads for one caller at a
    time. Raises ModelUnavailable at the first `read`.
    """

    name = "cross-encoder"
    # CrossEncoders have no place for an instruction; generative rerankers are another class.
    takes_instruction = False
    reads_text = True
    scores_are_logits = True
    # Its models take a passage, not a document: whole means every passage, and the best counts.
    document_limits = DocumentLimits(documents=None, tokens=None, beside=False)
    document_weight = 1.0
    min_score: float | None = None
    default_instruction: str | None = None

    def __init__(
        self,
        model: str,
        *,
        first_stage_weight: float = 0.0,
        read_title: bool = True,
        batch_pairs: int | None = None,
        bf16: bool = False,
        device: str | None = None,
    ) -> None:
        """`model`: a local folder or a hub id. `device`: None takes the GPU when there is one.

        `batch_pairs`: None takes 1 on a CPU and 32 on a GPU. `bf16` halves the time on CPUs that
        have it (60 -> 34 ms a pair) at about 1e-3 of score noise. `first_stage_weight`: measured;
        docs/LOG.md has the numbers.
        """
        self.first_stage_weight = first_stage_weight
        dtype = "bf16" if bf16 else "float32"
        self.fingerprint = (
            f"cross-encoder/2 {model_fingerprint(model)} {dtype} title={int(read_title)}"
        )
        self._model = model
        self._read_title = read_title
        self._batch_pairs = batch_pairs
        self._bf16 = bf16
        self._device = device
        self._encoder: Any = None
        self._control_tokens: ControlTokens | None = None
        # Also guards the tokenizer, which cannot be used by two threads with different settings.
        self._lock = threading.Lock()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker. The budget is asked before each batch."""
        for start in range(0, len(inputs), _WINDOW_CANDIDATES):
            if budget.spent() is not None:
                return
            window = inputs[start : start + _WINDOW_CANDIDATES]
            query_text, pairs = self._prepare(query.text, window)
            progress = [_Progress(waiting=len(item.passages)) for item in window]
            for batch in self._batches(pairs):
                if (scores := self._score(query_text, batch, budget)) is None:
                    return
                for pair, score in zip(batch, scores, strict=True):
                    if score is None:
                        budget.stop("a passage does not fit into memory beside the model")
                        continue  # and its candidate stays unread
                    self._note(progress[pair.position], pair, score, budget)
                    if progress[pair.position].waiting == 0:
                        yield _reading(window[pair.position], progress[pair.position])

    def _prepare(self, query_text: str, window: Sequence[ReadingInput]) -> tuple[str, list[_Pair]]:
        """The query and the window's pairs, with lengths in the model's tokens, nothing cut off.

        Neither holds anything that the tokenizer takes for a token of its own.
        """
        pairs = []
        for position, item in enumerate(window):
            for passage, own in zip(item.passages, own_tokens(item.passages), strict=True):
                titled = self._read_title and item.title
                text = f"{item.title}\n{passage.text}" if titled else passage.text
                pairs.append(_Pair(position, passage, own, text, pair_tokens=0))
        with self._lock:
            encoder, control_tokens = self._loaded()
            query_text = control_tokens.as_letters(query_text)
            for pair in pairs:
                pair.text = control_tokens.as_letters(pair.text)
                features = encoder.preprocess(
                    [(query_text, pair.text)], processing_kwargs={"text": _WHOLE}
                )
                pair.pair_tokens = int(features["input_ids"].shape[-1])
        return query_text, pairs

    def _batches(self, pairs: list[_Pair]) -> Iterator[list[_Pair]]:
        batch_pairs = self._batch_pairs
        if batch_pairs is None:
            batch_pairs = 1 if self._encoder.device.type == "cpu" else _GPU_BATCH_PAIRS
        if batch_pairs > 1:  # alone, a pair is never padded: keep the first stage's order
            pairs = sorted(pairs, key=lambda pair: pair.pair_tokens)
        for start in range(0, len(pairs), batch_pairs):
            yield pairs[start : start + batch_pairs]

    def _score(
        self, query_text: str, batch: list[_Pair], budget: Budget
    ) -> list[float | None] | None:
        """Logits of a batch, or None when the budget is gone by the time it is our turn."""
        with self._lock:
            if budget.begin_unit() is not None:
                return None
            return self._logits(query_text, batch)

    def _logits(
        self, query_text: str, batch: list[_Pair], *, is_again: bool = False
    ) -> list[float | None]:
        """Logits of a batch; of one that does not fit into memory, of its halves.

        None for a pair that does not fit alone, tried twice: what others held may be free by then.
        """
        import torch

        with suppress(torch.OutOfMemoryError, MemoryError):
            logits = self._encoder.predict(
                [(query_text, pair.text) for pair in batch],
                batch_size=len(batch),
                show_progress_bar=False,
            )
            return [float(logit) for logit in logits]
        # Out here nothing holds the failed pass's tensors any more.
        _log.warning("cross-encoder.out_of_memory", pairs=len(batch))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return [None] if is_again else self._logits(query_text, batch, is_again=True)
        half = len(batch) // 2
        # From now on: what did not fit once will not the next time.
        self._batch_pairs = min(half, self._batch_pairs or half)
        return self._logits(query_text, batch[:half]) + self._logits(query_text, batch[half:])

    def _note(self, progress: _Progress, pair: _Pair, score: float, budget: Budget) -> None:
        longest = self._encoder.max_seq_length
        cut = 0 if longest is None else max(0, pair.pair_tokens - longest)
        truncated = min(cut, pair.own_tokens)
        progress.waiting -= 1
        progress.scores[pair.passage.point_id] = score
        progress.truncated_tokens += truncated
        progress.tokens_read += pair.own_tokens - truncated
        budget.use(pair.own_tokens - truncated)

    def _loaded(self) -> tuple[Any, ControlTokens]:
        if self._control_tokens is None:
            encoder = load_cross_encoder(self._model, device=self._device, bf16=self._bf16)
            self._control_tokens = control_tokens_of(encoder, self._model)
            self._encoder = encoder
        return self._encoder, self._control_tokens


def _reading(item: ReadingInput, progress: _Progress) -> Reading:
    return Reading(
        rank=item.rank,
        score=max(progress.scores.values()),
        depth=item.depth,
        tokens_read=min(progress.tokens_read, item.document_tokens),
        tokens_total=item.document_tokens,
        passage_scores=tuple(
            (passage.point_id, progress.scores[passage.point_id]) for passage in item.passages
        ),
        truncated_tokens=progress.truncated_tokens,
    )
