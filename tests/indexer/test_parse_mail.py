# ruff: noqa: E501 - mails read better unbroken
"""EML: header lines, bodies, attachments to the parsers of their types; and mails built to hurt."""

from __future__ import annotations

import base64
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers import mail as mail_module
from longleaf.indexer.parsers.mail import EmlParser
from longleaf.indexer.parsers.mail_box import MboxParser
from longleaf.indexer.parsers.mail_kind import looks_like_mail


def read(source: str | bytes | EmailMessage, name: str = "a.eml") -> list[Document | Rejection]:
    data = source.encode() if isinstance(source, str) else bytes(source)
    return list(EmlParser().parse(data, name))


def one(source: str | bytes | EmailMessage) -> Document:
    (document,) = read(source)
    assert isinstance(document, Document)
    return document


def body(source: str | bytes | EmailMessage) -> str:
    return one(source).text.partition("\n\n")[2]


def rejected(found: list[Document | Rejection]) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in found if isinstance(each, Rejection)]


def parts(found: list[Document | Rejection]) -> list[str | None]:
    return [each.part for each in found if isinstance(each, Document)]


def message(text: str = "The words of the mail.", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Ada Doe <ada@example.com>"
    made["To"] = "bo@example.com, Cy <cy@example.com>"
    made["Subject"] = "The contract"
    made["Date"] = "Tue, 03 Mar 2020 10:11:12 +0100"
    made["Message-ID"] = "<1@example.com>"
    for label, value in headers.items():
        made[label] = value
    made.set_content(text)
    return made


# --- the mail itself -----------------------------------------------------------------------------


def test_header_lines_come_first_and_are_metadata() -> None:
    document = one(message(Cc="Dan <dan@example.com>"))
    assert document.text == (
        "From: Ada Doe <ada@example.com>\nTo: bo@example.com, Cy <cy@example.com>\n"
        "Cc: Dan <dan@example.com>\nDate: Tue, 03 Mar 2020 10:11:12 +0100\nSubject: The contract\n\n"
        "The words of the mail."
    )
    assert document.title == "The contract"
    assert document.part is None and document.key is None and document.warnings == ()
    assert dict(document.metadata) == {
        "from": "Ada Doe <ada@example.com>",
        "to": "bo@example.com, Cy <cy@example.com>",
        "cc": "Dan <dan@example.com>",
        "date": "2020-03-03T10:11:12+01:00",
        "message_id": "<1@example.com>",
    }


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        ("=?utf-8?q?Vertragsk=C3=BCndigung?=", "Vertragskündigung"),
        ("=?ISO-8859-1?Q?Caf=E9_=26?= more =?iso-8859-1?q?x?=", "Café & more x"),
        ("=?utf-8?b?5aWR57SE?=\r\n =?utf-8?b?44Gu5Lu2?=", "契約の件"),
        ("=?utf-8?b?5aWR5w==?= =?utf-8?b?tIQ=?=", "契約"),
        ("=?iso-2022-jp?b?GyRCN0BMcxsoQg==?=", "契約"),
        ("=?gb2312?b?us/NrA==?=", "合同"),
        ("=?none-such?q?=E9t=E9?=", "été"),
        ("=?utf-8?x?broken?= =?utf-8?b?!!!?=", "=?utf-8?x?broken?= "),
        ("folded\r\n over\r\n\tlines", "folded over lines"),
        ("Prüfung".encode().decode("latin-1"), "Prüfung"),
        ("Prüfung", "Prüfung"),
        ("", ""),
    ],
)  # fmt: skip
def test_subjects_are_read_in_any_encoding(raw: str, subject: str) -> None:
    data = f"From: a@b.c\r\nSubject: {raw}\r\n\r\nThe words of the mail.".encode("latin-1")
    title = one(data).title
    assert title.startswith(subject.strip()) if subject else title == "The words of the mail."


@pytest.mark.parametrize(
    ("encoding", "charset", "content", "text"),
    [
        ("quoted-printable", "utf-8", b"gr=C3=BC=C3=9Fe und=\n mehr", "grüße und mehr"),
        ("base64", "utf-8", base64.b64encode("grüße".encode()), "grüße"),
        ("8bit", "windows-1252", b"\x93x\x94 \x80", "“x” €"),
        ("8bit", "koi8-r", "договор".encode("koi8-r"), "договор"),
        ("7bit", "iso-2022-jp", "契約書".encode("iso-2022-jp"), "契約書"),
        ("8bit", "unknown-8bit", b"caf\xe9", "café"),
        ("8bit", "utf-8", b"caf\xe9 here", "café here"),
        ("8bit", "x-no-such-thing", "grüße".encode(), "grüße"),
        ("base64", "utf-8", b"!!! not base64", ""),
        ("nonsense", "utf-8", b"as it is", "as it is"),
    ],
)
def test_bodies_are_read_in_any_encoding(
    encoding: str, charset: str, content: bytes, text: str
) -> None:
    head = (
        f'From: a@b.c\nSubject: s\nContent-Type: text/plain; charset="{charset}"\n'
        f"Content-Transfer-Encoding: {encoding}\n\n"
    )
    assert text in body(head.encode() + content)


