"""The prefix tree of a set of hypotheses, and sums over all paths of a lattice that write each of them.

The lattice is composed with the tree, never with each hypothesis on its own: hypotheses share the work of their
common beginnings. Composed states are pairs (lattice state, node). They are kept; composed arcs are found again in
the backward pass, so memory does not grow with arcs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from wfst_losses.validation import TokenSequence


@dataclasses.dataclass(frozen=True, eq=False)
class PrefixTree:
    """Sequences as a tree: node 0 is the empty prefix, children are numbered above their parents.

    Attributes:
        leaf: ``(P,)`` the node of each whole sequence.
        parent, label: ``(num_nodes,)`` how each node is entered; -1 at the root.
        by_label: nodes other than the root, grouped by label, within a label in ascending order of parent.
        label_splits: ``(num_labels + 1,)`` where each label's group begins in ``by_label``.
        child_splits, children: the children of each node.
    """

    leaf: npt.NDArray[np.int64]
    parent: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    by_label: npt.NDArray[np.int64]
    label_splits: npt.NDArray[np.int64]
    child_splits: npt.NDArray[np.int64]
    children: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[TokenSequence]) -> PrefixTree:
        """The tree of the given sequences; equal sequences share a leaf."""
        nodes: dict[tuple[int, int], int] = {}
        leaf = np.zeros(len(sequences), dtype=np.int64)
        for row, sequence in enumerate(sequences):
            node = 0
            for token in sequence.tolist():
                node = nodes.setdefault((node, token), len(nodes) + 1)
            leaf[row] = node
        entered = np.array([(-1, -1), *nodes], dtype=np.int64)
        parent, label = np.ascontiguousarray(entered[:, 0]), np.ascontiguousarray(entered[:, 1])
        by_label = 1 + np.lexsort((parent[1:], label[1:]))
        splits = np.searchsorted(label[by_label], np.arange(int(label.max(initial=0)) + 2))
        children = 1 + np.argsort(parent[1:], kind="stable")
        child_splits = np.searchsorted(parent[children], np.arange(len(parent) + 1))
        return cls(leaf, parent, label, by_label, splits, child_splits, children)


@numba.njit(cache=True)  # type: ignore[misc]
def _find(values, low, high, wanted):  # type: ignore[no-untyped-def]
    """Position of ``wanted`` in the ascending ``values[low:high]``, -1 where it is not."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < end and values[low] == wanted else -1


@numba.njit(cache=True)  # type: ignore[misc]
def _descend(node, tokens, low, high, label, child_splits, children):  # type: ignore[no-untyped-def]
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


@numba.njit(cache=True)  # type: ignore[misc]
def _matches(arc, pair_splits, node_of_pair, lattice, tree, origin, reached):  # type: ignore[no-untyped-def]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[misc]
def forward(lattice, tree, scores, arcs_into, into_splits, num_states):  # type: ignore[no-untyped-def]
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


@numba.njit(cache=True)  # type: ignore[misc]
def leaf_pairs(leaf, pair_splits, node_of_pair):  # type: ignore[no-untyped-def]
    """For each leaf, its pair with the last state of the lattice, -1 where no path writes the sequence."""
    result = np.full(len(leaf), -1, np.int64)
    if len(pair_splits) > 1:
        for row in range(len(leaf)):
            result[row] = _find(node_of_pair, pair_splits[-2], pair_splits[-1], leaf[row])
    return result


@numba.njit(cache=True, nogil=True)  # type: ignore[misc]
def backward(lattice, tree, scores, arcs_into, into_splits, pair_splits, node_of_pair, alpha, adjoint):  # type: ignore[no-untyped-def]
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
