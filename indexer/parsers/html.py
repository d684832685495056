"""HTML: the words a reader of the page sees, block by block, with its headings as sections.

Left out: head, scripts, styles, templates, noscript, embedded media, and elements that are marked
`hidden` or whose own `style` says `display: none` or `visibility: hidden` (what is visible again
inside the latter is kept). `aria-hidden` hides from screen readers only and is read. Blocks end
lines, table cells are parted by tabs, `pre` keeps its white space. Knows no style sheets and runs
no script: what those show or hide is not known here. The tree is walked without
recursion; nesting beyond 2,000 levels is flattened first, because the HTML5 algorithm looks up the
whole stack for each block (100,000 nested div: 18 s as they are, 0.5 s flattened).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.decode import Decoded, charset_in_markup, clean, decode
from longleaf.indexer.parsers.html_styles import VISIBILITIES, declared
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_SKIPPED = frozenset(
    (
        *("head", "script", "style", "template", "noscript", "noframes", "datalist", "map"),
        *("iframe", "object", "embed", "canvas", "svg", "audio", "video"),
        *("annotation", "annotation-xml"),  # MathML's second copy of a formula
    )
)
_PREFORMATTED = frozenset(("pre", "textarea", "listing", "xmp", "plaintext"))
_HEADING_LEVELS = {f"h{level}": level for level in range(1, 7)}

_GAPS = ("", " ", "\t", "\n", "\n\n")
_SPACE, _TAB, _LINE, _PARAGRAPH = 1, 2, 3, 4
_LINE_TAGS = (
    *("div", "li", "dt", "dd", "tr", "br", "caption", "figcaption", "summary", "legend"),
    *("option", "optgroup", "body", "html", "center", "thead", "tbody", "tfoot", "dir", "menu"),
    *("dialog", "hgroup", "search"),
)
_PARAGRAPH_TAGS = (
    *("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre"),
    *("section", "article", "header", "footer", "main", "aside", "nav", "figure", "hr", "form"),
    *("fieldset", "address", "details", "listing", "xmp"),
)
_GAP_OF = {
    **dict.fromkeys(("td", "th"), _TAB),
    **dict.fromkeys(_LINE_TAGS, _LINE),
    **dict.fromkeys(_PARAGRAPH_TAGS, _PARAGRAPH),
}

_MAX_DEPTH = 2_000
_HOSTILE_DEPTH = 250_000
# Tags that nest as deep as they are written; void elements and those that close each other do not.
_NESTING_TAG = re.compile(
    r"<(?P<closes>/?)(?!(?:p|li|dt|dd|tr|td|th|option|br|hr|img|input|meta|link|col|area|base|wbr|source|"
    r"track|param|embed|html|head|body|title|script|style|textarea|h[1-6])\b)(?P<name>[a-z][^\s/<>]*)[^<>]*>",
    re.IGNORECASE,
)
_META_FIELDS = {
    "author": "author",
    "dc.creator": "author",
    "citation_author": "author",
    "article:author": "author",
    "date": "date",
    "dc.date": "date",
    "dcterms.date": "date",
    "citation_publication_date": "date",
    "article:published_time": "date",
    "description": "description",
    "og:description": "description",
    "keywords": "keywords",
}
_XHTML = re.compile(r"\A\s*<\?xml\b|<html[^>]*\sxmlns\s*=", re.IGNORECASE)
_XHTML_PRESCAN_CHARS = 2_000
_SELF_CLOSED = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr)\b)"
    r"(?P<name>[a-z][\w.-]*)(?P<attributes>(?:\s[^<>]*)?)/>",
    re.IGNORECASE,
)
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")  # soft hyphen, zero-width space, stray BOM
_WHITE = re.compile("[ \t\n\f\r\u00a0]+")
_SLASHED_DATE = re.compile(r"\d{4}(?:/\d{1,2}){1,2}$")


@dataclass(slots=True)
class _OpenHeading:
    level: int
    depth: int
    start_char: int = -1
    first_part: int = 0


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """What a page says: its visible text ("" for none), its headings, and what its head states."""

    text: str
    marks: Sequence[Mark]
    title: str
    metadata: Mapping[str, MetaValue]
    warnings: tuple[str, ...]


class HtmlParser:
    """A `core.protocols.Parser` for HTML and XHTML."""

    media_type = "text/html"
    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, MALFORMED) and `NoTextFound`."""
        name = clean(name).text
        page = read_page(data, name)
        if not page.text:
            raise NoTextFound(f"{name} has no visible text (a page made by script, or images).")
        title = page.title or next((mark.title for mark in page.marks), "")
        yield Document(
            text=page.text,
            title=title or title_from(page.text, name),
            sections=nest(page.marks, len(page.text)),
            metadata=page.metadata,
            warnings=page.warnings,
        )


