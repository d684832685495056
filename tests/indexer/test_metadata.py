# ruff: noqa: E501 - captions read better unbroken
"""Metadata in one form; what a first page says of itself, checked by hand on the court files.

`python tests/indexer/test_metadata.py` prints what was found of each.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.types import Document, MetaValue, Page
from longleaf.indexer.metadata import complete, normalised
from longleaf.indexer.metadata_forms import doi_of, iso_date, language_code, names_of, year_of
from longleaf.indexer.metadata_text import find_doi, find_in_text
from longleaf.indexer.parsers import parser_for

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

_APPEALS = "United States Court of Appeals for the {} Circuit"
COURT_FILES: dict[str, tuple[str | None, str | None]] = {
    "broken-mime.pdf": ("Supreme Court of North Carolina", "363A14-4"),
    "ca10_010110462922.pdf": (_APPEALS.format("Tenth"), "21-800"),
    "ca1_00117684624.pdf": (_APPEALS.format("First"), "20-1507"),
    "ca2_1-1.pdf": (_APPEALS.format("Second"), "17-3510"),
    "ca3_003112692106.pdf": (_APPEALS.format("Third"), "17-2678"),
    "ca4_17.pdf": (None, "17-2218"),
    "ca5_00516242060.pdf": (_APPEALS.format("Fifth"), "21-50498"),
    "ca6_1-3.pdf": (_APPEALS.format("Sixth"), "17-3994"),
    "ca7_3.pdf": (_APPEALS.format("Seventh"), "17-2400"),
    "ca8_.pdf": (_APPEALS.format("Eighth"), "22-1801"),
    "ca9_19.pdf": (_APPEALS.format("Ninth"), "20-16276"),
    "cafc_3.pdf": (_APPEALS.format("Federal"), "14-1326"),
    "gov.uscourts.azd.1085839.3.0.pdf": (
        "United States District Court for the District of Arizona",
        "MDL 15-02641-PHX-DGC",
    ),
    "gov.uscourts.cacd.652774.40.0.pdf": (
        "United States District Court for the Central District of California",
        "8:16-cv-01261-DOC-KES",
    ),
    "gov.uscourts.cand.203070.27.0.pdf": (None, "4:08-cv-02214-SBA"),
    "missouri.pdf": ("Missouri Court of Appeals, Eastern District", "ED108783"),
    "ocr_pdf_variation.pdf": (None, "21-1298"),
    "rectangles_no.pdf": (
        "United States District Court for the District of Colorado",
        "1:21-cv-01061-KLM",
    ),
    "rectangles_yes.pdf": (None, "1:21-cv-01061-KLM"),
    "rectangles_yes_2.pdf": (None, None),
    "vector-pdf.pdf": ("Supreme Court of the United States", "11-889"),
    "word-docx.docx": (None, None),
}
"""File -> (court, docket) as its first page or its stamp says, None where it says nothing."""


def _document(text: str, **metadata: MetaValue) -> Document:
    return Document(text=text, title="", metadata=metadata)


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "date"),
    [
        ("2020", "2020"), (2020, "2020"), ("2020-3", "2020-03"), ("2020/03/21", "2020-03-21"),
        ("20200321", "2020-03-21"), ("21.3.2020", "2020-03-21"), ("March 3, 2020", "2020-03-03"),
        ("3rd Sept. 2020", "2020-09-03"), ("Mar 2020", "2020-03"), ("D:20200321", "2020-03-21"),
        ("2020-03-21T10:00:00+01:00", "2020-03-21T10:00:00+01:00"), ("21/03/2020", "2020-03-21"),
        ("03/21/2020", "2020-03-21"), ("05/05/2020", "2020-05-05"), ("03/04/2020", None),
        ("2020-02-30", None), ("June 27–30, 2004", None), ("soon", None), (True, None), (2.5, None),
        (("2020", "2021"), None), ("0000", None), ("99999", None), ("2020-03-21T99:00", "2020-03-21"),
    ],
)  # fmt: skip
def test_dates(stated: MetaValue, date: str | None) -> None:
    assert iso_date(stated) == date


@pytest.mark.parametrize(
    ("stated", "code"),
    [("en", "en"), ("EN", "en"), ("en-GB", "en"), ("pt_BR", "pt"), ("eng", "en"), ("ger", "de"),
     ("deu", "de"), ("German", "de"), ("nb-NO", "no"), ("tlh", None), ("", None), ("x", None)],
)  # fmt: skip
def test_languages(stated: str, code: str | None) -> None:
    assert language_code(stated) == code


@pytest.mark.parametrize(
    ("stated", "names"),
    [
        ("Ada Doe", ("Ada Doe",)),
        ("Ada Doe; Bo Roe", ("Ada Doe", "Bo Roe")),
        ("Ada Doe, Bo Roe and Cy Poe", ("Ada Doe", "Bo Roe", "Cy Poe")),
        ("Doe, Ada; Roe, Bo", ("Doe, Ada", "Roe, Bo")),
        ("Doe, Ada", ("Doe, Ada",)),
        (("Ada Doe", "Doe, Bo"), ("Ada Doe", "Doe, Bo")),
        ("Ada Doe & Bo Roe", ("Ada Doe", "Bo Roe")),
        ("Administrator", None),
        ("Microsoft Office User", None),
        (" ; ", None),
    ],
)
def test_names(stated: MetaValue, names: tuple[str, ...] | None) -> None:
    assert names_of(stated) == names


def test_dois_and_years() -> None:
    assert doi_of("https://doi.org/10.1371/journal.pmed.0020124.") == "10.1371/journal.pmed.0020124"
    assert doi_of("doi:10.1016/S0140-6736(05)66543-7)") == "10.1016/S0140-6736(05)66543-7"
    assert doi_of("10.1/too") is None
    assert year_of("June 27–30, 2004") == 2004
    assert year_of("2004-2005") is None


def test_nothing_that_was_stated_is_lost() -> None:
    stated: dict[str, MetaValue] = {
        "author": "Ada Doe; Bo Roe",
        "created": "2021-09-02T17:23:11",
        "language": "en-GB",
        "keywords": "law, lease",
        "docket_number": " 20-1507 ",
        "Own Field": 3.5,
    }
    found = normalised(stated)
    assert found == stated | {
        "authors": ("Ada Doe", "Bo Roe"),
        "date": "2021-09-02",
        "docket": "20-1507",
        "language": "en",
        "keywords": ("law", "lease"),
        "year": 2021,
    }
    assert normalised(found) == found


def test_what_has_no_form_stays_as_it_is() -> None:
    stated: dict[str, MetaValue] = {
        "date": "June 27–30, 2004",
        "language": "Klingon",
        "doi": "none",
    }
    assert normalised(stated) == {
        "date": "June 27–30, 2004",
        "year": 2004,
        "language_stated": "Klingon",
        "doi": "none",
    }
    assert normalised({"author": "DBOLDEN"}) == {"author": "DBOLDEN"}
    assert normalised({"author": "Administrator"}) == {"author": "Administrator"}


def test_flags_outweigh_the_sidecar_it_the_file_and_that_the_text() -> None:
    text = (
        "In the United States Court of Appeals\nfor the First Circuit\n\nNo. 20-1507\n\n"
        "Case: 20-1507 Document: 5 Page: 1 Date Filed: 12/22/2020"
    )
    document = _document(text, court="File's court", created="2021-01-01", author="Ada Doe")
    assert complete(document) == {
        "court": "File's court",
        "docket": "20-1507",
        "date": "2020-12-22",
        "year": 2020,
        "created": "2021-01-01",
        "author": "Ada Doe",
        "authors": ("Ada Doe",),
    }
    assert complete(document, sidecar={"court": "Sidecar's", "date": "1 May 2019"})["year"] == 2019
    both = complete(
        document,
        sidecar={"court": "Sidecar's", "author": "Bo Roe", "docket": ""},
        flags={"court": "Flag's"},
    )
    assert both["court"] == "Flag's"
    assert both["authors"] == ("Bo Roe",)
    assert "docket" not in both


_VALUES = (
    st.text(max_size=30)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.lists(st.text(max_size=10), max_size=3).map(tuple)
)
_FIELDS = st.sampled_from(
    ["author", "authors", "date", "created", "year", "doi", "language", "keywords", "court", "x"]
)


@settings(deadline=None)
@given(st.dictionaries(_FIELDS, _VALUES, max_size=6))
def test_any_metadata_comes_into_form_once(stated: dict[str, MetaValue]) -> None:
    found = normalised(stated)
    assert normalised(found) == found
    assert isinstance(found.get("year", 0), (int, float, str, tuple))
    language = found.get("language")
    assert language in (None, "", ()) or language_code(language) == language


# --- the first page ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "court", "docket"),
    [
        ("UNITED STATES DISTRICT COURT\nSOUTHERN DISTRICT OF NEW YORK\n---x\nJOHN DOE,\n"
         "-against-\t20 Civ. 1234 (ABC)\n",
         "United States District Court for the Southern District of New York", "20 Civ. 1234 (ABC)"),
        ("IN THE COURT OF CHANCERY OF THE STATE OF DELAWARE\n\nIN RE ACME\t)\tC.A. No. 2019-0123-JTL\n",
         "Court of Chancery of the State of Delaware", "2019-0123-JTL"),
        ("No. 19–1392\nIn the\nSupreme Court of the United States\n\nDOBBS v. JACKSON\n",
         "Supreme Court of the United States", "19-1392"),
        ("UNITED STATES BANKRUPTCY COURT\nDISTRICT OF DELAWARE\nIn re: ACME\nCase No. 20-10001 (KBO)\n",
         "United States Bankruptcy Court for the District of Delaware", "20-10001"),
        # Two numbers, neither alone on its line: none.
        ("SUPREME COURT OF TEXAS\nNo. 12-1 consolidated with No. 12-2\n", "Supreme Court of Texas", None),
        # The number in the court below.
        ("SUPREME COURT OF TEXAS\n\nOn appeal from the District Court, Cause No. 1999-2\n",
         "Supreme Court of Texas", None),
        # No court, or one in a sentence.
        ("Invoice No. 12-3456\nDue now\n", None, None),
        ("The parties submit to the\nSupreme Court of California\nand waive\n", None, None),
        ("MEMORANDUM\nThe Supreme Court of the United States held in No. 19-1392 that\n", None, None),
    ],
)  # fmt: skip
def test_captions(page: str, court: str | None, docket: str | None) -> None:
    found = find_in_text(_document(page))
    assert (found.get("court"), found.get("docket")) == (court, docket)


def test_only_the_first_page_counts() -> None:
    text = "A letter.\n" + "IN THE SUPREME COURT OF TEXAS\nNo. 12-1\n"
    assert find_in_text(Document(text, "", pages=(Page(1, 0, 10), Page(2, 10, len(text))))) == {}


@pytest.mark.parametrize(
    ("page", "doi"),
    [
        ("Title\nhttps://doi.org/10.1111/irv.12538\nAbstract", "10.1111/irv.12538"),
        ("doi:10.1371/journal.pbio.0000005 and 10.1371/journal.pbio.0000005.g001", "10.1371/journal.pbio.0000005"),
        ("10.1016/j.cell.2009.01.002Received 3 May", "10.1016/j.cell.2009.01.002"),
        ("10.1111/one.1234 and 10.1111/two.1234", None),
        ("Correction for: doi:10.1371/journal.pcbi.0030051", None),
        ("Section 10.1234/5 of this lease", None),
        ("no such thing", None),
    ],
)  # fmt: skip
def test_dois_of_the_page_itself(page: str, doi: str | None) -> None:
    assert find_doi(page) == doi


def _found_in_court_files() -> list[tuple[str, str, MetaValue | None, str | None]]:
    """(file, field, found, true)."""
    folder = DATA / "documents" / "court_files"
    rows: list[tuple[str, str, MetaValue | None, str | None]] = []
    for name, truth in COURT_FILES.items():
        data = (folder / name).read_bytes()
        try:
            document = next(iter(parser_for(name, data).parse(data, name)))
        except (Rejected, NoTextFound):
            continue
        assert isinstance(document, Document)
        found = find_in_text(document)
        rows += [
            (name, f, found.get(f), t) for f, t in zip(("court", "docket"), truth, strict=True)
        ]
    return rows


def test_court_files_are_known_and_none_is_wrong() -> None:
    if not (DATA / "documents" / "court_files").is_dir():
        pytest.skip("the shared test data is not on this machine")
    rows = _found_in_court_files()
    assert [row for row in rows if row[2] not in (None, row[3])] == []
    assert sum(found is not None for _, _, found, _ in rows) >= 0.9 * sum(
        bool(row[3]) for row in rows
    )


def test_other_documents_are_given_no_court() -> None:
    for name in ("legalbench_rag/contractnli", "documents/dc_laws", "documents/plos"):
        path = DATA / name / "corpus.jsonl"
        if not path.is_file():
            pytest.skip("the shared test data is not on this machine")
        with path.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                found = find_in_text(_document(record["text"]))
                assert not found.keys() & {"court", "docket"}, record["_id"]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_page_gives_texts_or_nothing(page: str) -> None:
    found = find_in_text(_document(page))
    assert all(isinstance(value, str) and value for value in found.values())


if __name__ == "__main__":
    counts: dict[str, int] = {}
    for name, field, found, true in _found_in_court_files():
        verdict = "nothing there" if found == true is None else (
            "right" if found == true else "unknown" if found is None else "WRONG")  # fmt: skip
        counts[f"{field} {verdict}"] = counts.get(f"{field} {verdict}", 0) + 1
        print(f"{name:36} {field:7} {verdict:14} {found}")
    print(counts)
