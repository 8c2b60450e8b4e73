"""Random paths through an acyclic lattice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import exp64
from wfst_losses.compiled.random import next_uniform

Ints = npt.NDArray[np.int64]
States = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating[Any]]


@compiled_reduction
def _log_sum(values: Floats) -> float:
    peak = -np.inf
    for value in values:
        peak = max(peak, value)
    if peak == -np.inf:
        return peak
    total = 0.0
    for value in values:
        total += exp64(value - peak)
    return peak + math.log(total)


@compiled
def rests(destination: States, scores: Scores, out_splits: Ints, scale: float) -> Floats:
    """``(num_states,)`` the log-sum over all paths from each state to the last, of ``scale`` times their scores.

    One utterance with states from 0 to the last, its end. No path leads through NaN.
    """
    num_states, widest = len(out_splits) - 1, 0
    for state in range(num_states):
        widest = max(widest, out_splits[state + 1] - out_splits[state])
    values, rest = np.empty(widest, np.float64), np.full(max(num_states, 0), -np.inf)
    rest[num_states - 1 :] = 0.0
    for state in range(num_states - 2, -1, -1):
        low, high = out_splits[state], out_splits[state + 1]
        for arc in range(low, high):
            value = scale * scores[arc] + rest[destination[arc]]
            values[arc - low] = max(-np.inf, value)
        rest[state] = _log_sum(values[: high - low])
    return rest


@compiled
def walk(
    destination: States, scores: Scores, out_splits: Ints, scale: float, rest: Floats, seeds: Ints
) -> tuple[Ints, Ints]:
    """One path per seed: the arcs taken, and where each path's begin. There must be a path."""
    end, size = len(out_splits) - 2, 0
    steps, splits = np.empty(64 * len(seeds), np.int64), np.zeros(len(seeds) + 1, np.int64)
    for path in range(len(seeds)):
        state, stream = 0, np.uint64(seeds[path])
        while state != end:
            stream, uniform = next_uniform(stream)
            taken, reached = -1, 0.0
            for arc in range(out_splits[state], out_splits[state + 1]):
                share = exp64(scale * scores[arc] + rest[destination[arc]] - rest[state])
                if share > 0.0:
                    # Rounding leaves the sum of the shares beside 1: the last arc takes what is missing.
                    taken, reached = arc, reached + share
                    if reached > uniform:
                        break
            if size == len(steps):
                steps = np.append(steps, steps)
            steps[size] = taken
            size, state = size + 1, destination[taken]
        splits[path + 1] = size
    return steps[:size], splits
