"""XML bytes to a tree that cannot hurt, and walking it: no network, no files, no recursion.

Entities stay unexpanded in the tree; `Entities` gives their text, within a budget for the whole
document. Nothing outside the file is ever opened: external entities and DTDs are named and left
out. libxml2's own limits hold (256 levels, 10 MB in one piece of text, little amplification);
whatever meets one is refused. Markup that is not well formed is read as far as libxml2 can recover
it, with a warning. A tree takes about 200 bytes a tag, so their number is bounded as well.
"""

from __future__ import annotations

import functools
import html.entities
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.blocks import Blocks, one_line
from longleaf.indexer.parsers.decode import charset_in_markup, decode

if TYPE_CHECKING:
    from lxml.etree import XMLParser, _Element

MAX_TAGS = 4_000_000
_MAX_ENTITY_CHARS = 2_000_000
"""Text that a document's entities may add up to: a page of definitions used on every line."""
_MAX_ENTITY_DEPTH = 40

_DECLARATION = re.compile(r"\s*(?:<\?xml\b[^>]*\?>)?\s*")
_REFERENCE = re.compile(r"&(#?\w[\w.:-]*);|<[^<>]*>")
_FATAL = 3  # libxml2's level of what is not well formed


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed file: its outermost element, its entities, and what the user should know.

    `broken` says where it is not well formed, "" where it is.
    """

    root: _Element
    entities: Entities
    warnings: tuple[str, ...]
    broken: str = ""


def read_tree(data: bytes, name: str) -> Tree:
    """The tree of an XML file.

    Raises `Rejected`: EMPTY, MALFORMED (no XML at all, or nested too deep), EXPANDS (an entity
    bomb), TOO_LARGE (one piece of text over 10 MB), TOO_MUCH_MEMORY (millions of tags).
    """
    from lxml import etree

    decoded = decode(data, name, charset_in_markup(data))
    start = _DECLARATION.match(decoded.text)
    source = decoded.text[start.end() if start else 0 :]
    if not source:
        raise Rejected(RejectReason.EMPTY, f"{name} holds only white space.")
    if (tags := source.count("<")) > MAX_TAGS:
        raise Rejected(
            RejectReason.TOO_MUCH_MEMORY,
            f"{name} has {tags:,} tags; the limit is {MAX_TAGS:,}.",
            "Split it into several files.",
        )
    # Never `collect_ids=False`: with it lxml 6.1 opens external DTDs although `load_dtd` is off.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        recover=True,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    _refuse_files(parser)
    try:
        root = etree.fromstring(source.encode("utf-8"), parser)
    except etree.XMLSyntaxError as failure:
        raise Rejected(RejectReason.MALFORMED, f"{name} is not XML: {failure.msg}.") from failure
    warnings = list(decoded.warnings)
    broken = ""
    for entry in parser.error_log:
        if entry.type_name in ("ERR_RESOURCE_LIMIT", "ERR_ENTITY_LOOP"):
            _refuse_limit(entry.message, name)
        if entry.level >= _FATAL and entry.type_name != "ERR_UNDECLARED_ENTITY" and not broken:
            broken = f"line {entry.line}: {entry.message.strip()}"
    if root is None:
        raise Rejected(RejectReason.MALFORMED, f"{name} is not XML: {broken or 'no element'}.")
    if broken:
        warnings.append(f"not well-formed XML ({broken}): read as far as it could be recovered")
    return Tree(root, Entities.of(root, name), tuple(warnings), broken)


def _refuse_limit(message: str, name: str) -> NoReturn:
    if "depth" in message and "ntity" not in message:
        raise Rejected(RejectReason.MALFORMED, f"{name} nests its elements too deep for XML.")
    if "mplification" in message or "ntity" in message:
        raise Rejected(RejectReason.EXPANDS, f"{name}: its entities expand without end.")
    raise Rejected(RejectReason.TOO_LARGE, f"{name} is too large to read: {message.strip()}.")


def _refuse_files(parser: XMLParser) -> None:
    """Stand in front of libxml2's own loaders, should one of the options ever fail to hold."""
    from lxml import etree

    class Refusing(etree.Resolver):
        def resolve(self, system_url: str, public_id: str, context: object) -> Any:  # type: ignore[override]
            return self.resolve_string("", context)  # type: ignore[call-arg]

    parser.resolvers.add(Refusing())


