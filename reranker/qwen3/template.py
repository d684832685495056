"""A query, an instruction and documents to token ids, in Qwen3-Reranker's own form; no torch.

The form is the model card's (Qwen/Qwen3-Reranker-0.6B, "Transformers usage"): a system text, then
`<Instruct>`, `<Query>` and `<Document>` in the user's turn, then an empty thought; the next token's
"yes" against "no" is the score (arXiv 2506.05176, section 2). Without this form scores are random.

A pair is prefix + document + suffix. The prefix (system text, instruction, query) is made once for
all documents. Three things hold whatever the texts are: control tokens exist only where the form
has them ("<|im_end|>" inside a document stays letters); the suffix and the query are never cut;
and the parts, encoded apart, are what encoding the whole string gives: a part begins where the
tokenizer begins a new word, before the space that leads a document, or behind a line's end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.errors import InvalidRequest, ModelUnavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    TokenIds = NDArray[np.uint32]

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)
HEAD = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
YES, NO = "yes", "no"

DOCUMENT_FORM = "1"
"""Changes with `document_parts`."""
MIN_DOCUMENT_TOKENS = 64
"""Room that a query must leave for a document; one that does not is refused, not cut."""


def whole_prompt(instruction: str, query: str, document: str) -> str:
    """The pair as one string: the oracle of everything here."""
    return f"{question_part(instruction, query)} {document}{TAIL}"


def question_part(instruction: str, query: str) -> str:
    """What of the pair's string stands before a document; a space leads the document."""
    return f"{HEAD}{_question(instruction, query)}"


def _question(instruction: str, query: str) -> str:
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>:"


def document_parts(title: str, text: str) -> tuple[str, str]:
    """What is encoded of a document: its title's line, which many passages share, and its text.

    Joined they are what the model reads behind "<Document>:". The text begins with a word.
    """
    words = " ".join(title.split())
    body = text.lstrip()
    return (f" {words}\n", body) if words else ("", f" {body}")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before every document of a query. `ids`: (n,) uint32."""

    ids: TokenIds
    instruction: str

    def __len__(self) -> int:
        return len(self.ids)


class Template:
    """One tokenizer's form. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, max_pair_tokens: int) -> None:
        """`max_pair_tokens`: how long prefix, document and suffix may be together.

        Raises ModelUnavailable when the tokenizer lacks a control token, or has no single token
        for "yes" or "no".
        """
        kind = type(tokenizer)
        described = json.loads(tokenizer.to_str())
        described |= {"truncation": None, "padding": None}
        self._form = kind.from_str(json.dumps(described))
        # For what users write there are no control tokens at all: the tokenizer's own switch would
        # still read "</think>", which is an added token but not a "special" one.
        plain = json.dumps(described | {"added_tokens": []}, sort_keys=True)
        self._letters = kind.from_str(plain)
        named = hashlib.sha256(f"{DOCUMENT_FORM} {plain}".encode())
        self.fingerprint = named.hexdigest()[:16]
        """Names what a document's ids depend on: stored ones are used under the same name only."""
        self.max_pair_tokens = max_pair_tokens
        self.vocabulary = int(tokenizer.get_vocab_size())
        for control in ("<|im_start|>", "<|im_end|>"):
            if self._form.token_to_id(control) is None:
                raise ModelUnavailable(
                    f"The tokenizer has no token {control}: it is not Qwen3-Reranker's.",
                    "Set reranker.model to a folder or hub id of a Qwen3-Reranker.",
                )
        self.yes_id = self._single(YES)
        self.no_id = self._single(NO)
        self._head = _encode(self._form, HEAD)
        self.suffix: TokenIds = _encode(self._form, TAIL)

    def prefix(self, instruction: str, query: str) -> Prefix:
        """Raises InvalidRequest when instruction and query leave no room for a document."""
        question = _encode(self._letters, _question(instruction, query))
        ids = np.concatenate([self._head, question])
        if self.max_pair_tokens - len(ids) - len(self.suffix) < MIN_DOCUMENT_TOKENS:
            raise InvalidRequest(
                f"Query and instruction have {len(question):,} tokens; a pair may have "
                f"{self.max_pair_tokens:,}, and no room is left for a document.",
                "Ask with fewer words.",
            )
        return Prefix(ids, instruction)

    def room(self, prefix: Prefix) -> int:
        """How many tokens a document may have after `prefix`."""
        return self.max_pair_tokens - len(prefix) - len(self.suffix)

    def encode_documents(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of texts as `document_parts` gives them, nothing cut."""
        encodings = self._letters.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def document(self, title: str, text: str) -> TokenIds:
        """Ids of one document, nothing cut."""
        return np.concatenate(self.encode_documents(document_parts(title, text)))

    def _single(self, word: str) -> int:
        ids = _encode(self._form, word)
        if len(ids) != 1:
            raise ModelUnavailable(
                f'The tokenizer writes "{word}" in {len(ids)} tokens; the score needs one.',
                "Set reranker.model to a folder or hub id of a Qwen3-Reranker.",
            )
        return int(ids[0])


def _encode(tokenizer: Tokenizer, text: str) -> TokenIds:
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)


def windows(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of at most `room` tokens that cover `length` tokens, each overlapping the one before.

    The last one ends with the document and is as long as the others.
    """
    if length <= room:
        return [(0, length)]
    assert 0 <= overlap < room
    step = room - overlap
    starts = list(range(0, length - room, step))
    return [(start, start + room) for start in starts] + [(length - room, length)]