def read_page(data: bytes, name: str) -> HtmlPage:
    """An HTML or XHTML page. Raises `Rejected` (EMPTY, MALFORMED)."""
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    decoded = _flatten(_closed(decode(data, name, charset_in_markup(data))), name)
    try:
        tree = LexborHTMLParser(decoded.text)
    except (SelectolaxError, ValueError, RuntimeError) as failure:
        raise Rejected(
            RejectReason.MALFORMED, f"{name} cannot be read as HTML: {failure}."
        ) from failure
    page = _Page()
    if tree.root is not None:
        page.read(tree.root)
    title = shorten(_head_title(tree))
    return HtmlPage(page.text(), page.marks, title, _metadata(tree), decoded.warnings)


def _closed(decoded: Decoded) -> Decoded:
    """XHTML with `<title/>` as `<title></title>`: read as HTML, the first swallows the page."""
    if _XHTML.search(decoded.text[:_XHTML_PRESCAN_CHARS]) is None:
        return decoded
    closed = _SELF_CLOSED.sub(r"<\g<name>\g<attributes>></\g<name>>", decoded.text)
    return Decoded(closed, decoded.warnings)


def _flatten(decoded: Decoded, file_name: str) -> Decoded:
    """The same source with tags nested beyond `_MAX_DEPTH` taken out; usually unchanged.

    Raises `Rejected` (MALFORMED) where they go so deep that no page is meant by it.
    """
    open_tags: Counter[str] = Counter()
    depth = deepest = 0

    def outer_only(tag: re.Match[str]) -> str:
        nonlocal depth, deepest
        name = tag["name"].lower()
        if not tag["closes"]:
            open_tags[name] += 1
            depth += 1
            if depth > _HOSTILE_DEPTH:
                raise Rejected(
                    RejectReason.MALFORMED,
                    f"{file_name} nests more than {_HOSTILE_DEPTH:,} elements in each other.",
                )
            deepest = max(deepest, depth)
            return tag.group() if depth <= _MAX_DEPTH else "<br>"
        if not open_tags[name]:
            return tag.group()  # closes nothing, so it must not make the page look shallower
        open_tags[name] -= 1
        depth -= 1
        return tag.group() if depth < _MAX_DEPTH else "<br>"

    if decoded.text.count("<") <= _MAX_DEPTH:
        return decoded
    flat = _NESTING_TAG.sub(outer_only, decoded.text)
    if deepest <= _MAX_DEPTH:
        return decoded
    note = f"elements nested {deepest:,} deep: flattened beyond {_MAX_DEPTH:,}"
    return Decoded(flat, (*decoded.warnings, note))