def test_plain_text_is_read_and_html_where_there_is_none() -> None:
    both = message("The plain words of it.")
    both.add_alternative("<p>The <b>HTML</b> words</p>", subtype="html")
    assert body(both) == "The plain words of it."
    html = message()
    html.set_content("<h1>Deal</h1><p>Only  <b>HTML</b></p>", subtype="html")
    document = one(html)
    assert document.text.endswith("Subject: The contract\n\nDeal\n\nOnly HTML")
    (section,) = document.sections
    assert document.text[section.start_char :].startswith("Deal") and section.title == "Deal"
    hint = message("See HTML.")
    hint.add_alternative("<p>All that there is to be said in this mail</p>", subtype="html")
    assert body(hint) == "All that there is to be said in this mail"


def test_flowed_lines_are_joined() -> None:
    flowed = "From: a@b.c\nContent-Type: text/plain; format=flowed\n\nOne line that \nwas broken.\n Next.\n> quoted \n-- \nAda"
    assert body(flowed) == "One line that was broken.\nNext.\n> quoted \n-- \nAda"


def test_pictures_in_the_text_are_counted() -> None:
    made = message()
    made.add_alternative("<p>The words of the mail <img src=cid:1></p>", subtype="html")
    made.get_payload()[1].add_related(b"GIF89a", "image", "gif", cid="<1>")  # type: ignore[index,union-attr,arg-type]
    assert one(made).warnings == ("1 pictures in its text were not read",)


def test_a_mail_of_header_lines_only_is_a_document() -> None:
    assert (
        one("From: a@b.c\nSubject: Nothing more\n\n").text == "From: a@b.c\nSubject: Nothing more"
    )
    with pytest.raises(NoTextFound):
        read("MIME-Version: 1.0\n\n\n")


@pytest.mark.parametrize("data", [b"", b"No header here.\n", b"<html>x: y", b"\0\0\0"])
def test_what_is_no_mail_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason in (RejectReason.EMPTY, RejectReason.MALFORMED)


def test_mails_are_known_by_their_first_lines() -> None:
    assert looks_like_mail(bytes(message()))
    assert looks_like_mail(b"From ada Tue Mar 3\nReceived: x\nDate: y\nsubject: z\n\n")
    assert not looks_like_mail(b"To: be\nOr: not\nThat: is\n\nSubject: x\nFrom: y\nDate: z")
    assert not looks_like_mail(b"Subject to the terms: nothing.\nFrom: here on\n")


# --- attachments ---------------------------------------------------------------------------------


def test_attachments_are_documents_of_their_own() -> None:
    made = message()
    made.add_attachment("Ein Vertrag über Ärzte".encode("latin-1"), maintype="text", subtype="plain",
                        filename="vertrag.txt", params={"charset": "iso-8859-1"})  # fmt: skip
    made.add_attachment(
        b"<h1>Page</h1><p>x", maintype="application", subtype="octet-stream", filename="p.html"
    )
    made.add_attachment(b"second", maintype="text", subtype="plain", filename="vertrag.txt")
    made.add_attachment(b'{"text": "one", "_id": "k"}\n{"text": "two"}\n{"bad": 1}', maintype="application",
                        subtype="json", filename="/tmp/x/data.jsonl")  # fmt: skip
    found = read(made)
    assert parts(found)[:4] == [None, "vertrag.txt", "p.html", "vertrag (2).txt"]
    assert parts(found)[4] == "data.jsonl!/k"
    assert [each.text for each in found[1:4] if isinstance(each, Document)] == [
        "Ein Vertrag über Ärzte",
        "Page\n\nx",
        "second",
    ]
    assert rejected(found) == [("data.jsonl, line 3", RejectReason.MALFORMED)]
    assert all(each.key is None for each in found if isinstance(each, Document))


