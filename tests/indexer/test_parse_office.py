"""DOC, RTF, ODT: through LibreOffice where it is, else refused by name, and its walls."""

from __future__ import annotations

import http.server
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.indexer.word import docx, listed, paragraph, run, style, zipped

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Role
from longleaf.indexer import office
from longleaf.indexer.office import LibreOffice, find_libreoffice
from longleaf.indexer.parsers import parser_for
from longleaf.indexer.parsers.docx import DocxParser

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
WORD_2003 = (
    b'<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument '
    b'xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"><w:body><w:p><w:r>'
    b"<w:t>Words of 2003</w:t></w:r></w:p></w:body></w:wordDocument>"
)
RTF = rb"{\rtf1\ansi Words of {\b an} old file.\par More.}"


def read(data: bytes, name: str, context: ParseContext = NO_CONTEXT) -> Document:
    (document,) = parser_for(name, data).parse(data, name, context)
    assert isinstance(document, Document)
    return document


def refusal(data: bytes, name: str, context: ParseContext = NO_CONTEXT) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(data, name, context)
    assert name in caught.value.message
    return caught.value


def stand_in(made: bytes, heard: list[str]) -> ParseContext:
    """A context whose converter makes `made` of everything."""

    def convert(_data: bytes, suffix: str) -> bytes:
        heard.append(suffix)
        return made

    return ParseContext(convert=convert)


@pytest.fixture
def libre(tmp_path: Path) -> LibreOffice:
    program = find_libreoffice()
    if program is None:
        pytest.skip("LibreOffice is not installed (apt-get install libreoffice-writer-nogui)")
    return LibreOffice(program, tmp_path, limit_seconds=300)


@pytest.fixture
def real(libre: LibreOffice) -> ParseContext:
    return ParseContext(convert=libre.convert)


# --- without LibreOffice -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.doc", "a.dot", "a.rtf", "a.odt", "a.fodt", "a.wpd"])
def test_without_the_program_the_outcome_names_it(name: str) -> None:
    data = {".rtf": RTF, ".odt": zipped({"mimetype": "x"})}.get(Path(name).suffix, OLE)
    error = refusal(data, name)
    assert error.reason is RejectReason.NEEDS_PROGRAM
    assert "apt-get install libreoffice-writer-nogui" in error.hint


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (docx(paragraph("A newer file under an old name")), "A newer file under an old name"),
        (b"<html><body><p>A page</p></body></html>", "A page"),
        (b"Plain words that a program saved as DOC.", "Plain words that a program saved as DOC."),
    ],
)
def test_what_is_no_old_file_is_read_as_what_it_is(data: bytes, text: str) -> None:
    assert read(data, "a.doc").text == text


@pytest.mark.parametrize(
    ("name", "data", "suffix"),
    [
        ("a.doc", OLE + bytes(600), ".doc"),
        ("a.doc", RTF, ".rtf"),
        ("a.rtf", OLE + bytes(600), ".doc"),
        ("a.docx", RTF, ".rtf"),
        ("a.docx", OLE + bytes(600), ".doc"),
        ("a.dot", b"\xdb\xa5" + bytes(600), ".dot"),
        ("a.dot", OLE + bytes(600), ".dot"),
        ("a.odt", zipped({"mimetype": "x"}), ".odt"),
        ("a.doc", WORD_2003, ".xml"),
    ],
)
def test_the_bytes_say_what_is_converted(name: str, data: bytes, suffix: str) -> None:
    heard: list[str] = []
    made = docx(paragraph("converted"))
    assert read(data, name, stand_in(made, heard)).text == "converted"
    assert heard == [suffix]


def test_a_converters_refusal_names_the_file() -> None:
    def fail(_data: bytes, _suffix: str) -> bytes:
        raise Rejected(RejectReason.TOO_SLOW, "It took too long.", "Be quick.")

    error = refusal(RTF, "a.rtf", ParseContext(convert=fail))
    assert error.reason is RejectReason.TOO_SLOW and error.hint == "Be quick."


def word_stream(flags: int) -> bytes:
    return OLE + bytes(504) + b"\xec\xa5" + bytes(9) + bytes([flags]) + bytes(500)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.doc", word_stream(0x01)),
        ("a.doc", OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le")),
        ("a.doc", OLE + bytes(600) + "DRMContent".encode("utf-16-le")),
        ("a.odt", zipped({"META-INF/manifest.xml": "<x><m:encryption-data/></x>"})),
    ],
)
def test_locked_files_are_refused_before_anything_is_converted(name: str, data: bytes) -> None:
    heard: list[str] = []
    error = refusal(data, name, stand_in(b"", heard))
    assert error.reason is RejectReason.ENCRYPTED and heard == []
    assert read(word_stream(0x02), "a.doc", stand_in(docx(paragraph("x")), heard)).text == "x"


