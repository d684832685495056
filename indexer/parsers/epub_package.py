"""What an EPUB's own XML says: its pages in order, its table of contents, its metadata, its lock.

Read leniently, as reading systems do, because every second book breaks some rule. Entities that a
file declares stay unread, so a declaration expands nothing, and nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.zipped import Package, resolve

if TYPE_CHECKING:
    from lxml.etree import _Element

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_MAX_XML_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 50

_DAY = re.compile(r"\s*(\d{4}(?:-\d\d(?:-\d\d)?)?)(?!\d)")
_ISBN = re.compile(r"(?:urn:)?(?:isbn[:\s]*)?((?:97[89][-\s]?)?(?:\d[-\s]?){9}[\dX])", re.I)
_DOI = re.compile(r"(?:urn:)?(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,9}/\S+)", re.I)


@dataclass(frozen=True, slots=True)
class Item:
    """A page of the spine; `file` None where the package does not hold it."""

    file: str | None
    media_type: str
    is_contents: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the table of contents; `depth` counts from 1."""

    title: str
    depth: int


@dataclass(slots=True)
class Book:
    """`contents` has for each file the first entry that opens it; `fields` are Dublin Core's."""

    pages: list[Item] = field(default_factory=list)
    contents: dict[str, Entry] = field(default_factory=dict)
    fields: dict[str, list[str]] = field(default_factory=dict)


def read_book(package: Package) -> Book:
    """The book in `package`. Raises `Rejected`: MALFORMED, ENCRYPTED, EXPANDS."""
    opf = _package_document(package)
    root = _tree(package, opf)
    items = {
        each.get("id", ""): each for each in _elements(root, "item") if each.get("id") is not None
    }
    book = Book(fields=_fields(root))
    spine = next(_elements(root, "spine"), None)
    contents_files = _contents_files(root, opf, package)
    seen: set[str] = set()
    for reference in [] if spine is None else _elements(spine, "itemref"):
        item = items.get(reference.get("idref", ""))
        file = None if item is None else _target(package, opf, item.get("href", ""))
        media_type = "" if item is None else item.get("media-type", "").lower()
        if file is not None and file in seen:
            continue  # each page once, however often it is named
        seen.add(file or "")
        is_contents = file in contents_files or (item is not None and _has(item, "nav"))
        book.pages.append(Item(file, media_type, is_contents))
    if not book.pages:
        raise _malformed(package, "lists no pages")
    _refuse_encrypted(package, {page.file for page in book.pages})
    nav = next((item for item in items.values() if _has(item, "nav")), None)
    ncx = items.get("" if spine is None else spine.get("toc", ""))
    for item, read in ((nav, _entries_of_nav), (ncx, _entries_of_ncx)):
        file = None if item is None else _target(package, opf, item.get("href", ""))
        if file is not None and not book.contents:
            book.contents = _first_of_each_file(package, file, read(_tree(package, file)))
    return book


def metadata_of(book: Book) -> Mapping[str, MetaValue]:
    """The book's metadata as a document's."""
    metadata: dict[str, MetaValue] = {}
    if authors := book.fields.get("creator"):
        metadata["authors"] = tuple(authors)
    for key in ("language", "publisher"):
        if values := book.fields.get(key):
            metadata[key] = values[0]
    if subjects := book.fields.get("subject"):
        metadata["keywords"] = tuple(subjects)
    for date in book.fields.get("date", ()):
        if (day := _DAY.match(date)) is not None:
            metadata["date"] = day[1]
            break
    for identifier in book.fields.get("identifier", ()):
        if (isbn := _ISBN.fullmatch(identifier)) is not None:
            digits = re.sub(r"[-\s]", "", isbn[1]).upper()
            if _is_isbn(digits):
                metadata.setdefault("isbn", digits)
        elif (doi := _DOI.fullmatch(identifier)) is not None:
            metadata.setdefault("doi", doi[1].lower())
    return metadata


def _package_document(package: Package) -> str:
    container = package.find(_CONTAINER)
    if container is not None:
        for root in _elements(_tree(package, container), "rootfile"):
            if (file := _target(package, "", root.get("full-path", ""))) is not None:
                return file
    for file in package.names:
        if file.lower().endswith(".opf"):
            return file
    raise _malformed(package, "has no package document")


