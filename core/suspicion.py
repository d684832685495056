"""What in a text looks as if it were meant for a ranking or language model, and not for a reader.

A small list of signs, each with a reason in words; pure, without a model, so that everybody can see
why something was marked. It changes no rank: a text about such attacks carries the same signs, and
a fluent lie carries none. How often it marks honest documents, and what it finds of an attack, is
measured by `benchmarks/trust/injection.py` (docs/reliability.md, goal 28).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

HIDDEN_TEXT = "text that the page does not show"
"""How a parser's warning begins that says so; it is stored with the document."""

CONTROL = "control tokens of a language model"
ADDRESSED = "words addressed to a ranking or language model"
REPEATED = "the same words over and over"
COPIES_QUERY = "the query, word for word, more than once"
INVISIBLE = "characters that nobody sees"
REVERSED = "characters that turn the direction of text"
MIXED = "letters of two alphabets within words"

_CONTROL = re.compile(
    r"<[|｜] ?[\w▁]{2,40} ?[|｜]>|</?think(?:ing)?>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)

_Gated = tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]

_DOCUMENT = r"(?:document|passage|text|result|page|paper|article|source|excerpt)"
_MODEL = (
    r"(?:language models?|llms?|ai (?:assistants?|models?|systems?)|chatbots?|re-?rank(?:er|ing)s?|"
    r"rank(?:er|ing (?:model|system|algorithm))s?|retriev(?:er|al (?:model|system))s?|"
    r"relevance (?:judges?|assessors?|graders?|models?|classifiers?))"
)
_ORDERS = tuple(
    (tuple(gate.split(",")), re.compile(pattern))
    for gate, pattern in (
        (
            "rank this,score this,rate this,place this,list this,put this,grade this,mark this",
            rf"\b(?:rank|score|rate|place|list|put|grade|mark) this {_DOCUMENT}\b"
            r"[^.\n]{0,40}\b(?:first|highest|top|relevant|above|maximum|best|10|100|1\.0)",
        ),
        (
            "yes,relevant,true,1.0",
            r"\b(?:answer|respond|reply|output|say|return|print|write)\s+"
            r"(?:only\s+|simply\s+|just\s+|with\s+|the\s+word\s+)*[\"'“]?(?:yes|relevant|true|1\.0)"
            r"\b[\"'”]?(?!\s*(?:,|or\b|to\b|if\b|and\b|in\b|when\b|/))",
        ),
    )
)
_BEGINS = re.compile(
    r"(?:^|[.!?:;\n\"'“”(\]>|-]\s*|\b(?:please|must|should|always|just|simply|and|then)\s+)\Z"
)
"""What stands before an order; "those who answer yes" is none."""

_ADDRESSED = tuple(
    (tuple(gate.split(",")), re.compile(pattern))
    for gate, pattern in (
        (
            "ignor,disregard,forget,overrid",
            r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}\b(?:previous|prior|above|"
            r"earlier|preceding|other|system|your)\b[^.\n]{0,30}\b(?:instruction|prompt|rule|"
            r"direction|guideline|criteria|document|passage|result)",
        ),
        (
            "you are,note to,note for,attention,dear,instruction,message",
            r"\b(?:you are|note (?:to|for)|attention|dear|instructions? (?:to|for)|message "
            rf"(?:to|for))\b[^.\n]{{0,25}}\b{_MODEL}\b",
        ),
        (
            "relevance",
            r"\brelevance\s+(?:score|note|judge?ment|label|rating|grade|assessment)s?\s*"
            r"(?:[:=]|is|of)\s*[\"'“]?(?:\d|high|perfect|yes|relevant|max|excellent|exact)",
        ),
        (
            "relevant",
            rf"\bthis\s+{_DOCUMENT}\s+is\s+(?:the\s+)?(?:most|highly|perfectly|extremely|directly|"
            r"fully|completely|the only|maximally)\s+relevant\b",
        ),
        (
            "answer to",
            r"\b(?:is|contains|gives|has)\s+the\s+(?:correct|best|exact|complete|definitive|only)\s+"
            r"(?:and \w+ )?answer\s+to\s+(?:the|your|this)\s+(?:query|question|search)\b",
        ),
        (
            "\"rel,'rel,\"is_rel,'is_rel,\"score,'score,\"rank,'rank,\"label,'label,\"judg,'judg",
            r"[\"'](?:is_)?(?:relevance|relevant|score|rank|label|judge?ment|relevance_score)[\"']"
            r"\s*:\s*[\"']?(?:1(?:\.0+)?\b|0?\.9\d*|10\b|100\b|true|yes|relevant)",
        ),
        (
            "ignorier",
            r"\bignorier\w*\s+(?:alle\s+|die\s+)*(?:vorherigen|bisherigen|obigen)\s+\w*(?:anweisung|"
            r"instruktion|regel)",
        ),
        (
            "ignor",
            r"\bignor(?:[ez]|ez|a|en|ar|er)?\s+(?:toutes\s+les|les|todas\s+las|las)\s+"
            r"(?:instructions|consignes|instrucciones)\s+(?:pr[ée]c[ée]dentes|ci-dessus|anteriores|"
            r"previas)",
        ),
        ("игнорируй", r"игнорируй\w*[^.\n]{0,25}(?:инструкц|указан)"),
        ("忽略,无视", r"(?:忽略|无视)[^。\n]{0,10}(?:指令|指示|说明|提示)"),
        ("を無視", r"(?:指示|命令)を無視"),
        ("回答,输出,答え", r"(?:回答|输出|答え)[^。\n]{0,6}[「“\"']?(?:是|相关|はい)[」”\"']"),
    )
)
"""Each pattern is tried where one of the words before it stands: that is 20 times as fast."""