@dataclass(slots=True)
class Entities:
    """The text of a document's entities; `unread` names those that have none here."""

    name: str
    declared: dict[str, str] = field(default_factory=dict)
    external: frozenset[str] = frozenset()
    unread: dict[str, None] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)
    _chars_left: int = _MAX_ENTITY_CHARS

    @classmethod
    def of(cls, root: _Element, name: str) -> Entities:
        """Those that the document's own DTD declares, beside HTML's."""
        dtd: Any = root.getroottree().docinfo.internalDTD  # lxml's stubs know no entities
        declared, external = {}, set()
        for entity in dtd.iterentities() if dtd is not None else ():
            if entity.orig is None:
                external.add(entity.name)
            else:
                declared[entity.name] = entity.orig
        return cls(name, declared, frozenset(external))

    def text(self, entity: str) -> str:
        """What `&entity;` stands for, markup inside it left out.

        Raises `Rejected(EXPANDS)` when all of the document's entities grow over the budget.
        """
        if entity not in self._known:
            self._known[entity] = self._expand(entity, 0)
        found = self._known[entity]
        self._spend(len(found))
        return found

    def _expand(self, entity: str, depth: int) -> str:
        if depth > _MAX_ENTITY_DEPTH:
            self._refuse()
        if entity.startswith("#"):
            return html.unescape(f"&{entity};")
        if entity in self._known:
            self._spend(len(self._known[entity]))
            return self._known[entity]
        content = self.declared.get(entity)
        if entity in self.external:
            self.unread[entity] = None
            return f"&{entity};"
        if content is None:
            content = html.entities.html5.get(f"{entity};")
            if content is None:
                self.unread[entity] = None
                return f"&{entity};"
            return content
        expanded = _REFERENCE.sub(
            lambda match: self._expand(match[1], depth + 1) if match[1] else " ", content
        )
        self._spend(len(expanded))
        self._known[entity] = expanded
        return expanded

    def _spend(self, chars: int) -> None:
        self._chars_left -= chars
        if self._chars_left < 0:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise Rejected(RejectReason.EXPANDS, f"{self.name}: its entities expand without end.")

    def warnings(self) -> tuple[str, ...]:
        """What a reader of the text should know of entities that were not read."""
        outside = [entity for entity in self.unread if entity in self.external]
        unknown = [entity for entity in self.unread if entity not in self.external]
        notes = []
        if outside:
            notes.append(f"other files that it draws in were not read: {_some(outside)}")
        if unknown:
            notes.append(f"entities that it does not declare: {_some(unknown)}")
        return tuple(notes)


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(name[:40] for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


@functools.lru_cache(maxsize=4_096)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2].lower()


def local(element: _Element) -> str:
    """An element's name without its namespace, in small letters."""
    return _local(str(element.tag))


class TreeReader:
    """Reads a tree into `out`: subclasses say what each element is.

    `enter` returns whether the element's content is to be read; `leave` is called either way.
    """

    def __init__(self, out: Blocks, entities: Entities) -> None:
        self.out = out
        self.entities = entities

    def enter(self, element: _Element, tag: str) -> bool:
        """Called before an element's content; `tag` is its local name in small letters."""
        return True

    def leave(self, element: _Element, tag: str) -> None:
        """Called after an element's content, before what follows it."""

    def read(self, root: _Element) -> None:
        """`root` and all below it, in document order, without recursion."""
        from lxml import etree

        entity = etree.Entity
        out, enter, leave = self.out, self.enter, self.leave
        tag = local(root)
        if not enter(root, tag):
            leave(root, tag)
            return
        out.text(root.text)
        stack = [(root, tag, iter(root))]
        while stack:
            element, tag, children = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                leave(element, tag)
                if stack:
                    out.text(element.tail)
                continue
            if child.tag is entity:
                out.text(self.entities.text(entity_name(child) or ""))
                out.text(child.tail)
                continue
            name = local(child)
            if enter(child, name):
                out.text(child.text)
                stack.append((child, name, iter(child)))
            else:
                leave(child, name)
                out.text(child.tail)


class _Words(TreeReader):
    """All text of an element on one line."""

    def __init__(self, entities: Entities, skips: Callable[[_Element, str], bool]) -> None:
        super().__init__(Blocks(), entities)
        self._skips = skips

    def enter(self, element: _Element, tag: str) -> bool:
        return not self._skips(element, tag)


def entity_name(node: _Element) -> str | None:
    """The name of a reference to an entity; None for an element."""
    unknown: Any = node  # lxml's stubs know no entities
    return None if isinstance(unknown.tag, str) else str(unknown.name)


def _skips_nothing(_element: _Element, _tag: str) -> bool:
    return False


def words(
    element: _Element | None,
    entities: Entities,
    skips: Callable[[_Element, str], bool] = _skips_nothing,
) -> str:
    """An element's text on one line, "" for None; `skips` says which elements inside to leave."""
    if element is None:
        return ""
    if not len(element):  # most are: names, years, numbers
        return one_line(element.text or "")
    reader = _Words(entities, skips)
    reader.read(element)
    return one_line(reader.out.finish().text)


def find(element: _Element | None, *path: str) -> _Element | None:
    """The first element down `path`, each step a child with that local name in small letters."""
    for step in path:
        if element is None:
            return None
        element = next((each for each in element if local(each) == step), None)
    return element


def children(element: _Element | None, *tags: str) -> list[_Element]:
    """The child elements, those with one of these local names only if any are given."""
    if element is None:
        return []
    found = [each for each in element if isinstance(each.tag, str)]
    return [each for each in found if local(each) in tags] if tags else found
