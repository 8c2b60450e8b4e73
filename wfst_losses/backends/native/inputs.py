"""What a network gave, as compiled loops take it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[Any]


class Inputs(NamedTuple):
    """Scores as compiled loops read them.

    Attributes:
        scores: ``(B, T, V)``.
        log_sums: ``(B, T)`` what to subtract from each row.
        lengths: ``(B,)`` frames.
        tolerance: how far a row's log-sum may lie from 0; negative where rows are checked already.
    """

    scores: Scores
    log_sums: Scores
    lengths: npt.NDArray[np.int64]
    tolerance: float = -1.0
