"""Passages and queries to vectors by a service elsewhere that speaks OpenAI's `/v1/embeddings`.

It sends texts, in batches, and checks what comes back: how many vectors, in which order, how long,
finite, not zero, of the same model as at the start. It knows no model: prompts, which such services
do not apply, are settings, and lengths are counted with a tokenizer that may not be the model's.
There are no token vectors, so `late` cannot read what it embedded.

A text that the service refuses as too long is halved until it is taken, and what was cut off is
counted. A service that cuts in silence shows only in the tokens that it says it has read
(`usage.prompt_tokens`): fewer than there were is warned of, once, and which text it was is not
known. What it adds to every text, its answer to the fixed sentence tells. Trade-off: one request at
a time, so that a service is never asked for more than it answers; several workers ask side by side.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.distant import Distant, openai_base
from longleaf.core.errors import ConfigError, ModelUnavailable, RemoteRefused
from longleaf.core.lengths import first_part, says_too_long
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors
from longleaf.indexer import models, sequence
from longleaf.indexer.embed import fingerprint
from longleaf.indexer.projection import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

    from longleaf.core.types import FloatArray

_log = logging.getLogger(__name__)

PROBE = "The tenant shall repair the roof within thirty days of a written notice (§ 12(b))."
"""Embedded at the start: tells the dimensions, and another model under the same name."""

_PATH = "/embeddings"
_PASSAGE_TRIES = 8
"""Half a minute to a minute of waits between them: a service that is started again is met."""
_QUERY_TRIES = 2
_PROBE_TRIES = 3
_ENOUGH = 0.9
"""Of a query's time: waited for so long in vain, the service has failed."""
_FEWEST_CHARS = 64
"""A text is not halved below this: what refuses so little refuses something else."""
_SUSPICIOUS_SHARE = 0.6
"""Of our tokens that a service says it read, where the tokenizer is not its model's: two tokenizers
rarely differ by so much."""


@dataclass(frozen=True, slots=True)
class _Text:
    """What is sent: `head` (prompt and prefix) stays whole, `body` may be cut."""

    head: str
    body: str

    @property
    def whole(self) -> str:
        return self.head + self.body


@dataclass(frozen=True, slots=True)
class _Embedded:
    """`dense`: (dim,) float32, unit length."""

    dense: FloatArray
    truncated_tokens: int


