"""How many different numbers there are in each of several rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled

Ints = npt.NDArray[np.int64]


@compiled
def num_distinct(values: npt.NDArray[Any], splits: Ints) -> Ints:
    """``(G,)`` of ``values[splits[g]:splits[g + 1]]``; those below 0 do not count."""
    seen, counts = np.full(max(0, values.max()) + 1 if len(values) else 0, -1), np.zeros(len(splits) - 1, np.int64)
    for row in range(len(counts)):
        for place in range(splits[row], splits[row + 1]):
            value = values[place]
            if value >= 0 and seen[value] != row:
                seen[value] = row
                counts[row] += 1
    return counts
