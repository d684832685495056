"""Small Word packages made from their parts, for the tests of everything that reads them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping

from longleaf.core.types import Document
from longleaf.indexer.parsers.docx import DocxParser

NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
)
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_ROOTS = {
    "styles": "styles",
    "numbering": "numbering",
    "footnotes": "footnotes",
    "endnotes": "endnotes",
    "settings": "settings",
    "header1": "hdr",
}


def run(text: str, properties: str = "") -> str:
    """A run that says `text`."""
    said = f"<w:rPr>{properties}</w:rPr>" if properties else ""
    return f'<w:r>{said}<w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(content: str, properties: str = "") -> str:
    """A paragraph of runs, or of words where `content` has no markup."""
    inside = content if "<" in content or not content else run(content)
    said = f"<w:pPr>{properties}</w:pPr>" if properties else ""
    return f"<w:p>{said}{inside}</w:p>"


def style(name: str) -> str:
    """The properties of a paragraph in the style `name`."""
    return f'<w:pStyle w:val="{name}"/>'


def listed(num_id: int, level: int = 0) -> str:
    """The properties of a paragraph in a list."""
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{num_id}"/></w:numPr>'


def table(*rows: tuple[str, ...]) -> str:
    """A table of cells; a cell without markup is one paragraph."""
    cells = (
        "".join(f"<w:tc>{c if c.startswith('<w:') else paragraph(c)}</w:tc>" for c in row)
        for row in rows
    )
    return f"<w:tbl><w:tblPr/>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def zipped(entries: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def relations(targets: Mapping[str, str]) -> str:
    """A relationships part: ids are the last words of the types."""
    rows = "".join(
        f'<Relationship Id="{kind}" Type="{_OFFICE}/{kind.rstrip("0123456789")}" '
        f'Target="{target}"/>'
        for kind, target in targets.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}">{rows}</Relationships>'


def content_types(parts: Iterable[str]) -> str:
    """What each part is, without which LibreOffice opens nothing."""
    kinds = {"document.main": "document", **{name.rstrip("0123456789"): name for name in parts}}
    rows = "".join(
        f'<Override PartName="/word/{file}.xml" ContentType="application/'
        f'vnd.openxmlformats-officedocument.wordprocessingml.{kind}+xml"/>'
        for kind, file in kinds.items()
    )
    return (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f"{rows}</Types>"
    )


def docx(body: str, parts: Mapping[str, str] | None = None, **entries: str | bytes) -> bytes:
    """A package with `body` and parts such as `styles` (their content without the root)."""
    parts = parts or {}
    content: dict[str, str | bytes] = {
        "[Content_Types].xml": content_types(parts),
        "_rels/.rels": relations({"officeDocument": "word/document.xml"}),
        "word/_rels/document.xml.rels": relations({name: f"{name}.xml" for name in parts}),
        "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
    }
    for name, inside in parts.items():
        root = _ROOTS.get(name)
        content[f"word/{name}.xml"] = (
            inside if root is None else f"<w:{root} {NAMESPACES}>{inside}</w:{root}>"
        )
    return zipped({**content, **entries})


def read(data: bytes) -> Document:
    """The document in `data`."""
    (document,) = DocxParser().parse(data, "file.docx")
    assert isinstance(document, Document)
    return document


def read_body(body: str, parts: Mapping[str, str] | None = None) -> Document:
    """What a package with `body` says."""
    return read(docx(body, parts))
