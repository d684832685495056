"""`remote` with another dialect than longleaf: a rerank service or server reads the candidates.

It batches by the service's limits and the time that is left, halves what is refused as too long,
and keeps what was read before an error. It knows a dialect only as its table, and no model. Every
score is the service's own; whether it is a probability, the table says.

A candidate is as good as its best passage, or the score of its text where documents are read whole.
`first_stage_weight` is 0 and `min_score` none, because nothing was measured for any of these
models: the service alone decides, as with cross-encoder, and equal scores keep the first stage's
order. Trade-off: one request after the other, so that a service's rate is never more than one
search's; `reranker.request_documents` chooses between fewer and shorter requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from longleaf.core.distant import Distant
from longleaf.core.errors import ConfigError, RemoteRefused
from longleaf.core.types import DocumentLimits
from longleaf.reranker.instructions import instruction_text
from longleaf.reranker.pieces import affordable
from longleaf.reranker.services import probing
from longleaf.reranker.services.asking import Asker
from longleaf.reranker.services.batches import Pace
from longleaf.reranker.services.search import Search
from longleaf.reranker.services.service import Limits, Question, Service, base_of
from longleaf.reranker.services.texts import FEWEST_TOKENS, usable

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.protocols import ReaderQuery
    from longleaf.core.types import Reading, ReadingInput

_START_TRIES = 5
"""About eight seconds: two servers are often started together."""
_TRIES = 2
_LEAST_MS = 20.0
_IN_EMBEDDER_TOKENS = 0.75
"""Of a text's room, what may be planned in the embedder's tokens: of English the estimate is a
fifth higher than its count, and a title comes on top."""
_FOR_QUERY_TOKENS = 128


class ServiceReranker:
    """`core.protocols.DistantReranker`. Thread-safe.

    Asked at the start, in this order: what the server says of its limits, whether an instruction
    changes anything, whether it ranks sense above nonsense, and whether it reads long texts to
    their end. Raises RemoteUnavailable where nobody answers, RemoteRefused where something else
    does, ModelUnavailable where it reads nonsense, ConfigError for a dialect that needs a model's
    name. `request_documents`, `item_tokens`, `request_tokens`: 0 takes the server's word or the
    dialect's limit. `least_ms`: no request is waited for less.
    """

    reads_text = True
    document_weight = 1.0
    min_score: float | None = None

    def __init__(
        self,
        url: str,
        service: Service,
        *,
        model: str = "",
        api_key: str = "",
        timeout_seconds: float = 30.0,
        request_documents: int = 0,
        item_tokens: int = 0,
        request_tokens: int = 0,
        first_stage_weight: float | None = None,
        instruction: str | None = None,
        least_ms: float = _LEAST_MS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if service.needs_model and not model:
            raise ConfigError(
                f"reranker.dialect is {service.name}, but reranker.model is not set.",
                "Set it to what the service calls its model.",
            )
        self._service = service
        self._model = model
        self._most_ms = 1000.0 * timeout_seconds
        self._least_ms = least_ms
        self._pace = Pace()
        self._distant = Distant(
            base_of(url, service.path),
            "reranker",
            api_key,
            timeout_seconds=timeout_seconds,
            sleep=sleep,
        )
        self._asker = Asker(service, self._distant)
        self.name = f"remote:{service.name}"
        self.first_stage_weight = first_stage_weight or 0.0
        self._limits = self._told(service.limits)
        self._limits = replace(
            self._limits,
            request_documents=request_documents or self._limits.request_documents,
            item_tokens=item_tokens or self._limits.item_tokens,
            request_tokens=request_tokens or self._limits.request_tokens,
        )
        self.takes_instruction = service.takes_instruction
        self.default_instruction = instruction
        self._probe()
        if not self.takes_instruction:
            self.default_instruction = None
        self._unused_instruction = bool(instruction) and not self.takes_instruction
        self.fingerprint = (
            f"service/1 {service.name} {model or '-'} {self._limits.item_tokens} tokens"
        )
        room = usable(self._limits.item_tokens) - _FOR_QUERY_TOKENS
        self.document_limits = DocumentLimits(
            documents=None,
            tokens=max(FEWEST_TOKENS, int(_IN_EMBEDDER_TOKENS * room)),
            beside=True,
        )

    @property
    def trouble(self) -> str | None:
        """See core.protocols.DistantReranker."""
        return self._distant.trouble

    @property
    def where(self) -> str:
        """For people: who reads, and within what."""
        limits = self._limits
        model = f" ({self._model})" if self._model else ""
        said = [f"{limits.request_documents} texts in a request"]
        said.append(f"{limits.item_tokens:,} tokens a text")
        if limits.request_tokens is not None:
            said.append(f"{limits.request_tokens:,} a request")
        if self.takes_instruction:
            said.append("takes an instruction")
        elif self._unused_instruction:
            said.append("takes no instruction: reranker.instruction is not used")
        else:
            said.append("takes no instruction")
        return (
            f"{self.name}{model} at {self._distant.url} (texts and queries are sent there; "
            f"{', '.join(said)})"
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._distant.close()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker. The budget is asked before each request."""
        wanted = affordable(inputs, budget)
        if wanted:
            question = self._question(query.text, query.instruction)
            search = Search(
                question,
                wanted,
                self._limits,
                self._service.meaning,
                lambda texts: self._ask(question, texts, budget.left_ms()),
                budget,
            )
            yield from search.readings(self._pace)

    def _question(self, text: str, instruction: str | None) -> Question:
        words = None
        if self.takes_instruction:
            words = instruction_text(instruction or self.default_instruction)
        return Question(text, words, self._model, self._limits.item_tokens)

    def _ask(
        self, question: Question, texts: Sequence[str], left_ms: float | None
    ) -> Mapping[int, float]:
        """Within the time that is left, and never longer than `reranker.timeout_seconds`."""
        within_ms = self._most_ms if left_ms is None else min(left_ms, self._most_ms)
        started = time.perf_counter()
        scores = self._asker.ask(
            question, texts, within_seconds=max(within_ms, self._least_ms) / 1000.0, tries=_TRIES
        )
        self._pace.note((time.perf_counter() - started) * 1000.0, len(texts))
        return scores

    def _told(self, limits: Limits) -> Limits:
        """What the server itself says goes before the table; most say nothing."""
        about = self._service.about
        if about is None:
            return limits
        try:
            told = self._distant.ask("GET", about.path, tries=_START_TRIES, patient=True)
            read = about.read(told, self._model)
        except (RemoteRefused, KeyError, TypeError, ValueError, IndexError):
            return limits
        known: dict[str, Any] = {name: n for name, n in read.items() if n > 0}
        return replace(limits, **known)

    def _probe(self) -> None:
        def asking(instruction: str | None) -> probing.Ask:
            def ask(query: str, texts: Sequence[str]) -> Mapping[int, float]:
                question = self._question(query, instruction)
                started = time.perf_counter()
                scores = self._asker.ask(question, texts, tries=_START_TRIES, patient=True)
                self._pace.note((time.perf_counter() - started) * 1000.0, len(texts))
                return scores

            return ask

        if self.takes_instruction:
            self.takes_instruction = probing.uses_instruction(
                asking(None), asking(probing.CONTRARY)
            )
        probing.require_sense(asking(None), self._distant.url)
        if self._service.cuts_silently:
            tokens = probing.readable_tokens(
                asking(None), self._limits.item_tokens, self._distant.url
            )
            self._limits = replace(self._limits, item_tokens=tokens)