def test_names_come_in_every_form_that_mails_give_them() -> None:
    for header, name in (
        ("filename*=utf-8''Vertrag%20%C3%BC.txt", "Vertrag ü.txt"),
        ("filename*0=long-; filename*1=name.txt", "long-name.txt"),
        ('filename="=?utf-8?q?K=C3=BCndigung.txt?="', "Kündigung.txt"),
        ('filename="../../etc/pass\twd.txt"', "pass wd.txt"),
        ('filename="C:\\\\x\\\\y.txt"', "y.txt"),
        ("filename=", "attachment.txt"),
    ):
        source = (
            "From: a@b.c\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nHello\n--x\n"
            f"Content-Type: text/plain\nContent-Disposition: attachment; {header}\n\nfile\n--x--\n"
        )
        assert parts(read(source))[1:] == [name]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on() -> None:
    made = message()
    for name, content, kind in (
        ("a.pdf", b"%PDF-1.4 broken", "pdf"),
        ("b.bin", bytes(range(256)), "octet-stream"),
        ("winmail.dat", b"\x78\x9f\x3e\x22", "ms-tnef"),
        ("smime.p7m", b"0\x80", "pkcs7-mime"),
        ("empty.txt", b"", "octet-stream"),
        ("blank.html", b"<script>x</script>", "html"),
    ):
        made.add_attachment(content, maintype="application", subtype=kind, filename=name)
    made.add_attachment(b"last", maintype="text", subtype="plain", filename="z.txt")
    found = read(made)
    assert parts(found) == [None, "z.txt"]
    assert rejected(found) == [
        ("a.pdf", RejectReason.MALFORMED),
        ("b.bin", RejectReason.UNSUPPORTED),
        ("winmail.dat", RejectReason.UNSUPPORTED),
        ("smime.p7m", RejectReason.ENCRYPTED),
        ("empty.txt", RejectReason.EMPTY),
        ("blank.html", RejectReason.EMPTY),
    ]


def test_a_parser_that_fails_fails_its_attachment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(mail_module, "_read", broken)
    made = message()
    made.add_attachment(b"x", maintype="text", subtype="plain", filename="z.txt")
    found = read(made)
    assert rejected(found) == [("z.txt", RejectReason.INTERNAL)]
    assert parts(found) == [None]


def test_encrypted_mails_say_so_and_keep_their_header_lines() -> None:
    pgp = "From: a@b.c\nSubject: Secret\nContent-Type: multipart/encrypted; boundary=x\n\n--x\n\nx\n--x--\n"
    assert one(pgp).warnings == ("its content is encrypted (PGP or S/MIME)",)
    assert one(pgp).title == "Secret"
    smime = (
        "From: a@b.c\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n"
        "Content-Transfer-Encoding: base64\n\nMIAGCSqG\n"
    )
    found = read(smime)
    assert isinstance(found[0], Document) and "encrypted (S/MIME)" in found[0].warnings[0]
    assert rejected(found) == [("smime.p7m", RejectReason.ENCRYPTED)]
    inline = one(message("-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----"))
    assert inline.warnings == ("its text is encrypted (PGP)",)


def test_signed_mails_are_read_without_their_signature() -> None:
    signed = (
        "From: a@b.c\nContent-Type: multipart/signed; boundary=x\n\n--x\n\nThe signed words here.\n--x\n"
        "Content-Type: application/pgp-signature; name=signature.asc\n\nxx\n--x--\n"
    )
    assert body(signed) == "The signed words here."


# --- mails in mails ------------------------------------------------------------------------------


def _nested(depth: int) -> EmailMessage:
    made = message(f"Words at the bottom, {depth} deep.")
    made.add_attachment(b"file", maintype="text", subtype="plain", filename="f.txt")
    for _ in range(depth):
        outer = message("An outer mail with some words.", **{"X-Outer": "1"})
        outer.add_attachment(made)
        made = outer
    return made


def test_mails_inside_mails_are_read_to_a_bounded_depth() -> None:
    found = read(_nested(2))
    name = "The contract.eml"
    assert parts(found) == [None, name, f"{name}!/{name}", f"{name}!/{name}!/f.txt"]
    assert rejected(found) == []
    deep = read(_nested(6))
    assert len(parts(deep)) == mail_module.MAX_DEPTH
    assert rejected(deep) == [("!/".join([name] * 4), RejectReason.EXPANDS)]


def test_attached_mail_files_count_as_depth_too() -> None:
    made = message()
    for _ in range(7):
        outer = message("Words of the outer mail here.")
        outer.add_attachment(
            bytes(made), maintype="application", subtype="octet-stream", filename="m.eml"
        )
        made = outer
    found = read(made)
    assert len(parts(found)) == mail_module.MAX_DEPTH
    assert rejected(found) == [("!/".join(["m.eml"] * 4), RejectReason.EXPANDS)]


