"""One z-score for every place that adds scores of different scales, and one sigmoid.

It knows neither who made the scores nor what they are added to. Z-scores are never compared across
queries: they say where a value stands among the values it was given with, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def z_scores(values: Sequence[float]) -> list[float]:
    """(value - mean) / standard deviation (of the population), in float64, in the order given.

    Equal values (zero variance) carry no information and give 0.0 each, as does a single value;
    an empty sequence gives an empty list. The sums are exactly rounded, so a value's z-score does
    not depend on the order of the others. Raises ValueError when a value is NaN or infinite.
    """
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a z-score needs finite values")
    if not values or min(values) == max(values):
        return [0.0] * len(values)
    # Scaled first, by a power of two and so exactly: the squares of very large or very small
    # values leave float64's range.
    _, exponent = math.frexp(max(abs(value) for value in values))
    scaled = [math.ldexp(value, -exponent) for value in values]
    mean = math.fsum(scaled) / len(scaled)
    deviations = [value - mean for value in scaled]
    spread = math.sqrt(math.fsum(deviation * deviation for deviation in deviations) / len(scaled))
    if spread == 0.0:  # values one rounding step apart
        return [0.0] * len(values)
    return [deviation / spread for deviation in deviations]


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), which never overflows."""
    power = math.exp(-abs(logit))
    return 1.0 / (1.0 + power) if logit >= 0 else power / (1.0 + power)
