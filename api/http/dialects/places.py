"""Which dialects live at which path, and how a body says whose it is.

Pure: a path and a parsed body go in, a dialect comes out. The rule, in this order:

1. A dialect that lacks a key it requires (or has null there) is out. One left: it is that one's.
2. Of several, one that does not know a key of the body which another of them knows is out. None
   left, here or before: the error names them all and their keys.
3. Of those left, the one whose makers' own client sent it, which its headers say.
4. Else the first whose makers name their models as `model` does.
5. Without a name, where a document is an object with keys that Longleaf's documents have not: the
   first that reads such objects.
6. Else, where `top_n` is 0, the one to which that means all; to the others it is an error.
7. Else the first of those left that is open to any model name, in the order of the table. Without a
   name it is Longleaf's own.

An empty model name is none. So a key that only one dialect has decides, and keys of two that
exclude each other are an error. A body that several take as it is (query, documents, model) goes to
the path's first. Where a client must not depend on that, `/as/NAME` before the path decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longleaf.api.http.dialects import dashscope
from longleaf.api.http.dialects.cohere import COHERE, COHERE_V1
from longleaf.api.http.dialects.forms import Dialect
from longleaf.api.http.dialects.infinity import INFINITY
from longleaf.api.http.dialects.jina import JINA
from longleaf.api.http.dialects.longleaf import LONGLEAF
from longleaf.api.http.dialects.sglang import SGLANG
from longleaf.api.http.dialects.tei import TEI
from longleaf.api.http.dialects.vllm import VLLM, VLLM_SCORE
from longleaf.api.http.dialects.voyage import VOYAGE
from longleaf.api.http.errors import Say
from longleaf.api.http.rerank_schemas import MAX_DOCUMENTS, RerankDocument
from longleaf.core.errors import InvalidRequest, NotFound


def _nothing(_: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Place:
    """A dialect at a path. `models`: names by which its makers call theirs ("": none was given).

    `is_open`: bodies with any other model name are its own as well. `zero_is_all`: `top_n` 0 is.
    `client`: what its makers' clients call themselves. `reads`: whether it reads a document that
    is such an object.
    """

    dialect: Dialect[Any]
    models: str = r"(?!)"
    is_open: bool = True
    zero_is_all: bool = False
    client: str = r"(?!)"
    reads: Callable[[Mapping[str, Any]], bool] = _nothing

    @property
    def known(self) -> set[str]:
        """The keys that it knows."""
        return set(self.dialect.body.model_fields)

    @property
    def required(self) -> set[str]:
        """The keys that it cannot do without."""
        fields = self.dialect.body.model_fields.items()
        return {name for name, field in fields if field.is_required()}

    def is_named_by(self, model: Any) -> bool:
        """Whether a model name is one of its makers'."""
        name = model if isinstance(model, str) else ""
        return re.fullmatch(self.models, name[:200].lower()) is not None

    def is_client(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers is its makers' own client's."""
        called = (headers.get(name, "")[:200].lower() for name in _CLIENT_HEADERS)
        return any(re.match(self.client, each) for each in called)


_CLIENT_HEADERS = ("x-fern-sdk-name", "user-agent")
_COHERE_CLIENT = r"(com\.|github\.com/)?cohere\b"
"""cohere/7.3.1, cohere-ai (JavaScript), com.cohere.fern (Java), github.com/cohere-ai (Go)."""
_COHERE_MODELS = r"(cohere/)?rerank-(v\d.*|english.*|multilingual.*)"


def _is_ours(document: Mapping[str, Any]) -> bool:
    return document.keys() <= RerankDocument.model_fields.keys()


def _is_cohere_v1(document: Mapping[str, Any]) -> bool:
    flat = all(isinstance(each, str | int | float | None) for each in document.values())
    return flat and "text" in document


PLACES: Mapping[str, Sequence[Place]] = {
    "/v1/rerank": (
        Place(
            LONGLEAF,
            r"|none|late|qwen3|cross-encoder|remote:.*",
            is_open=False,
            reads=_is_ours,
        ),
        Place(JINA, r"(jinaai/)?jina-.*", reads=lambda document: "text" in document),
        Place(VLLM, zero_is_all=True, reads=lambda document: "content" in document),
        Place(COHERE_V1, _COHERE_MODELS, client=_COHERE_CLIENT, reads=_is_cohere_v1),
        Place(VOYAGE, r"(voyageai/)?rerank-(lite-)?\d.*"),
        Place(INFINITY),
        Place(SGLANG),
    ),
    "/v2/rerank": (
        Place(COHERE, _COHERE_MODELS, client=_COHERE_CLIENT),
        Place(VLLM, zero_is_all=True),
    ),
    "/rerank": (Place(TEI), Place(VLLM), Place(INFINITY)),
    "/score": (Place(VLLM_SCORE),),
    "/v1/score": (Place(VLLM_SCORE),),
    dashscope.NATIVE_PATH: (Place(dashscope.DASHSCOPE),),
    dashscope.FLAT_PATH: (Place(dashscope.DASHSCOPE_FLAT),),
}
PREFIX = "/as/"


def names() -> list[str]:
    """The dialects, by name."""
    return sorted({each.dialect.name for places in PLACES.values() for each in places})


def places_at(path: str, name: str | None = None) -> Sequence[Place]:
    """Who lives at a path; of dialect `name` only. Raises NotFound where nobody does."""
    found = [each for each in PLACES.get(path, ()) if name is None or each.dialect.name == name]
    if not found:
        raise NotFound(
            f"There is no dialect {(name or '')[:40]!r} at {path[:200]}.",
            f"Dialects: {', '.join(names())}; docs/clients.md says at which paths.",
        )
    return found


def without_empty_model(body: dict[str, Any]) -> dict[str, Any]:
    """The body without a model name that is "": to vLLM, which takes none, it is the default."""
    if body.get("model") != "":
        return body
    return {name: value for name, value in body.items() if name != "model"}


def choose(
    places: Sequence[Place], body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Dialect[Any]:
    """Whose body it is. Raises InvalidRequest, which names everybody here and their keys.

    `headers`: of the request, by names in lower case.
    """
    body = without_empty_model(dict(body))
    given = set(body)
    said = {name for name, value in body.items() if value is not None}
    able = [each for each in places if each.required <= said] if len(places) > 1 else places
    if len(able) == 1:
        return able[0].dialect
    known_here = given & {key for each in able for key in each.known}
    left = [each for each in able if known_here <= each.known]
    if not left:
        raise InvalidRequest(_why_nobody(places, given), "docs/clients.md has examples.")
    return _likeliest(left, body, headers or {}).dialect


def _likeliest(left: list[Place], body: Mapping[str, Any], headers: Mapping[str, str]) -> Place:
    sent = [each for each in left if each.is_client(headers)]
    if sent:
        return sent[0]
    is_named = body.get("model") is not None
    named = [each for each in left if each.is_named_by(body.get("model"))]
    top_n = body.get("top_n")
    if type(top_n) is int and top_n == 0:
        named = named if is_named else []  # no name is no maker's
        named += [each for each in left if each.zero_is_all]
    objects = _objects(body)
    if not is_named and not all(map(_is_ours, objects)):
        named = [each for each in left if all(map(each.reads, objects))] or named
    is_open = [each for each in left if each.is_open]
    return (named or is_open or left)[0]


def _objects(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The documents that are objects; of as many as are taken."""
    documents = body.get("documents")
    if not isinstance(documents, list):
        return []
    return [each for each in documents[:MAX_DOCUMENTS] if isinstance(each, dict)]


def _why_nobody(places: Sequence[Place], given: set[str]) -> str:
    """Who would take what, and which of the given keys speak for some only."""
    forms = "; ".join(
        f"{each.dialect.name} (needs {', '.join(sorted(each.required))})" for each in places
    )
    telling = "; ".join(
        f"{key}: {', '.join(each.dialect.name for each in places if key in each.known)}"
        for key in sorted(given)
        if 0 < sum(key in each.known for each in places) < len(places)
    )
    said = f" These keys are known to some only: {telling}." if telling else ""
    return f"No one dialect at this path takes these keys together. Here are: {forms}.{said}"


def say_at(path: str) -> Say | None:
    """In whose words an error at `path` is told before anybody knows whose body it is; None: in
    Longleaf's own."""
    name = None
    if path.startswith(PREFIX):
        name, _, rest = path.removeprefix(PREFIX).partition("/")
        path = f"/{rest}"
    for each in PLACES.get(path, ()):
        if name is None or each.dialect.name == name:
            return each.dialect.say
    return None


def takes_texts(path: str) -> bool:
    """Whether a body at `path` holds texts to read."""
    return path in PLACES or path.startswith(PREFIX)
