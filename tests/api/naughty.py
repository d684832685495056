"""Strings that have broken somebody's software, and what no answer to one of them may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx
from tests.api.conftest import BASE
from tests.api.keyed import Site
from tests.api.text_fields import Place, description_of, places, request_to
from tests.bare_app import bare_app

from longleaf.api.http.dialects import places as dialects
from longleaf.api.http.errors import PROBLEM_TYPE
from longleaf.api.http.openai import problems

LIST = Path(__file__).resolve().parents[3] / "shared/data/malformed/naughty-strings/blns.txt"
"""The Big List of Naughty Strings, where it is at hand."""

OWN = (
    "", " ", "\t\r\n", "\0", "law\0", "\x7f\x1b[2J\x07", "\ud800", "a\udfff\udbffb", "\ufeff",
    "\ufffe\uffff", "\u202eevil\u202c.txt", "\u2066\u2069\u200e\u200f", "\u200b\u200d\u2060",
    "\N{WOMAN}\u200d\N{ROCKET}\u200d\N{WOMAN}", "\N{WAVING BLACK FLAG}" + "\U000e0067" * 50,
    "e" + "\u0301" * 65_536, "\U0010ffff", "\u0130\u0131\u1e9e\ufb03", "\u00ad" * 300,
    "' OR '1'='1' --", '"; DROP TABLE documents; --', "%' UNION SELECT token FROM keys --", "\\'",
    "{{7*7}}${7*7}<%= 7*7 %>#{7*7}", "{% include '/etc/passwd' %}", "{0.__class__.__mro__}",
    "%s%n%x%d" * 20, "%(name)s", "$(id)`id`|id;id&&id", "../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini", "/etc/passwd\0.txt", "....//....//etc/passwd", "%2e%2e%2f",
    "CON", "file:///etc/passwd", "<script>alert(1)</script>", "javascript:alert(1)",
    "<!ENTITY x SYSTEM '/'>", "\r\nSet-Cookie: a=b", "=cmd|' /C calc'!A0",
    "*" * 2_000, "(" * 3_000, '"' * 3_001,
    "-" * 3_000, "a:" * 2_000, "year:..", "year:9999999999999999999..1", "NaN", "-Infinity",
    "1e999", "9" * 5_000, "null", "true", "[" * 3_000, '{"and":' * 500, "0x10",
    "1_000", "\u0661\u0662", "2026-02-30", "a" * 20_001, "\u4e00" * 8_192,
    "A\u030a\u212b", "id\u2028id\u2029", "__proto__",
)  # fmt: skip
"""Ours: encodings, direction, joiners, injections of each kind, paths, numbers, our own syntax."""


def strings() -> list[str]:
    """Ours, and the list's where it is at hand."""
    if not LIST.is_file():
        return list(OWN)
    lines = LIST.read_text("utf-8").split("\n")
    return [*OWN, *(line for line in lines if line and not line.startswith("#"))]


def all_places() -> list[Place]:
    """Every field of the app that takes text."""
    return places(description_of(bare_app()))


def tries(fields: Sequence[Place], texts: Sequence[str], most: int) -> list[tuple[Place, str]]:
    """`most` of the texts for each field, and others for the next: each comes somewhere."""
    return [
        (place, texts[(number * most + more) % len(texts)])
        for number, place in enumerate(fields)
        for more in range(min(most, len(texts)))
    ]


async def asked(site: Site, these: Iterable[tuple[Place, str]]) -> dict[str, str]:
    """What was wrong with the answers, by place and string. The caller may do everything."""
    known = {
        "document_id": site.documents["open"], "job_id": site.jobs["open"], "name": "law",
        "page": "1", "evaluation_id": "none", "what": "seen", "vector_store_id": "law",
        "model": "late", "dialect": "tei", "path": "rerank",
    }  # fmt: skip
    found = {}
    async with site.client().open() as http:
        for place, text in these:
            response = await http.send(request_to(place, text, known, BASE))
            if why := wrong(place, response):
                found[f"{place}: {ascii(text)[:80]}"] = why
    return found


def wrong(place: Place, response: httpx.Response) -> str:
    """What is wrong with an answer to such a string, "" for nothing."""
    status, said = response.status_code, response.text
    if status >= 500:
        return f"{status}: {said[:300]}"
    if "Traceback (most recent call last)" in said or ", line 1, in <module>" in said:
        return f"{status} with a stack trace"
    if status < 400:
        return ""
    kind = response.headers.get("content-type", "").partition(";")[0]
    path = response.request.url.path
    foreign = dialects.takes_texts(path) or problems.say_at(path)
    taken = {PROBLEM_TYPE, "application/json"} if foreign else {PROBLEM_TYPE}
    if place.path == "/mcp":
        taken |= {"application/json", ""}  # the `mcp` package's own, of headers that it looks at
    if not path.startswith("/v1/"):
        taken.add("text/html")  # a page says itself what it could not take
    return "" if kind in taken else f"{status} as {kind!r}"
