"""From every state to every other over O(n) arcs: what makes dense topologies cheap to sum over."""

from __future__ import annotations

import numpy as np

from topologies.graph import EPSILON, IntColumn


def to_every_other(num_states: int) -> tuple[IntColumn, IntColumn, IntColumn]:
    """Arcs that lead from each of ``n`` states to each of the others in exactly one way, the last one reading.

    Two binary trees stand over the states, one to climb and one to descend. From i to j a path climbs to the last
    subtree without j, crosses to its sibling and descends. Virtual arcs all but the last, which reads j. That is
    at most 6n arcs in place of n(n - 1), 2(n - 2) more states, and paths of at most ``2 log2(n)`` virtual arcs.

    Returns:
        source, destination and input label; states from ``n`` on are those of the trees.
    """
    nodes = np.arange(2, 2 * num_states, dtype=np.int32)
    # As in a heap: node k has children 2k and 2k + 1, the leaf of state i is node n + i, the root is no state.
    climbing = np.where(nodes >= num_states, nodes - num_states, num_states + nodes - 2)
    descending = np.where(nodes >= num_states, nodes - num_states, 2 * num_states + nodes - 4)
    read = np.where(nodes >= num_states, nodes - num_states, EPSILON)
    rises = nodes[nodes >= 4]
    sibling = (nodes ^ 1) - 2
    nothing = np.full_like(rises, EPSILON)
    return (
        np.concatenate([climbing, climbing[rises - 2], descending[rises // 2 - 2]]).astype(np.int32),
        np.concatenate([descending[sibling], climbing[rises // 2 - 2], descending[rises - 2]]).astype(np.int32),
        np.concatenate([read[sibling], nothing, read[rises - 2]]).astype(np.int32),
    )
