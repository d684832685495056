"""Parts of a request's work, for whoever traces: names, counts, kinds and durations, never text.

The stages say `with span("longleaf.embed", model=name) as note:`. Nothing happens then, unless the
request's server traces it: it puts a maker of spans into `MAKER`, which goes with the request into
the threads that work for it. No library of tracing is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

Fact = str | int | float | bool
Note = Callable[[str, Fact], None]
"""Takes the name of a fact and the fact, once it is known."""

MAKER: ContextVar[Callable[[str], AbstractContextManager[Note]] | None] = ContextVar(
    "MAKER", default=None
)


def _note_nothing(_name: str, _fact: Fact) -> None: ...


@contextmanager
def span(name: str, **facts: Fact) -> Iterator[Note]:
    """The block as a span of the request under way; gives what takes facts that come later."""
    maker = MAKER.get()
    if maker is None:
        yield _note_nothing
        return
    with maker(name) as note:
        for each, fact in facts.items():
            note(each, fact)
        yield note
