"""POST /v1/embeddings and GET /v1/models: this server's embedder, for OpenAI's clients.

Texts are embedded as passages are when they are indexed, or as queries with `input_type` query.
Any model name is answered by the one embedder here; the reply names it. A text that is longer than
the model's window is cut there and told in a header, because the reply has no room for it.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import Field, WithJsonSchema

from longleaf.api.given import CHARS_PER_TOKEN
from longleaf.api.http.dialects.forms import (
    MODEL_HEADER,
    Lenient,
    cut_header,
    header_text,
)
from longleaf.api.http.dialects.routes import body_schema, json_object, validated
from longleaf.api.http.errors import FOREIGN_PROBLEMS
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.rerank_schemas import Text
from longleaf.api.http.service import GivenUp, Served
from longleaf.api.search import SearchEngine
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.protocols import Embedder
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.core.waiting import EMBEDDER, stage
from longleaf.retriever.query import readable

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

router = APIRouter(prefix="/v1", tags=["openai"], responses=FOREIGN_PROBLEMS)

PATH = "/v1/embeddings"
MAX_INPUTS = 2_048
"""OpenAI's own limit."""
_IN_A_STAGE = 64
"""Texts that are embedded without a word of how it goes: a model that stands is left behind."""


_TEXT = {"type": "string", "pattern": r"\S"}
_Input = Annotated[
    Any,
    WithJsonSchema(
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_INPUTS}]}
    ),
]
"""Looked at by `texts`, which says better what is wrong with token ids."""


class EmbeddingsBody(Lenient):
    """A request for embeddings. `input_type` is not OpenAI's own: other clients send it."""

    input: _Input = Field(description="A text, or a list of texts; no token ids.")
    model: Text = Field(max_length=200, description="Any name; the reply has the real one.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, description="As many as the model has; it cannot be shortened."
    )
    user: Text | None = Field(None, description="Not looked at.")
    input_type: Literal["query", "passage", "document"] = Field(
        "document", description="query: embed as a query, with its instruction where there is one."
    )

    def texts(self) -> list[str]:
        """The texts. Raises InvalidRequest for token ids, empty texts, and too many."""
        given = [self.input] if isinstance(self.input, str) else self.input
        if not isinstance(given, list) or not 0 < len(given) <= MAX_INPUTS:
            raise InvalidRequest(f"input: expected a text, or a list of 1 to {MAX_INPUTS:,} texts.")
        for place, each in enumerate(given):
            if not isinstance(each, str):
                raise InvalidRequest(
                    f"input[{place}] is no text: token ids cannot be read here, because they are "
                    "of another model's tokenizer.",
                    "Send text (langchain: check_embedding_ctx_length=False).",
                )
            if not each.strip():
                raise InvalidRequest(f"input[{place}] is empty.", "Leave it out.")
        return [readable(each) for each in given]


@router.post(
    "/embeddings",
    summary="Embed texts (OpenAI)",
    openapi_extra=body_schema(EmbeddingsBody),
)
async def post_embeddings(request: Request, service: Served) -> Response:
    """Vectors of unit length, by the embedder that searches use."""
    body = validated(EmbeddingsBody, await json_object(request))
    texts = body.texts()

    def work(given_up: GivenUp) -> Response:
        with service.runtime.answering() as engine:
            # Who has left gets vectors of as many as were made until then.
            return _answer(body, engine, texts, given_up)

    return await service.search(request, work, tokens=sum(map(len, texts)) // CHARS_PER_TOKEN)


def _answer(
    body: EmbeddingsBody, engine: SearchEngine, texts: Sequence[str], given_up: GivenUp
) -> Response:
    embedder = engine.embedder
    if body.dimensions not in (None, embedder.dim):
        raise InvalidRequest(
            f"dimensions: {embedder.name} has {embedder.dim}, and cannot be shortened.",
            "Leave it out.",
        )
    made: list[tuple[FloatArray, int]] = []
    with engine.embedding:
        wanted = _wanted(texts, given_up)
        while some := list(itertools.islice(wanted, _IN_A_STAGE)):
            with stage(EMBEDDER):
                made += _vectors(embedder, some, is_query=body.input_type == "query")
    tokenizing: Any = embedder
    counts = tokenizing.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    cut = {place: tokens for place, (_, tokens) in enumerate(made) if tokens}
    tokens = sum(len(each.ids) for each in counts) - sum(cut.values())
    headers = {MODEL_HEADER: header_text(embedder.name), **cut_header(cut)}
    as_base64 = body.encoding_format == "base64"
    answer = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_base64
                else vector.tolist(),
            }
            for place, (vector, _) in enumerate(made)
        ],
        "model": embedder.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return PlainJSON(answer, headers=headers)


def _vectors(
    embedder: Embedder, texts: Sequence[str], *, is_query: bool
) -> list[tuple[FloatArray, int]]:
    """Each text's vector (dim,), and how many of its tokens were cut."""
    made: Iterable[QueryVectors | PassageVectors]
    if is_query:
        made = map(embedder.embed_query, texts)
    else:
        made = embedder.embed_passages(EmbedInput(prefix="", text=each) for each in texts)
    return [(each.dense, each.truncated_tokens) for each in made]


def _wanted(texts: Sequence[str], given_up: GivenUp) -> Iterator[str]:
    return itertools.takewhile(lambda _: not given_up(), iter(texts))


def _models(service: Any) -> list[dict[str, Any]]:
    with service.runtime.answering() as engine:
        named = [engine.embedder.name]
        if engine.reranker is not None:
            named.append(engine.reranker.name)
    # When a model was made is not known here; its clients want a number.
    return [
        {"id": each, "object": "model", "created": 0, "owned_by": "longleaf"}
        for each in dict.fromkeys(named)
    ]


@router.get("/models", summary="List models (OpenAI)")
async def list_models(service: Served) -> Response:
    """The embedder and the reranker. `created` is 0: nobody knows it here."""
    return PlainJSON({"object": "list", "data": _models(service)})


@router.get("/models/{model:path}", summary="Look at a model (OpenAI)")
async def get_model(
    service: Served, model: str = Path(description="The model's name.", max_length=200)
) -> Response:
    """One of them."""
    models = _models(service)
    for each in models:
        if each["id"] == model:
            return PlainJSON(each)
    raise NotFound(
        f"There is no model {model[:100]!r}.", f"Here are: {', '.join(m['id'] for m in models)}."
    )