def _tree(package: Package, file: str) -> _Element:
    from lxml import etree

    with package.open(file) as stream:
        data = stream.read(_MAX_XML_BYTES + 1)
    if len(data) > _MAX_XML_BYTES:
        raise Rejected(
            RejectReason.EXPANDS, f"{package.name}: {file} in it is over {_MAX_XML_BYTES:,} bytes."
        )
    parser = etree.XMLParser(
        recover=True,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as failure:
        raise _malformed(package, f"holds {file}, which is no XML ({failure})") from failure
    if root is None:
        raise _malformed(package, f"holds {file}, which is no XML")
    return root


def _elements(root: _Element, name: str) -> Iterator[_Element]:
    """Elements called so in any namespace, or in none, in document order."""
    return root.iter(f"{{*}}{name}")


def _target(package: Package, base: str, reference: str) -> str | None:
    address = reference.partition("#")[0]
    where = resolve(base, address) if address else None
    return None if where is None else package.find(where)


def _has(item: _Element, wanted: str) -> bool:
    return wanted in item.get("properties", "").split()


def _contents_files(root: _Element, opf: str, package: Package) -> set[str | None]:
    """What EPUB 2's guide calls the printed table of contents."""
    guides = (each for each in _elements(root, "reference") if each.get("type") == "toc")
    return {_target(package, opf, each.get("href", "")) for each in guides} - {None}


def _refuse_encrypted(package: Package, pages: set[str | None]) -> None:
    file = package.find(_ENCRYPTION)
    if file is None:
        return
    for data in _elements(_tree(package, file), "EncryptedData"):
        methods = [each.get("Algorithm", "") for each in _elements(data, "EncryptionMethod")]
        if any(method in _FONT_OBFUSCATION for method in methods):
            continue
        for reference in _elements(data, "CipherReference"):
            if _target(package, "", reference.get("URI", "")) in pages - {None}:
                raise Rejected(
                    RejectReason.ENCRYPTED,
                    f"{package.name} is locked by digital rights management.",
                    "Index a copy without the lock, if you may make one.",
                )


def _fields(root: _Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    metadata = next(_elements(root, "metadata"), None)
    if metadata is None:
        return found
    for name in ("title", "creator", "language", "publisher", "subject", "date", "identifier"):
        elements = list(_elements(metadata, name))
        if name == "creator":
            elements = [each for each in elements if _said(each, "role") == "aut"] or elements
        if name == "date":
            elements.sort(key=lambda each: _said(each, "event") != "publication")
        values = (" ".join(_words(each).split()) for each in elements)
        found[name] = list(dict.fromkeys(value for value in values if value))
    return found


def _said(element: _Element, name: str) -> str:
    """The attribute called so in any namespace."""
    return next(
        (str(value) for key, value in element.items() if str(key).rpartition("}")[2] == name), ""
    )


def _first_of_each_file(
    package: Package, base: str, entries: Iterator[tuple[str, str, int]]
) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for title, reference, depth in entries:
        file = _target(package, base, reference)
        shown = shorten(title)
        if file is not None and shown:
            found.setdefault(file, Entry(shown, min(depth, _MAX_DEPTH)))
    return found


def _entries_of_nav(root: _Element) -> Iterator[tuple[str, str, int]]:
    navs = list(_elements(root, "nav"))
    marked = (nav for nav in navs if "toc" in _said(nav, "type").split())
    nav = next(marked, navs[0] if navs else None)
    for link in [] if nav is None else _elements(nav, "a"):
        depth = sum(1 for _ in link.iterancestors("{*}ol"))
        yield _words(link), link.get("href", ""), depth


def _entries_of_ncx(root: _Element) -> Iterator[tuple[str, str, int]]:
    for point in _elements(root, "navPoint"):
        label = next(point.iterchildren("{*}navLabel"), None)
        content = next(point.iterchildren("{*}content"), None)
        if label is not None and content is not None:
            depth = 1 + sum(1 for _ in point.iterancestors("{*}navPoint"))
            yield _words(label), content.get("src", ""), depth


def _words(element: _Element) -> str:
    return clean("".join(str(piece) for piece in element.itertext())).text


def _is_isbn(written: str) -> bool:
    """Whether the check digit is right: any ten digits look like one."""
    digits = [10 if char == "X" else int(char) for char in written]
    if len(digits) == 13:
        return (
            10 not in digits
            and sum(d * (1 + 2 * (at % 2)) for at, d in enumerate(digits)) % 10 == 0
        )
    return 10 not in digits[:-1] and sum(d * (10 - at) for at, d in enumerate(digits)) % 11 == 0


def _malformed(package: Package, how: str) -> Rejected:
    return Rejected(
        RejectReason.MALFORMED,
        f"{package.name} {how}: no EPUB book.",
        "Open it in a reader and save it again.",
    )
