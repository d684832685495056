"""Addresses that make servers fetch what they should not, and documents that hold one.

`vectors` all lead to one place, by the port of a server of the test that counts who comes; those
with names of others (rebinding, metadata services) would first ask for the name, which is counted
too.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.indexer import word
from tests.indexer.pdfs import raw_pdf, stream

_HOSTS = (
    # One address, in every spelling that some parser takes.
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "127.127.127.127",
    "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.1",
    "0177.0.0.01", "00000177.0.0.1", "127.0.0.1.", "0", "0.0.0.0", "[::1]", "[::]",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "[::1%25eth0]",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127\u30020\u30020\u30021", "loc\u0430lhost", "%31%32%37.0.0.1", "127.0.0.1%00.example",
    # Of other machines: cloud metadata, and names that are bound anew between two questions.
    "169.254.169.254", "2852039166", "0xa9fea9fe", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]",
    "metadata.example", "7f000001.rebind.example", "127.0.0.1.rebind.example",
    # Userinfo, and where parsers do not agree on which part is the host.
    "good.example@127.0.0.1", "good.example:pass@127.0.0.1", "good.example%40127.0.0.1",
    "127.0.0.1\\@good.example", "good.example\\@127.0.0.1", "good.example#@127.0.0.1",
    "127.0.0.1#.good.example", "127.0.0.1?.good.example", "127.0.0.1&@good.example",
    "good.example@@127.0.0.1", "good.example@[::1]", "127.0.0.1\t", "127.0.0.1%2f.good.example",
)  # fmt: skip


def vectors(port: int) -> list[str]:
    """More than sixty addresses that a fetcher would open; `/redirect` leads on to itself."""
    schemes = (
        "file:///etc/hostname", "file://localhost/etc/hostname", "file:/etc/hostname",
        f"gopher://127.0.0.1:{port}/_GET%20/", f"dict://127.0.0.1:{port}/info",
        f"ftp://127.0.0.1:{port}/x", f"ldap://127.0.0.1:{port}/x", f"tftp://127.0.0.1:{port}/x",
        f"sftp://127.0.0.1:{port}/x", f"jar:http://127.0.0.1:{port}/x!/y",
        f"netdoc://127.0.0.1:{port}/x", f"ws://127.0.0.1:{port}/", f"s3://127.0.0.1:{port}/x",
        f"\\\\127.0.0.1@{port}\\share\\x", f"//127.0.0.1:{port}/x", f"HTTP://127.0.0.1:{port}/x",
        f"http:127.0.0.1:{port}/x", f"http:/127.0.0.1:{port}/x", f"http:///127.0.0.1:{port}/x",
        f"http:\\\\127.0.0.1:{port}\\x", f"ht\ttp://127.0.0.1:{port}/x", f" http://127.0.0.1:{port}",
        f"url:http://127.0.0.1:{port}/x", f"view-source:http://127.0.0.1:{port}/x",
        f"http://127.0.0.1:{port}/redirect", f"http://127.0.0.1:0{port}/x",
        f"http://127.0.0.1:{port}/x\r\nHost: good.example", f"https://127.0.0.1:{port}/x",
        "data:text/html,<img src=x>", f"php://filter/resource=http://127.0.0.1:{port}/x",
    )  # fmt: skip
    return [*(f"http://{host}:{port}/x" for host in _HOSTS), *schemes]


def documents(url: str) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes): files that ask their reader, in all ways of their type, for `url`."""
    text = "The tenant pays the rent on the first day of the month."
    yield "page.html", _html(url, text)
    yield "picture.svg", _svg(url, text)
    for name in ("law.xml", "article.nxml", "text.xhtml"):
        yield f"entity-{name}", _xml(f'[<!ENTITY x SYSTEM "{url}">]', f"<p>&x; {text}</p>", url)
        yield (
            f"parameter-{name}",
            _xml(f'[<!ENTITY % x SYSTEM "{url}"> %x;]', f"<p>{text}</p>", url),
        )
        yield f"type-{name}", _xml(f'SYSTEM "{url}"', f"<p>{text}</p>", url)
        yield f"plain-{name}", _xml("", f"<p>{text}</p>", url)
    yield "contract.docx", _docx(url, text)
    yield "brief.pdf", _pdf(url, text)
    yield "note.md", f"# Note\n\n![a]({url}) <img src='{url}'> [b]: {url}\n\n{text}\n".encode()
    yield "paper.tex", _tex(url, text)
    yield "letter.eml", _mail(url, text)
    yield "book.epub", _epub(url, text)
    yield "table.csv", f'=WEBSERVICE("{url}"),"{text}"\n{url},{text}\n'.encode()
    yield "rows.jsonl", f'{{"id": "{ascii(url)[1:-1]}", "text": "{text}"}}\n'.encode()
    yield "plain.txt", f"{url}\n{text}\n".encode()


