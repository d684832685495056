"""Schemathesis over our own OpenAPI document, with every check that it has, at an app with content.

The app runs in this process, so a case costs what the route costs. `Refusals` are the operations
that may refuse a request which fits their schema, each with what OpenAPI cannot say of it; all
others must take it.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HOST = "testserver"
"""Whom schemathesis asks for in this process."""

_ACCEPTED = ("2xx", "3xx", "401", "403", "404", "409", "429")
"""What schemathesis takes for accepted, but for 5xx."""
_SEARCH = "a query or a filter is needed, a cursor is signed and goes alone, a filter is a tree"
_RANGE = "where a range may end depends on the document"
_DIALECT = "whose body it is depends on its keys; blank texts and pictures cannot be read"
_CURSOR = "`after` and `before` are what an earlier answer gave"
REFUSALS: Mapping[str, tuple[str, str]] = {
    "POST /v1/search": ("400 422", _SEARCH),
    "GET /v1/search": ("400", _SEARCH),
    "GET /v1/search/export": ("400", _SEARCH),
    "GET /v1/documents/{document_id}/similar": ("400", _SEARCH),
    "GET /v1/documents/{document_id}/hits": ("400", _SEARCH),
    "POST /v1/answer": ("400 422", _SEARCH),
    "POST /v1/vector_stores/{vector_store_id}/search": ("400", _SEARCH),
    "POST /v1/documents": ("400 413 422", "what is in the file decides; `metadata` is JSON"),
    "POST /v1/judgements": ("400", _RANGE),
    "POST /v1/judgements/table": ("400", "the table must name its columns"),
    "POST /v1/evaluations": ("400", "there must be judgements that tell stages apart"),
    "GET /v1/documents": ("400", _CURSOR),
    "GET /v1/judgements": ("400", _CURSOR),
    "GET /v1/vector_stores": ("400", _CURSOR),
    "GET /v1/documents/{document_id}/passages": ("400", _RANGE),
    "GET /v1/documents/{document_id}/rectangles": ("400", _RANGE),
    "GET /v1/documents/{document_id}/text": ("400", _RANGE),
    "GET /v1/documents/{document_id}/citation": ("400", _RANGE),
    "POST /v1/embeddings": ("400", "the model has one number of dimensions; a text is not blank"),
    **dict.fromkeys(
        (
            "POST /v1/rerank",
            "POST /v2/rerank",
            "POST /rerank",
            "POST /score",
            "POST /v1/score",
            "POST /api/v1/services/rerank/text-rerank/text-rerank",
            "POST /compatible-api/v1/reranks",
            "POST /as/{dialect}/{path}",
        ),
        ("400 413 422", _DIALECT),
    ),
}
"""Operation -> statuses that a request which fits the schema may get, and why."""


@dataclass(slots=True)
class Found:
    """What came of cases: how many of each phase, statuses, checks done, operations that were asked
    and that succeeded, and failures: (operation, check, status) -> the first of them."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        """Count the other's too."""
        self.cases.update(other.cases)
        self.statuses.update(other.statuses)
        self.checks.update(other.checks)
        self.asked |= other.asked
        self.succeeded |= other.succeeded
        self.failures = other.failures | self.failures


def _configured(seed: int, examples: int, phases: Iterable[str], token: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "seed": seed,
        "continue-on-failure": True,
        "request-timeout": 120,
        "generation": {
            "max-examples": examples,
            "deterministic": True,
            "no-shrink": True,
            "database": "none",
        },
        "phases": {
            each: {"enabled": each in phases}
            for each in ("examples", "coverage", "fuzzing", "stateful")
        },
        "checks": {
            "enabled": True,
            "positive_data_acceptance": {"expected-statuses": list(_ACCEPTED)},
        },
        "operations": [
            {
                "include-name": name,
                "checks": {
                    "positive_data_acceptance": {
                        "expected-statuses": [*_ACCEPTED, *statuses.split()]
                    }
                },
            }
            for name, (statuses, _) in REFUSALS.items()
        ],
    }
    if token:
        told["headers"] = {"Authorization": f"Bearer {token}"}
    return told


def ran(
    app: Any,
    *,
    seed: int,
    examples: int,
    phases: Iterable[str] = ("examples", "coverage", "fuzzing", "stateful"),
    every: int = 1,
    token: str = "",
) -> Found:
    """One run over `app`, at every `every`th path: up to `examples` cases of each operation in each
    phase, but for coverage, which has as many as the description gives rise to."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import events, from_schema

    told = _configured(seed, examples, phases, token)
    described = dict(app.openapi())
    paths = itertools.islice(described["paths"].items(), seed % every, None, every)
    described["paths"] = copy.deepcopy(dict(paths))
    schema: Any = schemathesis.openapi.from_dict(
        described, config=SchemathesisConfig.from_dict(told)
    )
    schema.app = app
    found = Found()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(found, event.phase.value, event.recorder)
        elif isinstance(event, events.NonFatalError):
            found.failures.setdefault((event.label, "error", ""), event.info.format())
        elif isinstance(event, events.FatalError):
            raise event.exception
    return found


def _note(found: Found, phase: str, recorder: Any) -> None:
    for case_id, node in recorder.cases.items():
        operation = node.value.operation.label
        found.cases[phase] += 1
        found.asked.add(operation)
        interaction = recorder.interactions.get(case_id)
        if interaction is None or interaction.response is None:
            found.failures.setdefault((operation, "no answer", ""), "")
            continue
        answer = interaction.response
        found.statuses[answer.status_code] += 1
        if answer.status_code < 300:
            found.succeeded.add(operation)
        if "Traceback (most recent call last)" in answer.text:
            found.failures.setdefault((operation, "stack trace", ""), answer.text[:500])
        for check in recorder.checks.get(case_id, ()):
            found.checks[check.name] += 1
            if check.failure_info is None:
                continue
            failure = check.failure_info.failure
            said = f"{failure.message}\n{answer.status_code} {answer.text[:400]}"
            key = (operation, failure.title, str(answer.status_code))
            found.failures.setdefault(key, f"{said}\n{check.failure_info.code_sample[:600]}")
