"""Scores of arcs as weights: mantissas and powers of two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, split_power

NOTHING = -(2**50)
"""The exponent of a sum over nothing: below anything a path can reach."""
_MOST_BITS = 1e9
"""Scores below about -7e8 nats are impossible."""


@compiled
def weigh(scores: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """``e^score`` split, 0 for -inf and NaN."""
    mantissas, exponents = np.empty(len(scores), np.float64), np.empty(len(scores), np.int64)
    for arc in range(np.uint64(len(scores))):
        bits = scores[arc] * LOG2_E
        mantissa, exponent = split_power(min(max(bits, -_MOST_BITS), _MOST_BITS))
        mantissas[arc] = mantissa if bits > -_MOST_BITS else 0.0
        exponents[arc] = exponent
    return mantissas, exponents
