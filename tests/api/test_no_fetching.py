"""Nothing that comes from outside makes Longleaf fetch anything: no address in any field, no file.

A server of the test counts who comes, and an audit hook sees every connection and every name that
this process asks for. Files are read in this process here, without the sandbox that has no network:
what is shown is that the parsers do not even try.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.api import naughty, ssrf
from tests.api.keyed import Site, open_site
from tests.remote.chat import chatting
from tests.remote.servers import Answer, Server, served

from longleaf.indexer.parsers.here import ReadHere

_OUTWARD = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


@dataclass
class Watch:
    """What this process asked the network for while it was on: (event, address)."""

    on: bool = False
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and (event in _OUTWARD or event.startswith(("urllib.", "ftplib.", "http."))):
            self.seen.append((event, arguments[1] if event == "socket.connect" else arguments[0]))


WATCH = Watch()


@dataclass(frozen=True)
class Watched:
    """An app with content; the one service that is set; and the server to which nothing leads."""

    site: Site
    chat_port: int
    canary: Server

    @property
    def port(self) -> int:
        return int(self.canary.url.rpartition(":")[2])

    def strangers(self) -> list[tuple[str, Any]]:
        """Everything that was asked for but the service that is set."""
        return [
            (event, where)
            for event, where in WATCH.seen
            if where not in (("127.0.0.1", self.chat_port), "127.0.0.1")
        ]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    sys.addaudithook(WATCH.note)  # for good: it sees nothing while it is not on

    def say(path: str, _body: Any) -> Answer:
        return Answer({}, 302, {"location": path}) if path == "/redirect" else Answer({})

    home = tmp_path_factory.mktemp("ssrf")
    with served(say) as canary, chatting("The rent is due. [1]") as chat:
        flags = {"answer.url": chat.url, "answer.model": "any"}
        with open_site(home, **flags) as site:
            site.runtime.indexer.reader.close()
            site.runtime.indexer.reader = ReadHere()
            yield Watched(site, int(chat.url.split(":")[2].partition("/")[0]), canary)


@pytest.fixture
def on(watched: Watched) -> Iterator[Watched]:
    WATCH.seen.clear()
    WATCH.on = True
    yield watched
    WATCH.on = False


def test_there_are_enough_of_them() -> None:
    assert len(set(ssrf.vectors(8000))) >= 60


def test_an_address_in_a_field_is_text(on: Watched) -> None:
    tries = naughty.tries(naughty.all_places(), ssrf.vectors(on.port), 1)
    assert {text for _, text in tries} == set(ssrf.vectors(on.port))
    assert asyncio.run(naughty.asked(on.site, tries)) == {}
    assert on.strangers() == []
    assert on.canary.asked == []


@pytest.mark.parametrize("place", ["query", "instruction", "collections"])
def test_an_address_in_the_search_is_text(on: Watched, place: str) -> None:
    """Each of them, where people most often put one."""

    async def ask() -> list[int]:
        async with on.site.client().open() as http:
            body: dict[str, Any] = {"query": "rent", "rerank": {"instruction": None}}
            statuses = []
            for url in ssrf.vectors(on.port):
                body |= {
                    "query": {"query": url},
                    "instruction": {"rerank": {"instruction": url}},
                    "collections": {"collections": [url]},
                }[place]
                statuses.append((await http.post("/v1/search", json=body)).status_code)
            return statuses

    assert set(asyncio.run(ask())) == ({404} if place == "collections" else {200})
    assert on.strangers() == []
    assert on.canary.asked == []


@pytest.mark.parametrize("spelling", [0, -6], ids=["plain", "redirect"])
def test_a_file_that_asks_for_an_address_is_read_without_it(on: Watched, spelling: int) -> None:
    url = ssrf.vectors(on.port)[spelling]
    client = on.site.client()
    ended = {}
    for name, data in ssrf.documents(url):
        response = client.upload(name, data, collection="law", key=f"{spelling} {name}")
        ended[name] = response.status_code
        assert response.status_code < 500, (name, response.text)
    assert sum(status == 201 for status in ended.values()) >= 9, ended
    assert on.strangers() == []
    assert on.canary.asked == []


def test_metadata_holds_an_address_as_text(on: Watched) -> None:
    client = on.site.client()
    url = f"http://127.0.0.1:{on.port}/x"
    fields = {"collection": "law", "key": url, "metadata": f'{{"source": "{url}", "url": "{url}"}}'}
    made = client.upload(url, b"A lease that names where it came from.", **fields)
    assert made.status_code == 201, made.text
    [document] = made.json()["document_ids"]
    shown = client.get(f"/v1/documents/{document}").json()
    assert shown["metadata"]["source"] == url
    for page in ("", "/text"):
        assert client.get(f"/documents/{document}{page}").status_code == 200
    assert on.strangers() == []
    assert on.canary.asked == []


def test_whoever_did_fetch_would_be_seen(on: Watched) -> None:
    httpx.get(f"{on.canary.url}/x")
    assert ("socket.connect", ("127.0.0.1", on.port)) in on.strangers()
    assert [path for path, _ in on.canary.asked] == ["/x"]
    on.canary.asked.clear()
