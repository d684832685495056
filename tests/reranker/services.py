"""A rerank service of the tests behind its port, and a reranker that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.remote.rerankers import RerankServer
from tests.remote.servers import Server, served
from tests.reranker.tiny import StoredTokens, library, query_of

from longleaf.core.budget import Budget
from longleaf.core.types import Reading
from longleaf.reranker.services.dialects import SERVICES
from longleaf.reranker.services.reader import ServiceReranker

QUERY = query_of("patent licence")
INPUTS = library(40, StoredTokens())


class Opened:
    """A service of the test, behind its port, and a reranker that asks it."""

    def __init__(self, there: RerankServer, server: Server, reranker: ServiceReranker) -> None:
        self.there = there
        self.server = server
        self.reranker = reranker

    def read(
        self, inputs: Any = INPUTS, budget: Budget | None = None, query: Any = QUERY
    ) -> dict[int, Reading]:
        found = self.reranker.read(query, inputs, budget or Budget())
        return {each.rank: each for each in found}


Open = Callable[..., Opened]


Open = Callable[..., Opened]


@contextmanager
def opening() -> Iterator[Open]:
    """Opens services by dialect; all of them are closed at the end. Nobody sleeps between tries."""
    with ExitStack() as kept:

        def open_one(
            dialect: str = "vllm", there: RerankServer | None = None, **options: Any
        ) -> Opened:
            there = there or RerankServer(dialect)
            server = kept.enter_context(served(there))
            options = {"model": "m", "sleep": lambda _: None, **options}
            made = ServiceReranker(server.url, SERVICES[dialect], **options)
            kept.callback(made.close)
            return Opened(there, server, made)

        yield open_one