class _Page:
    """Builds the text: white space collapses, blocks part lines, headings note where they begin."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._parts: list[str] = []
        self._chars = 0
        self._gap = 0  # into _GAPS: what must stand before the next word
        self._preformatted_depth = -1
        self._heading: _OpenHeading | None = None
        self._visible: list[tuple[int, bool]] = []  # depth from which on text can be seen or not

    def text(self) -> str:
        return "".join(self._parts).rstrip()

    def read(self, root: LexborNode) -> None:
        """The whole tree below `root`, depth first, without recursion."""
        node: LexborNode | None = root
        depth = 0
        while node is not None:
            child = self._enter(node, depth)
            if child is not None:
                node, depth = child, depth + 1
                continue
            while node is not None:
                self._leave(node.tag or "", depth)
                following = node.next
                if following is not None:
                    node = following
                    break
                node, depth = node.parent, depth - 1

    def _enter(self, node: LexborNode, depth: int) -> LexborNode | None:
        """Take the node in; returns its first child if its children are to be read."""
        tag = node.tag or ""
        if tag == "-text":
            if not self._visible or self._visible[-1][1]:
                self._add(node.text_content or "")
            return None
        if tag in _SKIPPED or not node.is_element_node:
            return None
        self._gap = max(self._gap, _GAP_OF.get(tag, 0))
        if "hidden" in node.attrs:
            return None
        if style := node.attrs.get("style"):
            shown = declared(style)
            if shown.get("display") == "none":
                return None
            visibility = shown.get("visibility", "inherit")
            if visibility in VISIBILITIES and node.first_child is not None:
                self._visible.append((depth, VISIBILITIES[visibility]))
        if tag in _PREFORMATTED and self._preformatted_depth < 0:
            self._preformatted_depth = depth
        if tag in _HEADING_LEVELS and self._heading is None:
            self._heading = _OpenHeading(_HEADING_LEVELS[tag], depth)
        return node.first_child

    def _leave(self, tag: str, depth: int) -> None:
        self._gap = max(self._gap, _GAP_OF.get(tag, 0))
        if self._visible and self._visible[-1][0] == depth:
            self._visible.pop()
        if depth == self._preformatted_depth:
            self._preformatted_depth = -1
        heading = self._heading
        if heading is not None and heading.depth == depth:
            self._heading = None
            if heading.start_char >= 0:
                title = shorten("".join(self._parts[heading.first_part :]))
                self.marks.append(Mark(title, heading.level, heading.start_char))

    def _add(self, raw: str) -> None:
        raw = _INVISIBLE.sub("", raw)
        if self._preformatted_depth >= 0:
            self._append(raw.replace("\r\n", "\n").replace("\r", "\n"))
            return
        words = _WHITE.sub(" ", raw)
        if words.startswith(" "):
            self._gap = max(self._gap, _SPACE)
        if words.strip(" "):
            self._append(words.strip(" "))
            self._gap = _SPACE if words.endswith(" ") else 0

    def _append(self, words: str) -> None:
        if not words or (not self._parts and words.isspace()):
            return
        if self._parts:
            self._parts.append(_GAPS[self._gap])
            self._chars += len(_GAPS[self._gap])
        self._gap = 0
        if self._heading is not None and self._heading.start_char < 0 and not words.isspace():
            self._heading.start_char = self._chars
            self._heading.first_part = len(self._parts)
        self._parts.append(words)
        self._chars += len(words)


def _head_title(tree: LexborHTMLParser) -> str:
    return next((node.text() for node in _head_nodes(tree) if node.tag == "title"), "")


def _head_nodes(tree: LexborHTMLParser) -> Iterator[LexborNode]:
    node = tree.head.first_child if tree.head is not None else None
    while node is not None:
        yield node
        node = node.next


def _metadata(tree: LexborHTMLParser) -> Mapping[str, MetaValue]:
    found: dict[str, list[str]] = {}
    root = tree.root
    language = root.attrs.get("lang") if root is not None and root.is_element_node else None
    if language:
        found["language"] = [language.strip()]
    for node in _head_nodes(tree):
        if node.tag != "meta":
            continue
        attributes = node.attributes
        label = (attributes.get("name") or attributes.get("property") or "").strip().lower()
        content = " ".join((attributes.get("content") or "").split())
        field = _META_FIELDS.get(label)
        if field is None or not content:
            continue
        if field == "keywords":
            values = [word.strip() for word in content.split(",") if word.strip()]
        elif field == "date":
            values = [content.replace("/", "-") if _SLASHED_DATE.match(content) else content]
        else:
            values = [content]
        # One field may be stated under several names; repeats under one name are several values.
        if field not in found:
            found[field] = values
        elif field == "author" and values[0] not in found[field]:
            found[field] += values
    return {
        field: values[0] if len(values) == 1 else tuple(values) for field, values in found.items()
    }
