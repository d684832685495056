"""A commit that was made and whose answer was lost: nothing that it refers to may be given up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.core.test_catalog import DIM, EVERYONE, TOKEN_DIM, write
from tests.postgres import PostgresServer

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.segments import ERASED, SegmentReader
from longleaf.core.catalog.verify import Check, Verifier
from longleaf.core.catalog.wiping import erase_records
from longleaf.core.errors import CatalogUnavailable
from longleaf.core.store_settings import CatalogSettings


class _Lost(Exception):
    """The connection was reset."""


def _lose_the_next_answer(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next transaction is committed, and whoever asked for it is told that it failed."""
    database = catalog.database
    real = database.writing

    @contextmanager
    def writing() -> Iterator[Connection]:
        monkeypatch.setattr(database, "writing", real)
        with real() as connection:
            yield connection
        raise _Lost

    monkeypatch.setattr(database, "writing", writing)


def _codes(catalog: Catalog, generation: Generation) -> dict[str, int]:
    """key -> how many token vectors its passages have."""
    found = {}
    for head in catalog.documents(EVERYONE):
        passages = catalog.passages(head, generation)
        codes, _, _ = catalog.token_vectors([each.passage_id for each in passages], generation)
        found[head.key] = len(codes)
    return found


def _token_check(catalog: Catalog) -> Check:
    return next(
        each for each in Verifier(catalog, deep=True).checks() if each.what.startswith("token")
    )


@pytest.mark.parametrize("how", ["commit", "slice"])
def test_what_was_committed_keeps_its_token_vectors(
    how: str, catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write("a", "a first text")
    assert given.content is not None
    content = given.content
    calls: dict[str, Callable[[], object]] = {
        "commit": lambda: catalog.commit(generation, [given]),
        "slice": lambda: catalog.write_slice(generation, content),
    }
    _lose_the_next_answer(catalog, monkeypatch)
    with pytest.raises(_Lost):
        calls[how]()
    calls[how]()
    catalog.commit(generation, [write("a", "a first text", known=True)])
    assert _codes(catalog, generation) == {"a": 12}
    assert _token_check(catalog).wrong == 0


def test_what_was_not_committed_is_overwritten(catalog: Catalog, generation: Generation) -> None:
    def fail(*_: object) -> None:
        raise _Lost

    catalog.commit(generation, [write("a", "a first text")])
    with pytest.raises(_Lost):
        catalog.commit(generation, [write("b", "another text")], also=fail)
    assert _codes(catalog, generation) == {"a": 12}
    [segment] = catalog.segment_folder.glob("*.seg")
    assert segment.read_bytes().count(ERASED) == 2


def test_the_doctor_tells_of_overwritten_token_vectors_that_something_refers_to(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit(generation, [write("a", "a first text"), write("b", "another text")])
    seen = []
    gather = SegmentReader.gather
    monkeypatch.setattr(
        SegmentReader, "gather", lambda s, refs: seen.extend(refs) or gather(s, refs)
    )
    assert _token_check(catalog).wrong == 0
    erase_records(catalog.segment_folder, seen[:2])
    found = _token_check(catalog)
    assert found.wrong == 2
    assert "overwritten" in found.problems[0].detail


def test_what_is_deleted_while_the_doctor_looks_is_not_wrong(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    [result] = catalog.commit(generation, [write("a", "a first text")])
    gather = SegmentReader.gather

    def deleted_first(reader: SegmentReader, refs: object) -> object:
        if catalog.documents(EVERYONE):
            catalog.delete_document(result.public_id, EVERYONE)
        return gather(reader, refs)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentReader, "gather", deleted_first)
    assert _token_check(catalog).wrong == 0


# --- over a network -----------------------------------------------------------------------------


class _Proxy:
    """Passes on what client and server say; when `armed`, a commit's answer is lost once."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.armed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            lost, wrote = threading.Event(), threading.Event()
            for passing in (
                lambda c=client, s=server, w=wrote, n=lost: self._up(c, s, w, n),
                lambda c=client, s=server, n=lost: self._down(c, s, n),
            ):
                threading.Thread(target=passing, daemon=True).start()

    def _up(
        self,
        client: socket.socket,
        server: socket.socket,
        wrote: threading.Event,
        lost: threading.Event,
    ) -> None:
        while said := _received(client):
            if self.armed and b"INSERT INTO changes" in said:
                wrote.set()
            if self.armed and wrote.is_set() and b"COMMIT" in said:
                lost.set()
                self.armed = False
            server.sendall(said)
        _end(client, server)

    def _down(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while (said := _received(server)) and not lost.is_set():
            client.sendall(said)
        _end(client, server)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _end(*ends: socket.socket) -> None:
    for each in ends:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_a_connection_that_is_reset_after_the_commit_loses_nothing(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.database()
    proxy = _Proxy(postgres.port)
    catalog = Catalog(
        tmp_path, CatalogSettings(url=url.replace(f":{postgres.port}/", f":{proxy.port}/"))
    )
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    proxy.armed = True
    with pytest.raises(CatalogUnavailable):
        catalog.commit(generation, [write("a", "a first text")])
    assert not proxy.armed
    assert _codes(catalog, generation) == {"a": 12}
    [again] = catalog.commit(generation, [write("a", "a first text")])
    assert not again.changed
    assert _codes(catalog, generation) == {"a": 12}
    assert _token_check(catalog).wrong == 0
    catalog.close()
    proxy.close()
