"""Citations: right in each format, whatever a title holds."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import Client

from longleaf.api.citation import (
    Reference,
    as_bibtex,
    as_csl,
    as_csl_json,
    as_plain,
    as_ris,
    reference_of,
)

_ARTICLE = reference_of(
    "nmpvxeqy",
    "Costs & benefits of 50% {rent}",
    "paper.pdf",
    {
        "authors": ("Müller, Anna", "Bo Li", "Trees and Sons"),
        "date": "2021-03-09",
        "journal": "Land_Law",
        "volume": 12,
        "issue": "3",
        "doi": "10.1/a_b",
    },
    (4, 6),
)


def test_an_article_in_each_format() -> None:
    assert as_plain(_ARTICLE) == (
        "Müller, Anna; Bo Li; Trees and Sons (2021-03-09). Costs & benefits of 50% {rent}. "
        "Land_Law 12(3). pp. 4–6. doi:10.1/a_b."
    )
    assert as_bibtex(_ARTICLE) == (
        "@article{muller2021costs,\n"
        r"  title = {{Costs \& benefits of 50\% \textbraceleft{}rent\textbraceright{}}},"
        "\n"
        "  author = {Müller, Anna and Bo Li and {Trees and Sons}},\n"
        "  year = {2021},\n"
        "  date = {2021-03-09},\n"
        "  journal = {Land\\_Law},\n"
        "  volume = {12},\n"
        "  number = {3},\n"
        "  pages = {4--6},\n"
        "  doi = {10.1/a\\_b},\n"
        "}\n"
    )
    assert as_ris(_ARTICLE).split("\r\n") == [
        "TY  - JOUR", "TI  - Costs & benefits of 50% {rent}", "AU  - Müller, Anna", "AU  - Bo Li",
        "AU  - Trees and Sons", "PY  - 2021", "DA  - 2021/03/09/", "JO  - Land_Law", "VL  - 12",
        "IS  - 3", "SP  - 4", "EP  - 6", "DO  - 10.1/a_b", "ID  - nmpvxeqy", "ER  - ", "",
    ]  # fmt: skip
    item = as_csl(_ARTICLE)
    assert item["author"][:2] == [
        {"family": "Müller", "given": "Anna"},
        {"family": "Li", "given": "Bo"},
    ]
    assert item["issued"] == {"date-parts": [[2021, 3, 9]]} and item["page"] == "4-6"
    assert json.loads(as_csl_json(_ARTICLE)) == [item]


def test_what_is_not_known_is_left_out() -> None:
    bare = reference_of("nmpvxeqy", "", "lease.md", {"authors": "", "year": "soon"}, None)
    assert as_plain(bare) == "lease.md."
    assert as_bibtex(bare) == "@misc{lease,\n  title = {{lease.md}},\n}\n"
    assert as_ris(bare) == "TY  - GEN\r\nTI  - lease.md\r\nID  - nmpvxeqy\r\nER  - \r\n"
    assert as_csl(bare) == {"id": "lease", "type": "document", "title": "lease.md"}
    case = reference_of("x", "Smith v. Jones", "c.txt", {"court": "ca9", "year": 2020}, (7, 7))
    assert as_csl(case)["type"] == "legal_case" and as_plain(case) == (
        "(2020). Smith v. Jones. ca9. p. 7."
    )


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=3))
def test_no_title_or_name_leaves_its_field(title: str, authors: list[str]) -> None:
    cited: Reference = reference_of("id", title, "f", {"authors": tuple(authors)}, None)
    entry = as_bibtex(cited)
    depth, ends = 0, 0
    for place, sign in enumerate(entry):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
        ends += sign == "}" and depth == 0
        if sign in "%&$#_":
            assert entry[place - 1] == "\\"
    assert (
        depth == 0
        and ends == 1
        and entry.count("@")
        - cited.title.count("@")
        - sum(each.count("@") for each in cited.authors)
        == 1
    )
    lines = as_ris(cited).split("\r\n")
    assert lines[-1] == "" and all(re.match(r"[A-Z][A-Z]  - ", line) for line in lines[:-1])
    assert len(lines) == 5 + len(cited.authors) and "\n" not in "".join(lines)
    assert len(as_plain(cited).splitlines()) == 1
    assert json.loads(as_csl_json(cited))[0]["title"] == cited.title


def test_the_route_cites_a_page(client: Client) -> None:
    hit = client.search("security deposit", collections=["law"])["hits"][0]
    path = f"/v1/documents/{hit['document_id']}/citation"
    told = client.get(path).json()
    assert told["plain"] == "(2019). Residential lease." and told["first_page"] is None
    assert told["csl"]["title"] == "Residential lease" and told["ris"].startswith("TY  - ")
    for wanted, kind in (("plain", "text/plain"), ("bibtex", "application/x-bibtex")):
        answer = client.get(path, params={"format": wanted, "start": 0, "end": 5})
        assert answer.text == told[wanted] and answer.headers["content-type"].startswith(kind)
    assert client.get(path, params={"format": "word"}).status_code == 422
    assert client.get(path, params={"start": 5, "end": 5}).status_code == 400
    assert client.get("/v1/documents/nothing/citation").status_code == 404