_WORD = re.compile(r"\w+")
_RUN_WORDS = 4
_REPEATED_WORDS = 24
_REPEATED_TIMES = 4
_SHORTEST_WORD = 3
_QUERY_WORDS = 4
_QUERY_TIMES = 2
_INVISIBLE = re.compile("[\u180e\u200b\u2060-\u2064\ufeff]")
_TAGS = re.compile("(?<!\U0001f3f4)(?<![\U000e0020-\U000e007f])[\U000e0020-\U000e007f]")
_INVISIBLE_SHARE = 0.02
_INVISIBLE_CHARS = 5
_REVERSED = re.compile("[\u202d\u202e]")
_MIXED = re.compile("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
_MIXED_TIMES = 3


def suspicions(text: str, query: str = "") -> tuple[str, ...]:
    """The reasons why `text` looks as if it were made for a machine; empty: none was seen.

    With `query`, also whether the text repeats it.
    """
    found = []
    plain = text
    if not text.isascii():
        invisible = _INVISIBLE.findall(text)
        if _TAGS.search(text) or len(invisible) >= max(
            _INVISIBLE_CHARS, _INVISIBLE_SHARE * len(text)
        ):
            found.append(INVISIBLE)
        if _REVERSED.search(text):
            found.append(REVERSED)
        if len(_MIXED.findall(text)) >= _MIXED_TIMES:
            found.append(MIXED)
        # What a model's tokenizer makes of full-width and mathematical letters.
        plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    if ("<" in plain or "[" in plain) and _CONTROL.search(plain):
        found.append(CONTROL)
    lower = plain.lower()
    if _is_addressed(lower):
        found.append(ADDRESSED)
    words = _WORD.findall(lower)
    if _repeats(words):
        found.append(REPEATED)
    if query and _copies(words, _WORD.findall(unicodedata.normalize("NFKC", query).lower())):
        found.append(COPIES_QUERY)
    return tuple(found)


def of_warnings(warnings: Iterable[str]) -> tuple[str, ...]:
    """Those of a document's warnings that are reasons: what its parser saw."""
    return tuple(each for each in warnings if each.startswith(HIDDEN_TEXT))


def _is_addressed(lower: str) -> bool:
    if any(pattern.search(lower) for pattern in _worth_trying(_ADDRESSED, lower)):
        return True
    return any(
        _BEGINS.search(lower, max(0, found.start() - 12), found.start())
        for pattern in _worth_trying(_ORDERS, lower)
        for found in pattern.finditer(lower)
    )


def _worth_trying(patterns: _Gated, lower: str) -> Iterator[re.Pattern[str]]:
    return (pattern for gates, pattern in patterns if any(gate in lower for gate in gates))


def _repeats(words: list[str]) -> bool:
    """Whether the same words stand there four times one after another, 24 words at least.

    Far apart they are a statute's or a form's way of speaking. Numbers and short words do not
    count: tables repeat them.
    """
    words = [each for each in words if len(each) >= _SHORTEST_WORD and each.isalpha()]
    seen: dict[tuple[str, ...], int] = {}
    period = run = 0
    for place, shingle in enumerate(zip(*(words[n:] for n in range(_RUN_WORDS)), strict=False)):
        before = seen.get(shingle)
        seen[shingle] = place
        if before is None:
            period = run = 0
            continue
        run = run + 1 if place - before == period else 1
        period = place - before
        repeated = run + _RUN_WORDS - 1
        if (
            repeated >= (_REPEATED_TIMES - 1) * period
            and repeated + min(period, repeated) >= _REPEATED_WORDS
        ):
            return True
    return False


def _copies(words: list[str], query: list[str]) -> bool:
    if len(query) < _QUERY_WORDS:
        return False
    text = f" {' '.join(words)} "
    return text.count(f" {' '.join(query)} ") >= _QUERY_TIMES
