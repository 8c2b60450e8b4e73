"""Random numbers in compiled loops: a stream of its own for each path, whatever thread walks it."""

from __future__ import annotations

import numpy as np

from wfst_losses.compiled import compiled_inline


@compiled_inline
def next_uniform(state: np.uint64) -> tuple[np.uint64, float]:
    """The next state of a splitmix64 stream, and a number in [0, 1)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return state, np.float64(mixed >> np.uint64(11)) * 2.0**-53
