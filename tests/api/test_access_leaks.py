"""Ways around a scope that begin at what may be seen: similar documents, facets, pictures of pages.

tests/api/test_access.py asks every route about hidden documents; here visible ones, or an answer
that somebody else got before, are asked to tell of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.api.conftest import Client, a_worker, wait_until_followed
from tests.api.keyed import OPEN_TEXT, QUERY, SEALED_TEXT, Site, keyed_site
from tests.indexer.pdfs import lines_pdf

WORD, MATTER = "quagzotic", "matter of secrecy"
"""In texts, titles and names of what a limited key may not see; and of its metadata."""


@dataclass(frozen=True, slots=True)
class Leaky:
    """The keyed site with a lease in each place that has metadata, and a sealed PDF."""

    site: Site
    visible: str
    sealed: str
    sealed_pdf: str

    def client(self, who: str) -> Client:
        return self.site.client(who)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaky]:
    with keyed_site(tmp_path_factory.mktemp("leaks")) as site, a_worker(site.runtime):
        admin, ids = site.client("admin"), {}
        text, pdf = SEALED_TEXT.format(WORD), lines_pdf([[f"The {WORD} tenant", "pays the rent."]])
        for name, data, collection, groups, matter in (
            ("visible.txt", OPEN_TEXT.encode(), "law", [], "open matter"),
            ("visible too.txt", b"The rent of another tenant.", "law", [], "second matter"),
            (f"{WORD}.txt", text.encode(), "law", ["judges"], MATTER),
            (f"{WORD} two.txt", text.encode() + b" Twice.", "other", [], MATTER),
            (f"{WORD}.pdf", pdf, "law", ["judges"], MATTER),
        ):
            metadata = json.dumps({"matter": matter})
            made = admin.upload(name, data, collection=collection, groups=groups, metadata=metadata)
            assert made.status_code == 201, made.text
            [ids[name]] = made.json()["document_ids"]
        wait_until_followed(site.runtime)
        yield Leaky(site, ids["visible.txt"], ids[f"{WORD}.txt"], ids[f"{WORD}.pdf"])


@pytest.mark.parametrize("who", ["limited", "person", "judge"])
@pytest.mark.parametrize("collections", ["", "&collection=law&collection=other"])
def test_similar_documents_are_those_that_one_may_see(
    leaky: Leaky, who: str, collections: str
) -> None:
    def told(caller: str) -> str:
        client = leaky.client(caller)
        answers = [
            client.get(f"/v1/documents/{leaky.visible}/similar?limit=20{collections}"),
            client.get(f"/?similar={leaky.visible}{collections}"),
        ]
        assert caller != "admin" or all(each.status_code == 200 for each in answers)
        return "".join(each.text for each in answers).lower()

    assert f"{WORD}.txt" in told("admin") and MATTER in told("admin")
    if who == "judge":  # sees what is sealed for judges, and nothing of the other collection
        assert f"{WORD} two" not in told(who)
    else:
        assert WORD not in told(who) and MATTER not in told(who)


@pytest.mark.parametrize("who", ["limited", "person"])
@pytest.mark.parametrize("chosen", [None, ["open matter"], [MATTER]])
def test_facets_count_what_one_may_see(leaky: Leaky, who: str, chosen: list[str] | None) -> None:
    """Of a field in which something is chosen, values are counted in a wider search."""
    options: dict[str, Any] = {"facets": ["matter"], "limit": 20}
    if chosen:
        options["filter"] = {"field": "matter", "in": chosen}

    def values(caller: str) -> dict[str, int]:
        [facet] = leaky.client(caller).search(QUERY, **options)["facets"] or [{"values": []}]
        return {str(each["value"]): each["count"] for each in facet["values"]}

    assert values("admin")[MATTER] >= 2
    assert values(who) == {"open matter": 1, "second matter": 1}


@pytest.mark.parametrize("who", ["limited", "open only", "nowhere", "person"])
@pytest.mark.parametrize("what", ["image", "image?scale=1", "words"])
def test_a_picture_that_somebody_else_had_drawn_is_not_given(
    leaky: Leaky, who: str, what: str
) -> None:
    path = f"/v1/documents/{leaky.sealed_pdf}/pages/1/{what}"
    drawn = leaky.client("judge").get(path)
    assert drawn.status_code == 200
    tag = drawn.headers.get("etag", '"none"')
    for headers in ({}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
        assert leaky.client(who).get(path, headers=headers).status_code == 404
    if what != "words":
        again = leaky.client("judge").get(path, headers={"If-None-Match": tag})
        assert again.status_code == 304, "the tag is one that is known"