# --- with LibreOffice --------------------------------------------------------------------------


def test_an_rtf_file_is_converted_and_leaves_nothing(real: ParseContext, tmp_path: Path) -> None:
    document = read(RTF, "a.rtf", real)
    assert document.text == "Words of an old file.\n\nMore."
    assert list(tmp_path.iterdir()) == []


NUMBERED = (
    '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="1"/>'
    '<w:numFmt w:val="upperRoman"/><w:lvlText w:val="Article %1."/></w:lvl></w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
)


@pytest.mark.parametrize("kind", ["doc", "odt", "rtf"])
def test_numbers_notes_and_headings_survive_the_way_through_an_older_format(
    libre: LibreOffice, real: ParseContext, tmp_path: Path, kind: str
) -> None:
    source = docx(
        paragraph("Rent", style("Heading1") + listed(1))
        + paragraph(run("It is due") + '<w:r><w:footnoteReference w:id="2"/></w:r>')
        + paragraph("Keys", style("Heading1") + listed(1)),
        {
            "numbering": NUMBERED,
            "styles": '<w:style w:type="paragraph" w:styleId="Heading1">'
            '<w:name w:val="heading 1"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>',
            "footnotes": f'<w:footnote w:id="2">{paragraph("Monthly.")}</w:footnote>',
        },
    )
    older = _saved_as(libre, source, kind, tmp_path)
    document = read(older, f"a.{kind}", real)
    assert document.text.split("\n\n") == [
        *("Article I. Rent", "It is due[1]", "Article II. Keys", "[1] Monthly."),
    ]
    assert [each.title for each in document.sections] == ["Article I. Rent", "Article II. Keys"]
    assert [each.role for each in document.regions] == [Role.FOOTNOTE]


def _saved_as(libre: LibreOffice, source: bytes, kind: str, folder: Path) -> bytes:
    """`source` in an older format, as LibreOffice writes it."""
    import subprocess

    made = folder / "made"
    made.mkdir()
    (made / "a.docx").write_bytes(source)
    command = [
        *(str(libre._program), f"-env:UserInstallation={(made / 'profile').as_uri()}"),
        *("--headless", "--convert-to", kind, "--outdir", str(made), str(made / "a.docx")),
    ]
    for _ in range(2):  # a new profile asks for a second start
        subprocess.run(command, check=False, capture_output=True)
    return (made / f"a.{kind}").read_bytes()


def test_words_xml_of_2003_is_read(real: ParseContext) -> None:
    assert read(WORD_2003, "a.doc", real).text == "Words of 2003"


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (OLE + bytes(range(256)) * 8, ".doc"),
        (bytes(range(255, -1, -1)) * 8, ".wpd"),
        (b"<?xml version='1.0'?><office><p>", ".fodt"),
    ],
)
def test_what_libreoffice_cannot_read_does_not_become_plain_text(
    libre: LibreOffice, tmp_path: Path, data: bytes, suffix: str
) -> None:
    with pytest.raises(Rejected) as caught:
        libre.convert(data, suffix)
    assert caught.value.reason is RejectReason.MALFORMED
    assert list(tmp_path.iterdir()) == []


class _Ear(http.server.BaseHTTPRequestHandler):
    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_HEAD = do_OPTIONS = do_PROPFIND = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine and what was asked of it."""
    heard: list[str] = []
    ear = type("Ear", (_Ear,), {"heard": heard})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ear)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


ODF = "urn:oasis:names:tc:opendocument:xmlns"
NAMES = (
    f'xmlns:office="{ODF}:office:1.0" xmlns:text="{ODF}:text:1.0" xmlns:draw="{ODF}:drawing:1.0" '
    f'xmlns:svg="{ODF}:svg-compatible:1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def flat_odt(inside: str) -> bytes:
    return (
        f'<?xml version="1.0"?><office:document {NAMES} office:version="1.2" '
        'office:mimetype="application/vnd.oasis.opendocument.text"><office:body><office:text>'
        f"<text:p>Seen</text:p>{inside}</office:text></office:body></office:document>"
    ).encode()


def test_a_file_cannot_make_the_converter_fetch_anything(
    real: ParseContext, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    """With LibreOffice's own settings this asks for obj.odt 11 times and for pic.png twice."""
    address, heard = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    frame = '<draw:frame svg:width="5cm" svg:height="5cm">{}</draw:frame>'
    linked = (
        f'<text:section text:name="a"><text:section-source xlink:href="{secret.as_uri()}"/>'
        f'</text:section><text:section text:name="b"><text:section-source '
        f'xlink:href="{address}/section.html"/></text:section><text:p>'
        + frame.format(f'<draw:image xlink:href="{address}/pic.png"/>')
        + frame.format(f'<draw:object xlink:href="{address}/obj.odt"/>')
        + "</text:p>"
    )
    document = read(flat_odt(linked), "a.fodt", real)
    assert document.text == "Seen"
    assert heard == []


