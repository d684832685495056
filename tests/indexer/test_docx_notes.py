"""Footnotes and endnotes: where they stand, what their marks show, and which ones count."""

from __future__ import annotations

from tests.indexer.word import paragraph, read_body, run

from longleaf.core.types import Document, Role


def reference(note_id: int, kind: str = "footnote", own: str = "") -> str:
    custom = f' w:customMarkFollows="1"/><w:t>{own}</w:t>' if own else "/>"
    return f'<w:r><w:{kind}Reference w:id="{note_id}"{custom}</w:r>'


def notes(kind: str, **texts: str) -> str:
    separator = f'<w:{kind} w:type="separator" w:id="-1">{paragraph(run("----"))}</w:{kind}>'
    mark = f"<w:r><w:{kind}Ref/></w:r>"
    return separator + "".join(
        f'<w:{kind} w:id="{name[1:]}">{paragraph(mark + run(f" {text}"))}</w:{kind}>'
        for name, text in texts.items()
    )


def marked(document: Document) -> list[str]:
    return [
        document.text[each.start_char : each.end_char]
        for each in document.regions
        if each.role is Role.FOOTNOTE
    ]


def test_notes_stand_behind_the_text_in_the_order_of_their_marks() -> None:
    document = read_body(
        paragraph(run("Rent") + reference(5) + run(" is due") + reference(2, "endnote") + run("."))
        + paragraph(run("Keys") + reference(3)),
        {
            "footnotes": notes("footnote", n3="For the door.", n5="Monthly.", n9="Nobody asks."),
            "endnotes": notes("endnote", n2="See above."),
        },
    )
    assert document.text == (
        "Rent[1] is due[i].\n\nKeys[2]\n\n[1] Monthly.\n\n[2] For the door.\n\n[i] See above."
    )
    assert marked(document) == ["[1] Monthly.\n\n[2] For the door.\n\n[i] See above."]


def test_sections_of_the_body_end_before_the_notes() -> None:
    document = read_body(
        paragraph(run("Rent") + reference(1), '<w:outlineLvl w:val="0"/>') + paragraph("is due"),
        {"footnotes": notes("footnote", n1="Monthly.")},
    )
    (section,) = document.sections
    assert section.title == document.title == "Rent"
    assert document.text[: section.end_char] == "Rent[1]\n\nis due"


def test_a_note_of_several_paragraphs_and_tables() -> None:
    inside = paragraph(run("one")) + paragraph(run("two"))
    cells = "".join(f"<w:tc>{paragraph(word)}</w:tc>" for word in ("a", "b"))
    document = read_body(
        paragraph(run("x") + reference(1)),
        {
            "footnotes": f'<w:footnote w:id="1">{inside}<w:tbl><w:tr>{cells}</w:tr>'
            "</w:tbl></w:footnote>"
        },
    )
    assert document.text == "x[1]\n\n[1] one\n\ntwo\n\na | b"


def test_a_mark_that_the_author_typed_is_kept() -> None:
    document = read_body(
        paragraph(run("x") + reference(1, own="*") + run("y") + reference(2)),
        {"footnotes": notes("footnote", n1="Starred.", n2="Counted.")},
    )
    assert document.text == "x*y[1]\n\n[*] Starred.\n\n[1] Counted."


def test_notes_of_deleted_text_are_gone() -> None:
    document = read_body(
        paragraph(run("x") + f"<w:del>{reference(1)}</w:del>" + reference(2)),
        {"footnotes": notes("footnote", n1="Deleted.", n2="Kept.")},
    )
    assert document.text == "x[1]\n\n[1] Kept."


def test_notes_count_as_settings_and_sections_say() -> None:
    def section(inside: str) -> str:
        return f"<w:sectPr><w:footnotePr>{inside}</w:footnotePr></w:sectPr>"

    each = '<w:numRestart w:val="eachSect"/>'
    texts = {f"n{number}": f"note {number}" for number in range(1, 5)}
    document = read_body(
        paragraph(run("a") + reference(1) + reference(2))
        + paragraph("", section('<w:numFmt w:val="upperLetter"/>' + each))
        + paragraph(run("b") + reference(3) + reference(4))
        + section(each),
        {
            "footnotes": notes("footnote", **texts),
            "settings": '<w:footnotePr><w:numStart w:val="5"/></w:footnotePr>',
        },
    )
    assert document.text.split("\n\n")[:2] == ["a[E][F]", "b[5][6]"]
    assert document.warnings == ()


def test_numbers_that_restart_on_each_page_are_said_to_be_unknown() -> None:
    document = read_body(
        paragraph(run("a") + reference(1)),
        {
            "footnotes": notes("footnote", n1="note"),
            "settings": '<w:footnotePr><w:numRestart w:val="eachPage"/></w:footnotePr>',
        },
    )
    assert document.text == "a[1]\n\n[1] note"
    assert "restart on each page" in document.warnings[0]


def test_a_lost_notes_part_costs_the_notes_only() -> None:
    document = read_body(
        paragraph(run("a") + reference(1)), {"footnotes": "</w:footnotes><w:footnotes>"}
    )
    assert document.text == "a[1]"
    assert "footnotes.xml" in document.warnings[0]
    assert document.warnings[1] == "footnotes that the file does not hold: 1"
