"""Sums over all paths of a lattice that write each hypothesis of a prefix tree, forward and backward.

The lattice is composed with the tree, never with each hypothesis on its own: hypotheses share the work of their
common beginnings. Composed states are pairs (lattice state, node). They are kept; composed arcs are found again in
the backward pass, so memory does not grow with arcs.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled

Ints: TypeAlias = npt.NDArray[np.int64]
Nodes: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]
Lattice: TypeAlias = tuple[Ints, Ints, Ints]
"""source, tokens, token_splits of one utterance"""
Tree: TypeAlias = tuple[Ints, Ints, Ints, Ints, Ints, Ints]
"""parent, label, by_label, label_splits, child_splits, children"""


@compiled
def _find(values: Nodes, low: int, high: int, wanted: int) -> int:
    """Position of ``wanted`` in the ascending ``values[low:high]``, -1 where it is not."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < end and values[low] == wanted else -1


@compiled
def _descend(node: int, tokens: Ints, low: int, high: int, label: Ints, child_splits: Ints, children: Ints) -> int:
    """The node reached from ``node`` by ``tokens[low:high]``, -1 where the tree has none."""
    for position in range(low, high):
        found = -1
        for place in range(child_splits[node], child_splits[node + 1]):
            if label[children[place]] == tokens[position]:
                found = children[place]
                break
        if found < 0:
            return -1
        node = found
    return node


@compiled
def _matches(
    arc: int, pair_splits: Ints, node_of_pair: Nodes, lattice: Lattice, tree: Tree, origin: Ints, reached: Ints
) -> int:
    """All pairs the arc leads from (into ``origin``) and the nodes it leads to (into ``reached``); their number."""
    source, tokens, token_splits = lattice
    parent, label, by_label, label_splits, child_splits, children = tree
    begin, end = pair_splits[source[arc]], pair_splits[source[arc] + 1]
    low, high = token_splits[arc], token_splits[arc + 1]
    count = 0
    if low == high:
        for pair in range(begin, end):
            origin[count], reached[count] = pair, node_of_pair[pair]
            count += 1
        return count
    first = tokens[low]
    if begin == end or first + 1 >= len(label_splits):
        return 0
    for place in range(label_splits[first], label_splits[first + 1]):
        pair = _find(node_of_pair, begin, end, parent[by_label[place]])
        if pair >= 0:
            node = _descend(by_label[place], tokens, low + 1, high, label, child_splits, children)
            if node >= 0:
                origin[count], reached[count] = pair, node
                count += 1
    return count


@compiled
def forward(
    lattice: Lattice, tree: Tree, scores: Floats, arcs_into: Ints, into_splits: Ints, num_states: int
) -> tuple[Ints, Nodes, Floats]:
    """Log-sums of all pairs of one utterance.

    Returns:
        ``pair_splits`` ``(num_states + 1,)``, and per pair its node (ascending within a state) and log-sum.
    """
    num_nodes = len(tree[0])
    capacity = 4 * num_states + num_nodes
    node_of_pair, alpha = np.empty(capacity, np.int32), np.empty(capacity, np.float64)
    pair_splits = np.zeros(num_states + 1, np.int64)
    peak, total = np.empty(num_nodes, np.float64), np.empty(num_nodes, np.float64)
    stamp = np.full(num_nodes, -1, np.int64)
    origin, reached = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    touched = np.empty(num_nodes, np.int64)
    node_of_pair[0], alpha[0], pair_splits[1] = 0, 0.0, 1
    for state in range(1, num_states):
        num_touched = 0
        for position in range(into_splits[state], into_splits[state + 1]):
            arc = arcs_into[position]
            if scores[arc] == -np.inf:
                continue
            for match in range(_matches(arc, pair_splits, node_of_pair, lattice, tree, origin, reached)):
                node, value = reached[match], alpha[origin[match]] + scores[arc]
                if stamp[node] != state:
                    stamp[node], peak[node], total[node] = state, value, 1.0
                    touched[num_touched] = node
                    num_touched += 1
                elif value > peak[node]:
                    total[node] = total[node] * np.exp(peak[node] - value) + 1.0
                    peak[node] = value
                else:
                    total[node] += np.exp(value - peak[node])
        begin = pair_splits[state]
        if begin + num_touched > len(alpha):
            capacity = 2 * (begin + num_touched)
            larger_nodes, larger_alpha = np.empty(capacity, np.int32), np.empty(capacity, np.float64)
            larger_nodes[:begin], larger_alpha[:begin] = node_of_pair[:begin], alpha[:begin]
            node_of_pair, alpha = larger_nodes, larger_alpha
        ordered = np.sort(touched[:num_touched])
        for offset in range(num_touched):
            node = ordered[offset]
            node_of_pair[begin + offset] = node
            alpha[begin + offset] = peak[node] + np.log(total[node])
        pair_splits[state + 1] = begin + num_touched
    return pair_splits, node_of_pair[: pair_splits[-1]].copy(), alpha[: pair_splits[-1]].copy()


@compiled
def leaf_pairs(leaf: Ints, pair_splits: Ints, node_of_pair: Nodes) -> Ints:
    """For each leaf, its pair with the last state of the lattice, -1 where no path writes the sequence."""
    result = np.full(len(leaf), -1, np.int64)
    if len(pair_splits) > 1:
        for row in range(len(leaf)):
            result[row] = _find(node_of_pair, pair_splits[-2], pair_splits[-1], leaf[row])
    return result


@compiled
def backward(
    lattice: Lattice,
    tree: Tree,
    scores: Floats,
    arcs_into: Ints,
    into_splits: Ints,
    pair_splits: Ints,
    node_of_pair: Nodes,
    alpha: Floats,
    adjoint: Floats,
) -> Floats:
    """``sum_i g_i dZ_i / dscore`` per arc: one pass for all sequences, ``adjoint`` holding the g_i at their leaves."""
    num_states, num_nodes = len(pair_splits) - 1, len(tree[0])
    gradient = np.zeros(len(scores), np.float64)
    origin, reached = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    pair_of_node = np.empty(num_nodes, np.int64)
    for state in range(num_states - 1, 0, -1):
        live = False
        for pair in range(pair_splits[state], pair_splits[state + 1]):
            pair_of_node[node_of_pair[pair]] = pair
            live = live or adjoint[pair] != 0.0
        if not live:
            continue
        for position in range(into_splits[state], into_splits[state + 1]):
            arc = arcs_into[position]
            if scores[arc] == -np.inf:
                continue
            for match in range(_matches(arc, pair_splits, node_of_pair, lattice, tree, origin, reached)):
                pair = pair_of_node[reached[match]]
                if adjoint[pair] != 0.0:
                    share = adjoint[pair] * np.exp(alpha[origin[match]] + scores[arc] - alpha[pair])
                    adjoint[origin[match]] += share
                    gradient[arc] += share
    return gradient