def test_the_number_of_attachments_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_module, "MAX_PARTS", 5)
    made = message()
    for number in range(8):
        made.add_attachment(b"x", maintype="text", subtype="plain", filename=f"{number}.txt")
    found = read(made)
    assert len(parts(found)) == 6
    assert rejected(found) == [("5.txt", RejectReason.TOO_LARGE)]


# --- mailboxes -----------------------------------------------------------------------------------


def test_each_mail_of_a_mailbox_is_a_document() -> None:
    second = message("Second.\n\nFrom here on it is text.\n>From there, too.\n")
    second.add_attachment(b"file", maintype="text", subtype="plain", filename="f.txt")
    box = b"".join(
        b"From ada@example.com Tue Mar  3 10:11:12 2020\n" + data + b"\n"
        for data in (bytes(message("First.\n")), bytes(second), b"No: mail\n\n", bytes(message()))
    )
    found = list(MboxParser().parse(box, "in.mbox"))
    assert parts(found) == ["1", "2", "2!/f.txt", "4"]
    texts = [each.text.partition("\n\n")[2] for each in found if isinstance(each, Document)]
    assert texts[0] == "First." and texts[1].endswith("From here on it is text.\nFrom there, too.")
    assert rejected(found) == [("mail 3", RejectReason.EMPTY)]
    with pytest.raises(Rejected):
        list(MboxParser().parse(b"Dear Ada,\n\nFrom now on\n", "in.mbox"))


# --- hostile -------------------------------------------------------------------------------------


def test_header_lines_that_the_standard_library_chokes_on() -> None:
    """Under `email.policy.default` the first of these alone takes 106 s."""
    for header in (
        "Content-Type: text/plain; " + 'a="' * 20_000,
        "To: " + ", ".join(f'"P {n}, Esq." <p{n}@example.com>' for n in range(5_000)),
        "To: " + "(" * 50_000,
        "Subject: " + "=?utf-8?q?=C3=A9?= " * 20_000,
        "Subject: " + "=?" * 50_000,
        "Date: " + "9" * 50_000,
        "Date: Mon, 32 Foo 99999 99:99:99 +9999999",
        "Content-Disposition: attachment; " + "filename*0=a;" * 10_000,
        "Content-Type: text/plain; charset*=x'y'%zz; name*1*=q",
        "Message-ID: <" + "." * 50_000,
    ):
        found = read(f"From: a@b.c\n{header}\n\nThe words of the mail.")
        assert isinstance(found[0], Document) and found[0].text.startswith("From: a@b.c")


def test_a_long_header_line_is_cut_with_a_warning() -> None:
    document = one("From: a@b.c\nSubject: " + "word " * 10_000 + "\n\nThe words of the mail.")
    assert document.warnings == ("its Subject line is 50,000 characters long: cut",)


def test_parts_nested_without_end() -> None:
    source = "From: a@b.c\nContent-Type: multipart/mixed; boundary=b0\n\n" + "".join(
        f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(2_000)
    )
    try:
        found = read(source)
    except Rejected as refusal:
        reason = refusal.reason
    else:
        assert parts(found) == [None]
        return
    assert reason == RejectReason.MALFORMED


_LINES = st.lists(
    st.sampled_from(
        [
            *("From: a@b.c", "Subject: =?utf-8?b?w6k=?=", "Subject: =?x?q?=ff?=", "Date: now", ""),
            *(
                "Content-Type: multipart/mixed; boundary=x",
                "--x",
                "--x--",
                "Content-Type: text/html",
            ),
            *("Content-Type: message/rfc822", "Content-Transfer-Encoding: base64", "w6k=", "words"),
            *("Content-Disposition: attachment; filename=a.txt", "Content-Type: image/png", "<p>x"),
            *(
                'Content-Type: text/plain; charset="utf-16"',
                "Content-Type: multipart/alternative; boundary=y",
            ),
            *(
                "--y",
                " folded",
                "\u00e9",
                "Content-Type: application/pkcs7-mime",
                "Content-Type: a; b",
            ),
        ]
    ),
    max_size=25,
).map(lambda lines: "\r\n".join(["From: a@b.c", *lines]).encode())


@settings(deadline=None)
@given(_LINES | st.binary(max_size=200).map(lambda data: b"Subject: x\nContent-Type: " + data))
def test_any_mail_gives_storable_documents_or_a_named_refusal(data: bytes) -> None:
    try:
        found = read(data)
    except LongleafError:
        return
    seen = parts(found)
    assert len(set(seen)) == len(seen)
    for each in found:
        if isinstance(each, Document):
            assert each.text.strip() and each.title and (each.text + each.title).encode()
            assert not set("\0\r") & set(each.text)
        else:
            assert each.where and each.reason in list(RejectReason)
            assert each.reason != RejectReason.INTERNAL