def test_time_is_limited_and_the_whole_group_is_killed(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    marker = tmp_path / "pids"
    slow.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! > {marker}\nwait\n")
    slow.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(Rejected) as caught:
        LibreOffice(slow, scratch, limit_seconds=2).convert(RTF, ".rtf")
    assert caught.value.reason is RejectReason.TOO_SLOW
    assert list(scratch.iterdir()) == []
    for pid in map(int, marker.read_text().split()):
        assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """Whether the process has ended, given a little time to do so; a zombie has."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", RejectReason.MALFORMED),
        ("kill -SEGV $$", RejectReason.CRASHED),
        ('ln -s /etc/passwd "$OUT/document.docx"', RejectReason.MALFORMED),
        (': > "$OUT/document.docx"', RejectReason.MALFORMED),
        ('head -c 3000 /dev/zero > "$OUT/document.docx"', RejectReason.EXPANDS),
    ],
)
def test_what_the_program_leaves_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: RejectReason
) -> None:
    monkeypatch.setattr(office, "MAX_OUTPUT_BYTES", 2_000)
    fake = tmp_path / "fake"
    fake.write_text(f"#!/bin/sh\nOUT=$PWD/out\n{script}\n")
    fake.chmod(0o755)
    with pytest.raises(Rejected) as caught:
        LibreOffice(fake, tmp_path, limit_seconds=60).convert(RTF, ".rtf")
    assert caught.value.reason is reason


def test_a_new_profile_may_ask_for_a_second_start(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    fake.write_text(
        "#!/bin/sh\n[ -e again ] && echo PK > out/document.docx && exit 0\n: > again; exit 81\n"
    )
    fake.chmod(0o755)
    assert LibreOffice(fake, tmp_path).convert(RTF, ".rtf") == b"PK\n"


def test_the_program_is_told_nothing_of_our_surroundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_SECRET", "token")
    fake = tmp_path / "fake"
    fake.write_text('#!/bin/sh\nenv > out/document.docx; echo "ARGS $@" >> out/document.docx\n')
    fake.chmod(0o755)
    told = LibreOffice(fake, tmp_path).convert(RTF, ".RTF").decode()
    assert "LONGLEAF_SECRET" not in told
    assert f"HOME={tmp_path}/office-" in told and f"TMPDIR={tmp_path}/office-" in told
    assert "--headless" in told and "document.rtf" in told


def test_a_program_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        LibreOffice(tmp_path / "nothing", tmp_path).convert(RTF, ".rtf")
    assert caught.value.reason is RejectReason.NEEDS_PROGRAM


def test_the_program_ends_with_the_thread_that_started_it(tmp_path: Path) -> None:
    """A killed indexer must not leave converters behind."""
    import subprocess
    import sys

    if sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent")
    slow, marker = tmp_path / "slow", tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\necho $$ > {marker}\nexec sleep 600\n")
    slow.chmod(0o755)
    code = (
        "from pathlib import Path; from longleaf.indexer.office import LibreOffice;"
        f"LibreOffice(Path({str(slow)!r}), Path({str(tmp_path)!r})).convert(b'', '.rtf')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not marker.is_file() or not marker.read_text().strip():
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _is_gone(int(marker.read_text()))


@pytest.mark.slow
def test_every_old_file_of_the_shared_data_ends_by_name(
    data_folder: Path, real: ParseContext
) -> None:
    outcomes: list[str] = []
    for path in sorted(data_folder.rglob("*")):
        if path.suffix not in (".doc", ".rtf"):
            continue
        try:
            assert read(path.read_bytes(), path.name, real).text.strip()
            outcomes.append("read")
        except (Rejected, NoTextFound) as end:
            outcomes.append(type(end).__name__)
    assert outcomes.count("read") >= 70


def test_docx_and_office_suffixes_do_not_meet() -> None:
    from longleaf.indexer.parsers.office import OFFICE_PARSERS

    claimed = [suffix for each in OFFICE_PARSERS for suffix in each.suffixes]
    assert len(claimed) == len(set(claimed))
    assert not set(claimed) & set(DocxParser().suffixes)
    assert set(claimed) == office.SUFFIXES - {".xml"}
