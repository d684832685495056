"""Texts in which a tokenizer finds none of its control tokens, whatever they spell.

A document that says "</s>", "[SEP]" or "<|im_end|>" means the letters. A tokenizer's own switch
(`encode_special_tokens`) is not enough: it lets through tokens that were added without the mark
"special" ("</think>", a late-interaction checkpoint's "[D] "), and a Unigram model finds "<s>"
among its pieces by itself, also where its normalizer made it of full-width letters. So the text is
encoded, and where a control token came out, one character of what it was made of becomes "(".
One character for one: every offset stays what it was. The unknown token is none of them, because
any strange letter makes it. Costs one encoding of the texts that have a bracket or are not ASCII.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_INSTEAD = "("
_OPENS = "<["


class ControlTokens:
    """Of one tokenizer, which must neither cut nor pad. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        described = json.loads(tokenizer.to_str())
        model = described["model"]
        unknown = {model.get("unk_id"), tokenizer.token_to_id(model.get("unk_token") or "")}
        contents = {
            int(each["id"]): each["content"].strip()
            for each in described["added_tokens"]
            # A word that somebody added to the vocabulary is a word.
            if each["special"] or each["content"].strip().startswith(tuple(_OPENS))
        }
        self.ids = frozenset(
            number
            for number, content in contents.items()
            if number not in unknown and content.strip(_INSTEAD)
        )
        """What no text may become."""
        self._first_chars = "".join({contents[number][0] for number in self.ids})

    def as_letters(self, text: str) -> str:
        """`text`, as long as before, without anything that becomes a control token."""
        first = self._first_chars
        if text.isascii() and not any(each in text or each.swapcase() in text for each in first):
            return text
        while True:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            spans = [
                span
                for number, span in zip(encoding.ids, encoding.offsets, strict=True)
                if number in self.ids
            ]
            if not spans:
                return text
            text = _broken(text, spans)


def _broken(text: str, spans: list[tuple[int, int]]) -> str:
    """In each span one character less of those that a token could be made of."""
    chars = list(text)
    for start, end in spans:
        # A tokenizer that does not say where a token came from has it from anywhere.
        for at in range(start, end) if start < end else range(len(chars)):
            if chars[at] != _INSTEAD and not chars[at].isspace():
                chars[at] = _INSTEAD
                break
    return "".join(chars)
