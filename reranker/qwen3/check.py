"""Does this checkpoint rank what anybody would? A wrong one looks just like a right one.

A missing template, a head read from the wrong rows, a conversion without its classifier: all of
these load, answer quickly, and rank at random (vLLM #21681, #27857; llama.cpp #25447). A handful of
pairs with one obviously relevant and one obviously irrelevant text tells. It measures no quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.core.errors import ModelUnavailable
from longleaf.reranker.instructions import instruction_text

if TYPE_CHECKING:
    from longleaf.reranker.qwen3.reader import TextScorer


@dataclass(frozen=True, slots=True)
class Probe:
    """A question with a text that answers it and one that has nothing to do with it."""

    query: str
    relevant: str
    irrelevant: str


_CAPITAL = "The capital of China is Beijing."
_GRAVITY = (
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical "
    "objects and is responsible for the movement of planets around the sun."
)
_ROOF = "The landlord shall keep the roof in good repair at the landlord's own expense."
_FEVER = "In children with fever, paracetamol lowered the temperature within two hours."

PROBES = (
    Probe("What is the capital of China?", _CAPITAL, _GRAVITY),
    Probe("Explain gravity", _GRAVITY, _CAPITAL),
    Probe("Who pays for repairs of the roof?", _ROOF, _FEVER),
    Probe("Which medicine lowers a child's fever?", _FEVER, _ROOF),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A probe's two logits."""

    probe: Probe
    relevant: float
    irrelevant: float

    @property
    def is_right(self) -> bool:
        return self.relevant > self.irrelevant


def run_probes(scorer: TextScorer) -> tuple[Verdict, ...]:
    """Both texts of every probe, scored."""
    verdicts = []
    for probe in PROBES:
        prefix = scorer.template.prefix(instruction_text(None), probe.query)
        texts = [scorer.template.document("", each) for each in (probe.relevant, probe.irrelevant)]
        found = {score.place: score.logit for score in scorer.score(prefix, texts)}
        verdicts.append(Verdict(probe, found[0], found[1]))
    return tuple(verdicts)


def require_sense(scorer: TextScorer, where: str) -> tuple[Verdict, ...]:
    """Raises ModelUnavailable when any probe is ranked the wrong way round."""
    verdicts = run_probes(scorer)
    wrong = [verdict for verdict in verdicts if not verdict.is_right]
    if wrong:
        first = wrong[0]
        raise ModelUnavailable(
            f"{where} ranks nonsense above sense in {len(wrong)} of {len(verdicts)} probes: for "
            f"{first.probe.query!r} it prefers {first.probe.irrelevant[:40]!r} "
            f"({first.irrelevant:.2f}) to {first.probe.relevant[:40]!r} ({first.relevant:.2f}).",
            "It is no Qwen3-Reranker, was converted without its head, or is damaged. Fetch it "
            "again: longleaf models pull Qwen/Qwen3-Reranker-0.6B",
        )
    return verdicts
