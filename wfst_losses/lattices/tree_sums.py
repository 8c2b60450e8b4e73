"""Sums over all paths of a lattice that write each hypothesis of a prefix tree, forward and backward.

The lattice is composed with the tree, never with each hypothesis on its own: hypotheses share the work of their
common beginnings. Composed states are pairs (lattice state, node). They are kept; composed arcs are found again in
the backward pass, so memory does not grow with arcs.

Each sum is a float64 mantissa and a power of two of its own: nothing underflows, and no exponential is taken but once
per arc.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two
from wfst_losses.lattices.weights import weigh

Ints: TypeAlias = npt.NDArray[np.int64]
Nodes: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]


class Tree(NamedTuple):
    """The columns of a `PrefixTree`."""

    parent: Ints
    label: Ints
    by_label: Ints
    label_splits: Ints
    child_splits: Ints
    children: Ints


class Arcs(NamedTuple):
    """The arcs of one utterance, states counted from 0; ``arcs_into`` groups them by destination."""

    source: Ints
    tokens: Ints
    token_splits: Ints
    arcs_into: Ints
    into_splits: Ints


class Pairs(NamedTuple):
    """Composed states with their sums: those of lattice state s lie between ``splits[s]`` and ``splits[s + 1]``.

    Attributes:
        splits: ``(num_states + 1,)``.
        node: ascending within a state.
        mantissas, exponents: the sum over all paths to the pair.
    """

    splits: Ints
    node: Nodes
    mantissas: Floats
    exponents: Ints


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
def _descend(node: int, tokens: Ints, low: int, high: int, tree: Tree) -> int:
    """The node reached from ``node`` by ``tokens[low:high]``, -1 where the tree has none; children lie by label."""
    for position in range(low, high):
        token, begin, end = tokens[position], tree.child_splits[node], tree.child_splits[node + 1]
        while end - begin > 1:
            middle = (begin + end) // 2
            if tree.label[tree.children[middle]] <= token:
                begin = middle
            else:
                end = middle
        if begin == end or tree.label[tree.children[begin]] != token:
            return -1
        node = tree.children[begin]
    return node


@compiled
def _matches(arc: int, splits: Ints, node: Nodes, arcs: Arcs, tree: Tree, origin: Ints, reached: Ints) -> int:
    """All pairs the arc leads from (into ``origin``) and the nodes it leads to (into ``reached``); their number."""
    begin, end = splits[arcs.source[arc]], splits[arcs.source[arc] + 1]
    low, high = arcs.token_splits[arc], arcs.token_splits[arc + 1]
    count = 0
    if low == high:
        for pair in range(begin, end):
            origin[count], reached[count] = pair, node[pair]
            count += 1
        return count
    first = arcs.tokens[low]
    if begin == end or first + 1 >= len(tree.label_splits):
        return 0
    # Whichever are fewer: pairs, or nodes that the token enters.
    if end - begin <= 2 * (tree.label_splits[first + 1] - tree.label_splits[first]):
        for pair in range(begin, end):
            there = _descend(node[pair], arcs.tokens, low, high, tree)
            if there >= 0:
                origin[count], reached[count] = pair, there
                count += 1
        return count
    for place in range(tree.label_splits[first], tree.label_splits[first + 1]):
        pair = _find(node, begin, end, tree.parent[tree.by_label[place]])
        if pair >= 0:
            there = _descend(tree.by_label[place], arcs.tokens, low + 1, high, tree)
            if there >= 0:
                origin[count], reached[count] = pair, there
                count += 1
    return count


@compiled
def _with_room(pairs: Pairs, filled: int, needed: int) -> Pairs:
    if needed <= len(pairs.node):
        return pairs
    nodes, mantissas = np.empty(2 * needed, np.int32), np.empty(2 * needed, np.float64)
    exponents = np.empty(2 * needed, np.int64)
    nodes[:filled], mantissas[:filled] = pairs.node[:filled], pairs.mantissas[:filled]
    exponents[:filled] = pairs.exponents[:filled]
    return Pairs(pairs.splits, nodes, mantissas, exponents)


@compiled
def forward(arcs: Arcs, tree: Tree, scores: Floats, num_states: int) -> Pairs:
    """The sums of all pairs of one utterance."""
    factors, powers = weigh(scores)
    num_nodes = len(tree.parent)
    capacity = 4 * num_states + num_nodes
    pairs = Pairs(
        np.zeros(num_states + 1, np.int64),
        np.zeros(capacity, np.int32),
        np.ones(capacity, np.float64),
        np.zeros(capacity, np.int64),
    )
    total, peak = np.empty(num_nodes, np.float64), np.empty(num_nodes, np.int64)
    stamp, touched = np.full(num_nodes, np.int64(-1)), np.empty(num_nodes, np.int64)
    origin, reached = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    pairs.splits[1] = 1
    for state in range(1, num_states):
        num_touched = 0
        for position in range(arcs.into_splits[state], arcs.into_splits[state + 1]):
            arc = arcs.arcs_into[position]
            if factors[arc] == 0.0:
                continue
            for match in range(_matches(arc, pairs.splits, pairs.node, arcs, tree, origin, reached)):
                node, pair = reached[match], origin[match]
                value, power = pairs.mantissas[pair] * factors[arc], pairs.exponents[pair] + powers[arc]
                if stamp[node] != state:
                    stamp[node], total[node], peak[node] = state, value, power
                    touched[num_touched] = node
                    num_touched += 1
                elif power > peak[node]:
                    total[node], peak[node] = total[node] * power_of_two(peak[node] - power) + value, power
                else:
                    total[node] += value * power_of_two(power - peak[node])
        begin = pairs.splits[state]
        pairs = _with_room(pairs, begin, begin + num_touched)
        ordered = np.sort(touched[:num_touched])
        for offset in range(num_touched):
            node = ordered[offset]
            excess = exponent_of(total[node])
            pairs.node[begin + offset] = node
            pairs.mantissas[begin + offset] = total[node] * power_of_two(-excess)
            pairs.exponents[begin + offset] = peak[node] + excess
        pairs.splits[state + 1] = begin + num_touched
    count = pairs.splits[-1]
    return Pairs(
        pairs.splits, pairs.node[:count].copy(), pairs.mantissas[:count].copy(), pairs.exponents[:count].copy()
    )


@compiled
def leaf_pairs(leaf: Ints, pairs: Pairs) -> tuple[Ints, Floats]:
    """For each leaf, its pair with the last state and its log-sum; -1 and -inf where no path writes it."""
    place, log_sum = np.full(len(leaf), np.int64(-1)), np.full(len(leaf), -np.inf)
    for row in range(len(leaf)):
        pair = _find(pairs.node, pairs.splits[-2], pairs.splits[-1], leaf[row])
        if pair >= 0:
            place[row] = pair
            log_sum[row] = math.log(pairs.mantissas[pair]) + pairs.exponents[pair] / LOG2_E
    return place, log_sum


@compiled
def backward(arcs: Arcs, tree: Tree, scores: Floats, pairs: Pairs, adjoint: Floats) -> Floats:
    """``sum_i g_i dZ_i / dscore`` per arc: one pass for all sequences, ``adjoint`` holding the g_i at their leaves."""
    factors, powers = weigh(scores)
    num_states, num_nodes = len(pairs.splits) - 1, len(tree.parent)
    gradient = np.zeros(len(scores), np.float64)
    origin, reached = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    pair_of_node = np.empty(num_nodes, np.int64)
    for state in range(num_states - 1, 0, -1):
        live = False
        for pair in range(pairs.splits[state], pairs.splits[state + 1]):
            pair_of_node[pairs.node[pair]] = pair
            live = live or adjoint[pair] != 0.0
        if not live:
            continue
        for position in range(arcs.into_splits[state], arcs.into_splits[state + 1]):
            arc = arcs.arcs_into[position]
            if factors[arc] == 0.0:
                continue
            for match in range(_matches(arc, pairs.splits, pairs.node, arcs, tree, origin, reached)):
                pair, before = pair_of_node[reached[match]], origin[match]
                if adjoint[pair] != 0.0:
                    aligned = power_of_two(pairs.exponents[before] + powers[arc] - pairs.exponents[pair])
                    share = pairs.mantissas[before] * factors[arc] * aligned / pairs.mantissas[pair]
                    adjoint[before] += adjoint[pair] * share
                    gradient[arc] += adjoint[pair] * share
    return gradient
