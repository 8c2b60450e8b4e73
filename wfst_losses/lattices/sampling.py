"""Random paths through an acyclic lattice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.compiled.random import next_uniform

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@compiled
def backward_scores(source: Ints, destination: Ints, scores: Floats, is_end: Flags) -> Floats:
    """``(num_states,)`` log-sum of the rest of all paths from each state; arcs in ascending order of source."""
    beta = np.where(is_end, 0.0, -np.inf)
    for arc in range(len(source) - 1, -1, -1):
        value = scores[arc] + beta[destination[arc]]
        state = source[arc]
        if value > beta[state]:
            value, beta[state] = beta[state], value
        if value > -np.inf:
            beta[state] += np.log1p(np.exp(value - beta[state]))
    return beta


@compiled
def walk(
    destination: Ints,
    scores: Floats,
    out_splits: Ints,
    beta: Floats,
    is_end: Flags,
    starts: Ints,
    seeds: Ints,
    longest: int,
) -> Ints:
    """One path per start: the arcs taken, -1 beyond its end. ``seeds`` holds one 64-bit seed per path."""
    steps = np.full((len(starts), longest), -1, np.int64)
    for row in range(len(starts)):
        state, stream = starts[row], np.uint64(seeds[row])
        length = 0
        while not is_end[state]:
            stream, uniform = next_uniform(stream)
            chosen = -1
            for arc in range(out_splits[state], out_splits[state + 1]):
                if beta[destination[arc]] == -np.inf or scores[arc] == -np.inf:
                    continue
                # The last possible arc stays chosen where rounding leaves a rest of the mass.
                chosen = arc
                uniform -= np.exp(scores[arc] + beta[destination[arc]] - beta[state])
                if uniform < 0.0:
                    break
            steps[row, length] = chosen
            length += 1
            state = destination[chosen]
    return steps


@compiled
def longest_path(source: Ints, destination: Ints, num_states: int) -> int:
    """The most arcs on any path; arcs in ascending order of source."""
    depth = np.zeros(num_states, np.int64)
    for arc in range(len(source)):
        depth[destination[arc]] = max(depth[destination[arc]], depth[source[arc]] + 1)
    return int(depth.max()) if num_states else 0
