"""Golden sentence ends of legal and scientific writing, and what holds for any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.growth import assert_linear

from longleaf.indexer.sentences import sentence_spans, trim

# "|" marks each place where a sentence ends and another begins.
GOLDEN = [
    # legal: parties, statutes, reporters
    "The rule of Marbury v. Madison still stands. |It was not overruled.",
    "Compare Able vs. Baker on that point. |The two differ.",
    "In Tarn v. The City of Oxbow the claim failed. |Costs followed.",
    "He sued Acme Inc. Delaware law governed. |Nobody objected.",
    "He sued Acme Inc. |The court dismissed the claim.",
    "Finch Corp. Holdings and Moor Ltd. Partners merged with Hill & Co. Bank in May.",
    "Both sued Finch Corp. |However, neither served it.",
    "See 42 U.S.C. § 1983 and 17 C.F.R. § 240.10b-5. |Both apply.",
    "Roe was decided at 410 U.S. 113 (1973). |Later cases narrowed it.",
    "Cf. Ash v. Elm, 12 F.3d 456, 460 (9th Cir. 1994). |That panel split.",
    "The holding at 88 F. Supp. 2d 101 (S.D.N.Y. 2000) was reversed.",
    "The U.S. Supreme Court granted review. |Argument was in October.",
    "She moved to the U.S. |In 1990 she was naturalized.",
    "See Pub. L. No. 94-553, 90 Stat. 2541 (1976). |It took effect later.",
    "Docket No. CV-2020-17 is closed. |Nos. 18 and 19 are open.",
    "The answer was no. |The witness left.",
    "No. |The court disagrees.",
    "Under § 12(b)(iii) the lessee pays. |Under § 13. the lessor does.",
    "Id. at 5. |The point was conceded.",
    "Id. § 7 is to the same effect.",
    "As Art. 5 and art. IV, § 2 provide, it is void. |Sec. 3 is not.",
    "Fed. R. Civ. P. 12(b)(6) governs. |The motion is denied.",
    "Smith Bros. and Int'l Harvester Co. were joined on Mar. 3, 1999.",
    "The lease began on Jan. 5, 2001. |It ended in Dec. 2004.",
    "Dr. Smith testified. |Mr. J. R. Jones did not.",
    "Hon. Mary Roe presided, with Prof. Li as amicus.",
    "Martin Luther King, Jr. Boulevard was closed.",
    "He signed as John Roe, Esq. |The deed is valid.",
    "See Ex. A at 4; Dkt. 17, ¶ 5; Compl. ¶ 9. |Each says the same.",
    'The Court held that "the statute is clear." |It then stopped.',
    "“We affirm.” |So ended the case.",
    "(See the record below.) |The record is thin.",
    "The plaintiff ... did not appear. |Nor did counsel.",
    "The statute reads “no person ... The State” and nothing else.",
    "He may “enter the land . . . at will” under the deed.",
    "The text ended there. . . . |The rest is omitted.",
    "Was it void? |We think so. |Stop!",
    "“Was it void?” he asked. |Nobody knew.",
    # enumerations and numbered clauses
    "The Tenant shall:\n|(a) pay the rent;\n|(b) keep a dog; and\n|(c) leave.",
    "The Tenant shall (a) pay the rent; (b) keep a dog; and (c) leave. |So be it.",
    "1.1 The Landlord lets the house\n|1.2 The Tenant takes it\n|1.2.1 Rent is due",
    "1. Definitions. |The terms below apply.\n|2. Rent. |It is due.",
    "ARTICLE IV\n|ARTICLE V",
    "Section 3. Rent. |The rent is due.",
    "as set out in Section 12\n(b) of this Act, the lessee pays",
    "as required by paragraph\n(iii) of the deed. |It is void.",
    "under Section\n1.2 The Tenant pays",
    "Buy:\n|• milk\n|• bread",
    "none of which:\n|5.1. is known; or\n|5.2. becomes known. |6.1 percent is due.",
    "rose by a value of\n5.1 percent and\n5.2 percent",
    "Each of us agrees:\n|a. Term. |It is long.\n|b. Notice. |It is short.",
    "written by Lee,\nA. Ash and\nB. Elm",
    "The rule ends here.\n|Section 4. The next begins.",
    "as ruled under the old\nSection 4. The next begins.",
    "(1)\nOne;\n|(1A)\nOne and a half;\n|(a-1)\nMore;\n|(AA)\nLess.",
    "paid in dollars\n(US) only",
    "Note:\n|\uf0b7 milk\n|\uf0b7 bread",
    "A. Background\n\n|The parties met. |They talked.",
    "II. THE FACTS\n\n|On May 3, 2001 it rained.",
    # scientific
    "Lee et al. Proposed models vary. |Ours does not.",
    "This follows Lee et al. (2019). |We differ.",
    "As Lee et al. showed, it holds. |We extend it.",
    "It was first shown by Lee et al. |The effect was small.",
    "Fig. 2 shows this. |Figs. 3 and 4 do not.",
    "Compare fig. S1 with Eq. (3). |The terms cancel.",
    "E. coli and S. aureus were grown. |B. subtilis was not.",
    "The effect was small (p < 0.05). |It held at 3.5 mg.",
    "The dose was 0.5. |The result held.",
    "It is stable, e.g. in water, i.e. in rain. |It is not in acid.",
    "Vitamin C. |The dose was low.",
    "See doi:10.1000/xyz.123 for data. |Code is at https://example.org/a.b?c=d.e too.",
    "Data: www.example.org. |The code is free.",
    "This was shown before.[3,4] |We repeat it.",
    "This was shown before.12 |We repeat it.",
    "The mean was 3.14 and Table 2. shows it.",
    "Samples came at 9 a.m. |Then they froze.",
    "She holds a Ph.D. in law. |He does not.",
    "Is it so?! |Yes.",
    "Strains of Bacillus sp. CX-1 grew, approx. 5 per plate.",
    "Figure 1. The curve rises. |It then falls.",
    "Contents ........ 5\nRent ........ 6",
    # layout
    "A heading\n\n|The text begins here\nand goes on.",
    "one\r\n\r\n|two\r\nstill two",
    "one\n \t \n|two",
    "one\u2029|two",
    # other scripts
    "这是第一句。|这是第二句！|这是“第三句？”|完",
    "最初の文です。|「次の文です。」|終わり",
    "Fin. |¿Qué hora es? |¡Bien! |El art. 5 lo dice.",
    "La Sra. Paz firmó. |¿Y el Sr. Gil?",
    "هل هذا صحيح؟ |نعم.",
    "यह पहला वाक्य है। |यह दूसरा है।",
]


def _sentences(text: str) -> list[str]:
    return [text[a:b] for a, b in sentence_spans(text, 0, len(text))]


@pytest.mark.parametrize("marked", GOLDEN)
def test_golden_sentence_ends(marked: str) -> None:
    text = marked.replace("|", "")
    assert _sentences(text) == [part.strip() for part in marked.split("|")]


def test_only_the_asked_range_is_read() -> None:
    text = "One. Two. Three. Four."
    assert sentence_spans(text, 5, 16) == [(5, 9), (10, 16)]
    assert sentence_spans(text, 4, 5) == []


WRITING = st.lists(
    st.sampled_from(
        [
            *"aZ5.!?…\n\r\t \"')(]-§。؟",
            ". . .",
            "v. ",
            "1.2 ",
            "(a) ",
            "\n\n",
            "\r\n",
            "\u2029",
            "\u0301",
        ]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=200), WRITING), st.integers(0, 10), st.integers(0, 10))
def test_spans_are_ordered_trimmed_and_hold_everything(text: str, skip: int, drop: int) -> None:
    start, end = min(skip, len(text)), max(min(skip, len(text)), len(text) - drop)
    at = start
    for a, b in sentence_spans(text, start, end):
        assert at <= a < b <= end
        assert not text[at:a].strip()
        assert trim(text, a, b) == (a, b)
        at = b
    assert not text[at:end].strip()


@pytest.mark.parametrize(
    "unit",
    [
        ".",
        ". ",
        " ",
        "\n",
        "\n ",
        "a.",
        "a. B",
        "(",
        "1.2 ",
        "\n1.",
        "[3",
        "I",
        '?"',
        "\r",
        "。\u0301",
    ],
)
def test_no_repetition_makes_time_grow_faster_than_text(unit: str) -> None:
    def text(size_chars: int) -> str:
        return unit * (size_chars // len(unit)) + "x"

    assert_linear(text, lambda text: sentence_spans(text, 0, len(text)), 20_000)
