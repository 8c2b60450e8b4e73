"""Small readings of a lattice's columns in compiled loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_inline


@compiled_inline
def written(arc: int, tokens: npt.NDArray[np.int32], token_splits: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Where the arc's tokens begin and end in ``tokens``; see `Utterance`."""
    if len(token_splits) > 0:
        return token_splits[arc], token_splits[arc + 1]
    return arc, arc + (1 if tokens[arc] > 0 else 0)


@compiled
def is_topological(
    out_splits: npt.NDArray[np.int64], destination: npt.NDArray[np.int32], state_splits: npt.NDArray[np.int64]
) -> bool:
    """Whether every arc leads to a later state of its utterance."""
    for utterance in range(len(state_splits) - 1):
        begin, num_states = state_splits[utterance], state_splits[utterance + 1] - state_splits[utterance]
        for state in range(num_states):
            for arc in range(out_splits[begin + state], out_splits[begin + state + 1]):
                if destination[arc] <= state or destination[arc] >= num_states:
                    return False
    return True


@compiled
def longest_path(
    out_splits: npt.NDArray[np.int64], destination: npt.NDArray[np.int32], state_splits: npt.NDArray[np.int64]
) -> int:
    """The most arcs on any path."""
    depth, longest = np.zeros(len(out_splits) - 1, np.int64), 0
    for utterance in range(len(state_splits) - 1):
        first = state_splits[utterance]
        for state in range(first, state_splits[utterance + 1]):
            longest = max(longest, depth[state])
            for arc in range(out_splits[state], out_splits[state + 1]):
                there = first + destination[arc]
                depth[there] = max(depth[there], depth[state] + 1)
    return int(longest)