class RemoteEmbedder:
    """A `core.protocols.Embedder` behind `url`. Thread-safe.

    `model` is the service's name for it. `query_prompt` and `passage_prompt` stand in front of
    every text; an instruction takes the query prompt's place as in
    `embed_any.SentenceTransformerEmbedder`. `dimensions` is passed on. `tokenizer_file`: the
    model's own tokenizer.json (None: the bundled model's, whose counts are then only near).

    One request is made here. The fingerprint covers the model as the service names it, dimensions,
    prompts and tokenizer; `probe` is what the fixed sentence gave, for whoever stores vectors to
    compare (a hash would change with the last bits of the service's arithmetic).
    """

    token_dim = 0
    languages: frozenset[str] | None = None
    without_tokens_because = "a service of this form gives none"
    waits_elsewhere = True

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "",
        dimensions: int | None = None,
        query_prompt: str = "",
        passage_prompt: str = "",
        tokenizer_file: Path | None = None,
        request_texts: int = 64,
        timeout_seconds: float = 60.0,
        query_timeout_seconds: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._distant = Distant(
            openai_base(url, _PATH),
            "embedder",
            api_key,
            timeout_seconds=timeout_seconds,
            sleep=sleep,
        )
        self._model = model
        self._dimensions = dimensions
        self._query_prompt = query_prompt
        self._passage_prompt = passage_prompt
        self._request_texts = request_texts
        self._query_seconds = query_timeout_seconds
        self._added_tokens: int | None = None
        self._counts_exactly = tokenizer_file is not None
        self.tokenizer, self.tokenizer_id, self.tokenizer_file = _tokenizer(tokenizer_file)
        self.takes_instruction = bool(query_prompt)
        self._named: str | None = None
        self._first_warning = threading.Lock()  # taken once, and kept
        self.dim = 0
        self._form = "base64"
        first = self._first(_Text(passage_prompt, PROBE))
        self.probe = first.dense
        self.dim = len(first.dense)
        if dimensions is not None and self.dim != dimensions:
            raise ConfigError(
                f"{self._distant.url} gives vectors of {self.dim} dimensions for the model "
                f"{model}, not the {dimensions} of embedder.dimensions.",
                "Set it to 0, or choose a model that was trained for shorter vectors.",
            )
        self.name = self._named or model
        self.fingerprint = fingerprint(
            "openai",
            model=self.name,
            dim=self.dim,
            dimensions=dimensions,
            prompts=[passage_prompt, query_prompt],
            normalised=True,
            tokenizer=self.tokenizer_id,
            prefix=sequence.PREFIX_RULE,
        )

    @property
    def where(self) -> str:
        """For people: who embeds, and how lengths are counted."""
        counted = "its own tokenizer" if self._counts_exactly else "the bundled model's tokenizer"
        return (
            f"{self.name} at {self._distant.url} ({self.dim} dimensions; texts and queries are "
            f"sent there; passages are counted with {counted})"
        )

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        """One `PassageVectors` for each input, in input order, a request at a time."""
        remaining = iter(inputs)
        while batch := list(itertools.islice(remaining, self._request_texts)):
            texts = [self._laid_out(item) for item in batch]
            for embedded in self._embed(texts, _PASSAGE_TRIES, patient=True):
                yield PassageVectors(
                    embedded.dense,
                    np.zeros((0, 0), np.int8),
                    truncated_tokens=embedded.truncated_tokens,
                )

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        """The query's dense vector. Asked twice at most, and not for long: somebody waits."""
        prompt = self._query_prompt
        if instruction and prompt:
            prompt = sequence.with_instruction(prompt, instruction)
        asked = _Text(prompt, sequence.encodable(text).strip())
        (embedded,) = self._embed([asked], _QUERY_TRIES, within_seconds=self._query_seconds)
        return QueryVectors(embedded.dense, np.zeros((0, 0), np.float32), embedded.truncated_tokens)

    def close(self) -> None:
        """Let go of the connections."""
        self._distant.close()

    def _first(self, text: _Text) -> _Embedded:
        """The probe's vector; finds out whether the service knows base64, which is shorter."""
        try:
            (first,) = self._embed([text], _PROBE_TRIES)
        except RemoteRefused as error:
            if error.status not in (400, 422):
                raise
            self._form = "float"
            (first,) = self._embed([text], _PROBE_TRIES)
        return first

    def _laid_out(self, item: EmbedInput) -> _Text:
        prefix = sequence.shortened(
            self.tokenizer,
            sequence.joined_prefix(sequence.encodable(item.prefix)),
            sequence.PREFIX_MAX_TOKENS,
        )
        return _Text(self._passage_prompt + prefix, sequence.encodable(item.text).strip())

    def _embed(
        self,
        texts: Sequence[_Text],
        tries: int,
        *,
        patient: bool = False,
        within_seconds: float | None = None,
    ) -> list[_Embedded]:
        """Vectors of all texts. Those that are too long together are asked for apart, and one that
        is too long alone is halved."""
        try:
            rows = self._asked([text.whole for text in texts], tries, patient, within_seconds)
        except RemoteRefused as error:
            if not says_too_long(error.status, error.said):
                raise
            if len(texts) > 1:
                half = len(texts) // 2
                return [
                    *self._embed(texts[:half], tries, patient=patient),
                    *self._embed(texts[half:], tries, patient=patient),
                ]
            return [self._shortened(texts[0], tries, patient, within_seconds, error)]
        return [_Embedded(row, 0) for row in rows]

    def _shortened(
        self,
        text: _Text,
        tries: int,
        patient: bool,
        within_seconds: float | None,
        refusal: RemoteRefused,
    ) -> _Embedded:
        body = text.body
        while len(body) > _FEWEST_CHARS:
            body = first_part(body, len(body) // 2)
            try:
                (row,) = self._asked([text.head + body], tries, patient, within_seconds)
            except RemoteRefused as error:
                if not says_too_long(error.status, error.said):
                    raise
                refusal = error
            else:
                cut_tokens = self._tokens(text.body) - self._tokens(body)
                return _Embedded(row, max(1, cut_tokens))
        raise refusal

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _asked(
        self, texts: Sequence[str], tries: int, patient: bool, within_seconds: float | None
    ) -> list[FloatArray]:
        body: dict[str, Any] = {
            "model": self._model,
            "input": list(texts),
            "encoding_format": self._form,
        }
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        answer = self._distant.ask(
            "POST", _PATH, body, tries=tries, patient=patient, within_seconds=within_seconds,
            enough_seconds=None if within_seconds is None else _ENOUGH * within_seconds,
        )  # fmt: skip
        rows = self._rows(answer, len(texts))
        self._check_model(answer)
        self._look_for_silent_cuts(answer, texts)
        return rows

    def _rows(self, answer: Any, count: int) -> list[FloatArray]:
        """The vectors in the order of the texts, each (dim,) float32 of unit length."""
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
            raise self._nonsense("its answer holds no list of embeddings")
        places = [each.get("index") for each in data]
        if len(data) != count or sorted(map(repr, places)) != sorted(map(repr, range(count))):
            raise self._nonsense(f"it was given {count} texts and answered for {len(data)} others")
        rows: list[FloatArray] = [np.zeros(0, np.float32)] * count
        for place, each in zip(places, data, strict=True):
            rows[int(place)] = self._row(each.get("embedding"))
        if len({len(row) for row in rows}) > 1:
            raise self._nonsense("its vectors have different dimensions")
        if self.dim and len(rows[0]) != self.dim:
            raise self._nonsense(f"vectors had {self.dim} dimensions and have {len(rows[0])} now")
        return rows

    def _row(self, given: Any) -> FloatArray:
        try:
            if isinstance(given, str):
                row = np.frombuffer(base64.b64decode(given, validate=True), "<f4")
            elif isinstance(given, list) and all(type(each) in (int, float) for each in given):
                row = np.array(given, np.float64)
            else:
                raise self._nonsense("an embedding is neither base64 nor a list of numbers")
        except (binascii.Error, ValueError, OverflowError) as error:
            raise self._nonsense("an embedding cannot be read") from error
        # Divided in float64: a vector of large numbers has no length in float32.
        row = row.astype(np.float64)
        if not row.size or not np.isfinite(row).all():
            raise self._nonsense("an embedding is not made of finite numbers")
        largest = np.abs(row).max()
        if largest == 0.0:
            raise self._nonsense("an embedding is zero everywhere")
        unit: FloatArray = unit_rows((row / largest).astype(np.float32)[None])[0]
        return unit

    def _check_model(self, answer: Any) -> None:
        named = answer.get("model")
        if not isinstance(named, str) or not named:
            return
        if self._named is None:
            self._named = named
        elif named != self._named:
            raise self._nonsense(
                f"it answers with the model {named[:100]!r} now, and did with {self._named[:100]!r}"
            )

    def _look_for_silent_cuts(self, answer: Any, texts: Sequence[str]) -> None:
        usage = answer.get("usage")
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if self._first_warning.locked() or not isinstance(read, int) or read <= 0:
            return
        given = sum(self._tokens(text) for text in texts)
        if self._counts_exactly:
            if self._added_tokens is None:  # the fixed sentence, which fits everywhere
                self._added_tokens = max(0, read - given)
            given += self._added_tokens * len(texts)
        if read >= given * (1.0 if self._counts_exactly else _SUSPICIOUS_SHARE):
            return
        if not self._first_warning.acquire(blocking=False):
            return
        _log.warning(
            "embedder: %s says that it read %d tokens of about %d in %d texts. It may cut texts "
            "in silence; which ones is not known. Choose a smaller chunker.target_tokens, or set "
            "embedder.tokenizer to the model's own. This is said once.",
            self._distant.url,
            read,
            given,
            len(texts),
        )

    def _nonsense(self, what: str) -> RemoteRefused:
        return RemoteRefused(
            f"{self._distant.url} cannot be used: {what}.",
            "Nothing of this answer was stored. Look at the service, or embedder.url.",
        )


def _tokenizer(file: Path | None) -> tuple[Tokenizer, str, Path]:
    from tokenizers import Tokenizer

    if file is None:
        path = models.bundled_minilm() / "tokenizer.json"
    else:
        path = file.expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare one
        raise ModelUnavailable(
            f"embedder.tokenizer: {path} is no tokenizer ({error}).",
            "Set it to a model's folder or tokenizer.json, or leave it empty.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A document that spells "[SEP]" means the letters.
    tokenizer.encode_special_tokens = True
    return tokenizer, models.file_sha256(path)[:16], path
