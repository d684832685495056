"""Which of a mail's texts are read: all that follow each other, one of those that say the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.mail import EmlParser


def read(source: str) -> list[Document | Rejection]:
    return list(EmlParser().parse(source.encode(), "a.eml"))


def one(source: str) -> Document:
    (document,) = read(source)
    assert isinstance(document, Document)
    return document


def body(source: str) -> str:
    return one(source).text.partition("\n\n")[2]


def parts(found: list[Document | Rejection]) -> list[str | None]:
    return [each.part for each in found if isinstance(each, Document)]


_LONG_HTML = "<p>" + " ".join(f"clause{n}" for n in range(50)) + "</p>"
_LONG = " ".join(f"clause{n}" for n in range(50))


def mime(kind: str, *parts: str) -> str:
    """A multipart of parts, each its header lines, an empty line and its content."""
    border = f"b{sum(map(len, parts))}"  # longer than those inside
    inside = "".join(f"--{border}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={border}\n\n{inside}--{border}--\n"


def plain(text: str) -> str:
    return f"Content-Type: text/plain; charset=utf-8\n\n{text}\n"


def html(text: str) -> str:
    return f"Content-Type: text/html; charset=utf-8\n\n{text}\n"


def mail_of(content: str) -> str:
    return f"From: a@b.c\nSubject: s\n{content}"


def test_a_footer_in_plain_text_does_not_push_out_an_html_body() -> None:
    footer = "_______________\nlist mailing list\nlist@example.com"
    document = one(mail_of(mime("mixed", html("<h1>Deal</h1><p>We agree.</p>"), plain(footer))))
    assert document.text.partition("\n\n")[2] == f"Deal\n\nWe agree.\n\n{footer}"
    assert document.warnings == ()
    (section,) = document.sections
    assert document.text[section.start_char : section.end_char] == "Deal\n\nWe agree."


def test_texts_beside_each_other_are_all_kept_in_order() -> None:
    both = mime("alternative", plain("The second, as plain text."), html("<p>The second.</p>"))
    source = mime(
        "mixed", html("<h2>One</h2>first"), both, html("<h2>Three</h2>third"), plain("end")
    )
    document = one(mail_of(source))
    assert document.text.partition("\n\n")[2] == (
        "One\n\nfirst\n\nThe second, as plain text.\n\nThree\n\nthird\n\nend"
    )
    assert [document.text[s.start_char : s.end_char].split()[0] for s in document.sections] == [
        "One",
        "Three",
    ]
    assert document.warnings == ()


def test_of_alternatives_a_stub_gives_way_with_a_warning() -> None:
    stub = "Your mail program cannot show HTML, so get another one."
    document = one(mail_of(mime("alternative", plain(stub), html(_LONG_HTML))))
    assert document.text.endswith(f"\n\n{_LONG}") and stub not in document.text
    assert document.warnings == (
        "its plain text was left out for its HTML text, which lacks 10 of 10 words",
    )
    half = " ".join(_LONG.split()[:25])
    assert body(mail_of(mime("alternative", plain(half), html(_LONG_HTML)))) == half
    less = " ".join(_LONG.split()[:24])
    fuller = one(mail_of(mime("alternative", plain(less), html(_LONG_HTML))))
    assert fuller.text.endswith(_LONG) and fuller.warnings == ()  # it says all of the other
    links = " ".join(f"https://example.com/{n}?a=b" for n in range(60))
    assert body(mail_of(mime("alternative", plain(links), html(_LONG_HTML)))) == _LONG


def test_what_only_the_side_that_is_left_out_says_is_told() -> None:
    half = " ".join(_LONG.split()[:25])
    document = one(mail_of(mime("alternative", plain(half), html(_LONG_HTML))))
    assert document.warnings == (
        "its HTML text was left out for its plain text, which lacks 25 of 50 words",
    )
    almost = " ".join(_LONG.split()[:40])
    assert one(mail_of(mime("alternative", plain(almost), html(_LONG_HTML)))).warnings == ()


def test_alternatives_may_hold_pages_with_pictures_and_files() -> None:
    picture = "Content-Type: image/png\nContent-ID: <1>\n\nPNG"
    file = "Content-Type: text/plain\nContent-Disposition: attachment; filename=f.txt\n\nfile"
    related = mime("related", html(_LONG_HTML), picture)
    document = one(mail_of(mime("alternative", plain("No HTML."), related)))
    assert document.text.endswith(f"\n\n{_LONG}")
    assert document.warnings[0] == "1 pictures in its text were not read"
    # As Apple Mail sends it: the text goes on behind the file.
    split = mime("mixed", html(_LONG_HTML), file, html("<p>And the end.</p>"))
    found = read(mail_of(mime("alternative", plain("No HTML."), split)))
    assert isinstance(found[0], Document)
    assert found[0].text.endswith(f"\n\n{_LONG}\n\nAnd the end.")
    assert parts(found) == [None, "f.txt"]
    inner = mime("related", mime("alternative", plain("No HTML."), html(_LONG_HTML)), picture)
    assert body(mail_of(mime("alternative", plain("No HTML at all."), inner))) == _LONG


def test_other_forms_of_a_text_are_told_or_read_where_there_is_no_other() -> None:
    calendar = "Content-Type: text/calendar\n\nBEGIN:VCALENDAR"
    document = one(mail_of(mime("alternative", plain("We meet at noon."), calendar)))
    assert document.text.endswith("We meet at noon.")
    assert document.warnings == ("another form of its text was not read: text/calendar",)
    entry = one(mail_of(mime("mixed", plain("We meet at noon."), calendar)))
    assert entry.warnings == ("a calendar entry in its text was not read",)
    enriched = "Content-Type: text/enriched\n\n<bold>Words</bold>"
    assert body(mail_of(mime("alternative", enriched))) == "<bold>Words</bold>"


def test_a_text_that_is_sent_as_a_file_stays_a_file() -> None:
    file = "Content-Type: text/plain\nContent-Disposition: attachment\n\nThe file."
    found = read(mail_of(mime("mixed", plain("The mail."), file)))
    assert parts(found) == [None, "attachment.txt"]
    assert isinstance(found[0], Document) and found[0].text.endswith("\n\nThe mail.")


def test_a_delivery_report_is_read() -> None:
    status = (
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; b.c\n\n"
        "Final-Recipient: rfc822; bo@b.c\nStatus: 5.1.1\n"
    )
    text = body(mail_of(mime("report", plain("It did not arrive."), status)))
    assert text.startswith("It did not arrive.\n\nReporting-MTA: dns; b.c\nFinal-Recipient: ")
    assert text.endswith("Status: 5.1.1")


def test_alternatives_inside_each_other_end() -> None:
    source = plain("innermost words")
    for n in range(60):
        source = mime("alternative", plain(f"Words {n}"), source)
    text = body(mail_of(source))  # too deep for choices: the texts follow each other
    assert text.endswith("Words 1\n\nWords 0\n\ninnermost words")


_WORDS = st.lists(st.sampled_from([f"word{n}" for n in range(40)]), min_size=1, max_size=60)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), _WORDS), min_size=1, max_size=6))
def test_no_text_of_a_mixed_mail_is_lost(texts: list[tuple[bool, list[str]]]) -> None:
    source = mime(
        "mixed",
        *(html(" ".join(words)) if rich else plain(" ".join(words)) for rich, words in texts),
    )
    assert body(mail_of(source)) == "\n\n".join(" ".join(words) for _, words in texts)


@settings(deadline=None)
@given(_WORDS, _WORDS)
def test_words_of_alternatives_are_kept_or_told(one_side: list[str], other: list[str]) -> None:
    document = one(mail_of(mime("alternative", plain(" ".join(one_side)), html(" ".join(other)))))
    said = set(document.text.partition("\n\n")[2].split())
    assert said in (set(one_side), set(other))
    for side in (set(one_side), set(other)):
        assert bool(document.warnings) or len(side - said) <= len(side) / 4
