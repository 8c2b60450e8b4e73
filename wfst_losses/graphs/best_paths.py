"""The best paths of graphs with emissions."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from wfst_losses.graphs.paths import Paths


@dataclasses.dataclass(frozen=True, eq=False)
class BestPaths(Paths):
    """One path per graph, in the order of the graphs.

    A graph without any path keeps its place: no steps, no tokens, score and graph score -inf.

    Attributes:
        token_frames: the frame at which each token is written. A virtual arc writes at the frame read after it, or
            at the last frame where none is.
        scores: ``(P,)`` float64, nats: of the whole path, emissions included.
    """

    token_frames: list[npt.NDArray[np.int64]]
    scores: npt.NDArray[np.float64]
