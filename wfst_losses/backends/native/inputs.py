"""What a network gave, as compiled loops take it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[Any]


class Inputs(NamedTuple):
    """Scores ``(B, T, V)``, what to subtract from each row ``(B, T)``, frames ``(B,)``."""

    scores: Scores
    log_sums: Scores
    lengths: npt.NDArray[np.int64]
