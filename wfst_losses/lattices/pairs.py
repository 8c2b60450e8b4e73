"""How many states a lattice composed with a prefix tree can have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled

Ints = npt.NDArray[np.int64]


@compiled
def most_pairs(source: Ints, destination: Ints, token_splits: Ints, num_states: int, parent: Ints) -> int:
    """A bound on the pairs of a state and a node: paths to the state write as many tokens as the node is deep.

    Arcs come in ascending order of source, nodes after their ``parent``.
    """
    depth, counts = np.zeros(len(parent), np.int64), np.zeros(len(parent) + 1, np.int64)
    for node in range(1, len(parent)):
        depth[node] = depth[parent[node]] + 1
    for node in range(len(parent)):
        counts[depth[node] + 1] += 1
    below, deepest = np.cumsum(counts), depth.max()
    fewest, most = np.full(num_states, deepest + 1), np.full(num_states, np.int64(-1))
    fewest[0], most[0] = 0, 0
    total = 0
    for arc in range(len(source)):
        here, there, written = source[arc], destination[arc], token_splits[arc + 1] - token_splits[arc]
        if most[here] >= 0:
            fewest[there] = min(fewest[there], fewest[here] + written)
            most[there] = max(most[there], most[here] + written)
    for state in range(num_states):
        if most[state] >= 0 and fewest[state] <= deepest:
            total += below[min(most[state], deepest) + 1] - below[fewest[state]]
    return int(total)