def _xml(doctype: str, body: str, url: str) -> bytes:
    declared = f"<!DOCTYPE article {doctype}>" if doctype else ""
    return (
        f'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="{url}"?>{declared}'
        '<article xmlns:xi="http://www.w3.org/2001/XInclude" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:noNamespaceSchemaLocation="{url}"><xi:include href="{url}" parse="text"/>'
        f"<body>{body}</body></article>"
    ).encode()


def _html(url: str, text: str) -> bytes:
    return (
        f'<html><head><base href="{url}"><link rel=stylesheet href="{url}"><script src="{url}">'
        f'</script><meta http-equiv=refresh content="0;url={url}"><style>@import "{url}";</style>'
        f'<link rel=prefetch href="{url}"></head><body background="{url}"><img src="{url}" '
        f'srcset="{url} 2x"><iframe src="{url}"></iframe><object data="{url}"></object>'
        f'<embed src="{url}"><video poster="{url}"><source src="{url}"></video><svg><image '
        f'href="{url}"/></svg><form action="{url}"></form><p>{text}</p></body></html>'
    ).encode()


def _svg(url: str, text: str) -> bytes:
    return (
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "{url}">]><svg '
        f'xmlns="http://www.w3.org/2000/svg"><image href="{url}"/><use href="{url}#a"/>'
        f"<text>&x; {text}</text></svg>"
    ).encode()


def _docx(url: str, text: str) -> bytes:
    target = url.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    kinds = (
        "attachedTemplate",
        "image",
        "hyperlink",
        "aFChunk",
        "oleObject",
        "frame",
        "subDocument",
    )
    told = "".join(
        f'<Relationship Id="r{number}" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        f'relationships/{kind}" Target="{target}" TargetMode="External"/>'
        for number, kind in enumerate(kinds)
    )
    rels = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f"{told}</Relationships>"
    )
    field = f'<w:fldSimple w:instr=" INCLUDEPICTURE &quot;{target}&quot; \\d "/>'
    body = word.paragraph(word.run(text)) + f"<w:p>{field}</w:p>"
    entries = {"word/_rels/document.xml.rels": rels, "word/_rels/settings.xml.rels": rels}
    return word.docx(body, None, **entries)


def _pdf(url: str, text: str) -> bytes:
    uri = (
        url.encode("latin-1", "replace").replace(b"(", b"").replace(b")", b"").replace(b"\\", b"/")
    )
    action = b"<< /S /URI /URI (%s) >>" % uri
    form = b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM '%s'>]><x>&y;</x>" % uri
    return raw_pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R /OpenAction %s /AA << /WC << /S /GoToR /F << /FS"
            b" /URL /F (%s) >> /D [0 /Fit] >> >> /AcroForm << /Fields [] /XFA 8 0 R >> >>"
            % (action, uri),
            2: b"<< /Type /Pages /Count 1 /Kids [6 0 R] >>",
            3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            5: b"<< >>",
            6: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0"
            b" R >> /XObject << /I 9 0 R >> >> /Contents 7 0 R /Annots [<< /Type /Annot /Subtype"
            b" /Link /Rect [0 0 9 9] /A %s >> << /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A <<"
            b" /S /SubmitForm /F (%s) >> >>] >>" % (action, uri),
            7: stream(b"BT /F 12 Tf 72 700 Td (%s) Tj ET /I Do" % text.encode()),
            8: stream(form),
            9: b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /F << /FS /URL /F (%s) >>"
            b" /Length 0 >>\nstream\n\nendstream" % uri,
        }
    )


def _tex(url: str, text: str) -> bytes:
    return (
        f"\\documentclass{{article}}\\usepackage{{{url}}}\\input{{{url}}}\\include{{{url}}}"
        f"\\begin{{document}}\\includegraphics{{{url}}}\\bibliography{{{url}}}\\write18{{curl "
        f"{url}}} {text}\\end{{document}}"
    ).encode()


def _mail(url: str, text: str) -> bytes:
    return (
        f"From: a@mail.example\r\nTo: b@mail.example\r\nSubject: rent\r\nMIME-Version: 1.0\r\n"
        f"List-Unsubscribe: <{' '.join(url.split())}>\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: '
        f'message/external-body; access-type=URL; URL="{" ".join(url.split())}"\r\n\r\n'
        f"Content-Type: text/plain\r\n\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        f"--b--\r\n"
    ).encode()


def _epub(url: str, text: str) -> bytes:
    return word.zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": "<container><rootfiles><rootfile full-path='a.opf' "
            "media-type='application/oebps-package+xml'/></rootfiles></container>",
            "a.opf": "<package xmlns='http://www.idpf.org/2007/opf' version='3.0'><manifest>"
            f"<item id='a' href='a.xhtml' media-type='application/xhtml+xml'/><item id='b' "
            f'href="{url.replace("&", "&amp;").replace("<", "")}" '
            "media-type='application/xhtml+xml'/></manifest><spine>"
            "<itemref idref='b'/><itemref idref='a'/></spine></package>",
            "a.xhtml": _html(url, text),
        }
    )
