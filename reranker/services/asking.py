"""One request to a service, and its answer checked: scores by the place of their text.

It knows the dialect's table and HTTP, and neither candidates nor budgets. An answer in which
anything is wrong (a result of nobody, one twice, a number that is none, another model than before)
is refused whole. A result that is missing is none: its text stays unread. What an answer says in
words is never shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from longleaf.core.distant import Distant
from longleaf.core.errors import RemoteRefused
from longleaf.reranker.requests import by_place, number
from longleaf.reranker.services.service import Question, Service
from longleaf.reranker.services.texts import estimated_tokens

_log = logging.getLogger(__name__)

_SUSPICIOUS_SHARE = 0.4
"""Of the tokens that we estimate of the texts alone: fewer is rare."""


class Asker:
    """One service under one model name. Thread-safe."""

    def __init__(self, service: Service, distant: Distant) -> None:
        self._service = service
        self._distant = distant
        self._named: str | None = None
        self._first_warning = threading.Lock()  # taken once, and kept

    def ask(
        self,
        question: Question,
        texts: Sequence[str],
        *,
        within_seconds: float | None = None,
        tries: int,
        patient: bool = False,
    ) -> dict[int, float]:
        """Scores by place in `texts`, at least one. Raises what `Distant.ask` raises, and
        RemoteRefused for an answer that makes no sense. A text that was not read in time is not
        sent a second time."""
        answer = self._distant.ask(
            "POST",
            self._service.path,
            self._service.body(question, texts),
            within_seconds=within_seconds,
            tries=tries,
            patient=patient,
            again_when_late=False,
        )
        try:
            results = answer
            for name in self._service.results:
                results = results[name]
            found = {
                place: number(result[self._service.score])
                for place, result in by_place(results, len(texts)).items()
            }
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._nonsense("it answered what makes no sense") from error
        if not found:
            raise self._nonsense("it answered without a single result")
        self._check_model(answer)
        self._look_for_silent_cuts(answer, texts)
        return found

    def _check_model(self, answer: Any) -> None:
        named = answer.get("model") if isinstance(answer, dict) else None
        if not isinstance(named, str) or not named:
            return
        if self._named is None:
            self._named = named
        elif named != self._named:
            raise RemoteRefused(
                f"{self._distant.url} names another model in its answers than when this server was "
                "started: scores would not compare.",
                "Set reranker.model, or start this server again.",
            )

    def _look_for_silent_cuts(self, answer: Any, texts: Sequence[str]) -> None:
        usage = answer.get("usage") if isinstance(answer, dict) else None
        read = usage.get("total_tokens") if isinstance(usage, dict) else None
        if self._first_warning.locked() or type(read) is not int or read <= 0:
            return
        given = sum(map(estimated_tokens, texts))
        if read >= _SUSPICIOUS_SHARE * given or not self._first_warning.acquire(blocking=False):
            return
        _log.warning(
            "reranker: %s says that it read %d tokens of about %d in %d texts. It may cut texts in "
            "silence; which ones is not known. Set reranker.item_tokens to what its model takes. "
            "This is said once.",
            self._distant.url,
            read,
            given,
            len(texts),
        )

    def _nonsense(self, what: str) -> RemoteRefused:
        return RemoteRefused(
            f"{self._distant.url} cannot be used: {what}.",
            f"Does it speak {self._service.name}? Look at reranker.url and reranker.dialect.",
        )
