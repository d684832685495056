"""Titles while they are typed: the same as looking through all of them, within the scope."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from tests.api.conftest import Client

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime
from longleaf.core.catalog import title_words
from longleaf.core.catalog.schema import contents
from longleaf.core.catalog.schema import title_words as table_of_words
from longleaf.core.types import Scope


def suggested(client: Client, typed: str, **params: Any) -> list[str]:
    answer = client.get("/v1/suggest", params={"q": typed, **params})
    assert answer.status_code == 200, answer.text
    return [each["title"] for each in answer.json()["suggestions"]]


def test_titles_are_found_by_their_beginning_and_their_words(client: Client) -> None:
    assert suggested(client, "res") == ["Residential lease"]
    assert suggested(client, "lease") == ["Commercial lease", "Residential lease"]
    assert suggested(client, "LEASE resi") == ["Residential lease"]
    assert suggested(client, "residential le") == ["Residential lease"]
    assert suggested(client, "lease", limit=1) == ["Commercial lease"]
    assert suggested(client, "lease", collection="science") == []
    assert suggested(client, "nothing of that name") == suggested(client, " ?! ") == []
    whole = client.get("/v1/suggest", params={"q": "lease"}).json()
    assert whole["complete"] and whole["suggestions"][0]["url"].startswith("/documents/")
    assert not client.get("/v1/suggest", params={"q": "lease", "limit": 1}).json()["complete"]
    assert client.get("/v1/suggest").status_code == 422
    missing = client.get("/v1/suggest", params={"q": "x", "collection": "nowhere"})
    assert missing.status_code == 404


def test_nobody_is_shown_what_they_may_not_see(client: Client, runtime: Runtime) -> None:
    app = create_app(runtime)
    app.state.service.scope = Scope(frozenset({"science"}), None)
    assert suggested(Client(app), "residential") == []
    assert suggested(Client(app), "vacc") == ["Vaccination trial"]
    made = client.upload("secret.txt", b"Sealed gazebo\n\nNothing to see.", groups="judges")
    (document_id,) = made.json()["document_ids"]
    assert suggested(client, "gazebo") == ["Sealed gazebo"]
    app.state.service.scope = Scope(None, frozenset({"clerks"}))
    assert suggested(Client(app), "gazebo") == []
    client.delete(f"/v1/documents/{document_id}")
    assert suggested(client, "gazebo") == []


def test_an_old_catalog_gets_its_words(runtime: Runtime) -> None:
    with runtime.catalog.database.writing() as connection:
        before = sorted(map(tuple, connection.execute(select(table_of_words))))
        connection.execute(table_of_words.delete())
        title_words.fill(connection)
        assert sorted(map(tuple, connection.execute(select(table_of_words)))) == before


_TITLES = st.lists(st.text("ab Ä-", max_size=8), max_size=12)


@given(_TITLES, st.text("abä ", max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_equals_looking_through_all_titles(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, many: list[str], typed: str
) -> None:
    monkeypatch.setattr(title_words, "_ROUND", 3)
    found: set[int] = set()
    with runtime.catalog.database.writing() as connection, connection.begin_nested() as undo:
        connection.execute(table_of_words.delete())
        numbers = range(1 << 40, (1 << 40) + len(many))
        for number, title in zip(numbers, many, strict=True):
            row = {"id": number, "digest": str(number), "title": title, "text_chars": 0}
            connection.execute(insert(contents).values(pages=[], sections=[], regions=[], **row))
            title_words.put_words(connection, number, title)
        words = title_words.words_of(typed)
        for batch in title_words._rounds(connection, words) if words else ():
            found |= set(batch)
        undo.rollback()
    if words:
        named = dict(zip(numbers, many, strict=True))
        slow = {number for number, title in named.items() if title_words._holds(title, words)}
        assert {number for number in found if title_words._holds(named[number], words)} == slow
