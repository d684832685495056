"""What a service is asked before the first search: does it take an instruction, rank sense first,
and read a text to its end?

A wrong model, or a right one without its template, answers as quickly as a right one (see
qwen3/check.py); a field that a server does not know is ignored without a word; a text that is too
long may be cut without one. Each shows only in scores. None of it measures quality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from longleaf.core.errors import ModelUnavailable, RemoteRefused
from longleaf.core.lengths import says_too_long
from longleaf.reranker.qwen3.check import PROBES
from longleaf.reranker.services.texts import FEWEST_TOKENS

Ask = Callable[[str, Sequence[str]], Mapping[int, float]]
"""A query and texts to scores by place."""

CONTRARY = "Given a query, retrieve texts that have nothing to do with it"
_TIMES_NOISE, _ROUNDING = 8.0, 1e-6
"""What an instruction must change: so many times what asking twice does, and more than rounding."""
_SHRINKING = 0.7
_FOR_QUERY_TOKENS = 64
"""For the probe's query, a template's words and the last sentence."""
_FILLING = "of the and to in is it on by at "


def uses_instruction(ask: Ask, ask_contrary: Ask) -> bool:
    """Whether the instruction changes a score by more than asking twice does.

    One that arrives nowhere changes none, but for the noise of a GPU's batches. A server may also
    refuse one that its model does not take (a Longleaf does).
    """
    probe = PROBES[0]
    texts = [probe.relevant, probe.irrelevant]
    try:
        first, again = ask(probe.query, texts), ask(probe.query, texts)
        contrary = ask_contrary(probe.query, texts)
    except RemoteRefused as error:
        if error.status in (400, 422):  # or it refuses everything, which shows next
            return False
        raise
    if first.keys() != again.keys() or first.keys() != contrary.keys():
        return True  # what that means shows next
    noise = max((abs(first[place] - again[place]) for place in first), default=0.0)
    least = _TIMES_NOISE * noise + _ROUNDING * max(map(abs, first.values()), default=0.0)
    return any(abs(first[place] - contrary[place]) > least for place in first)


def require_sense(ask: Ask, url: str) -> None:
    """Raises ModelUnavailable where a question's own text is not the best of all probes' texts.

    Scores by chance pass once in 256 times. The right text stands at another place each time, so
    that places are no scores.
    """
    texts = [probe.relevant for probe in PROBES]
    for place, probe in enumerate(PROBES):
        scores = dict(ask(probe.query, texts))
        if len(scores) < len(texts):
            raise RemoteRefused(
                f"{url} gave no score for {len(texts) - len(scores)} of {len(texts)} short texts.",
                "Does it answer with the best only? Every text needs its score.",
            )
        right = scores.pop(place)
        best = max(scores, key=scores.__getitem__)
        if right == scores[best]:
            raise ModelUnavailable(
                f"{url} cannot tell sense from nonsense: for {probe.query!r} it gives both "
                f"{texts[place][:40]!r} and {texts[best][:40]!r} {right:.4g}.",
                "Is it a reranker, converted with its head? docs/remote.md says how to serve one.",
            )
        if right < scores[best]:
            raise ModelUnavailable(
                f"{url} ranks nonsense above sense: for {probe.query!r} it prefers "
                f"{texts[best][:40]!r} ({scores[best]:.4g}) to {texts[place][:40]!r} "
                f"({right:.4g}).",
                "Qwen3-Reranker does so without its template. docs/remote.md says how to serve it.",
            )


def readable_tokens(ask: Ask, most_tokens: int, url: str) -> int:
    """How long a text is read to its end, `most_tokens` at most: two texts of that length that
    differ in their last sentence get different scores.

    Of a service whose scores differ from one time to the next, cuts are not found this way. Raises
    ModelUnavailable where not even short texts are read.
    """
    probe = PROBES[2]
    tokens = most_tokens
    while tokens - _FOR_QUERY_TOKENS >= FEWEST_TOKENS:
        words = tokens - _FOR_QUERY_TOKENS
        filling = (_FILLING * (words // 10 + 1)).split()[:words]
        ends = (probe.relevant, probe.irrelevant)
        try:
            scores = ask(probe.query, [" ".join([*filling, end]) for end in ends])
        except RemoteRefused as error:
            if not says_too_long(error.status, error.said):
                raise
            scores = {}
        if len(scores) == 2 and scores[0] != scores[1]:
            return tokens
        tokens = int(tokens * _SHRINKING)
    raise ModelUnavailable(
        f"{url} does not read texts of {FEWEST_TOKENS} words to their end.",
        "Look at the length that its model takes.",
    )
