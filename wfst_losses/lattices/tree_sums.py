"""Sums over all paths of a lattice that write each hypothesis of a prefix tree, forward and backward.

The lattice is composed with the tree, never with each hypothesis on its own: hypotheses share the work of their
common beginnings. Composed states are pairs (lattice state, node), found by following arcs from the start; a pair is
left out where no path from its lattice state writes as many tokens as the nearest of its node's leaves still wants.
The backward pass goes the composed arcs back.

Each sum is a float64 mantissa and a power of two of its own: nothing underflows, and no exponential is taken but once
per composed arc.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power
from wfst_losses.lattices.columns import written
from wfst_losses.lattices.tree_pairs import Composition, new_composition, slot_of, wanted_bytes, with_room

Ints: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[np.floating[Any]]

_MOST_BITS = 2.0**35
"""Scores below -2.4e10 nats are impossible."""


class Tree(NamedTuple):
    """The columns of a `PrefixTree`, and the fewest tokens from each node to a leaf."""

    label: Ints
    child_splits: Ints
    children: Ints
    fewest_left: Ints


class Arcs(NamedTuple):
    """The columns of an `Utterance`."""

    out_splits: Ints
    destination: Numbers
    tokens: Numbers
    token_splits: Ints
    scores: Scores


class Leaving(NamedTuple):
    """The ``num_arcs`` that leave a state: ``num_silent`` that write nothing, then by their ``first`` token."""

    arcs: Numbers
    first: Numbers
    num_silent: int
    num_arcs: int


@compiled
def fewest_left(parent: Ints, leaf: Ints) -> Ints:
    """The fewest tokens from each node to a leaf at or below it; children are numbered above parents."""
    fewest = np.full(len(parent), np.int64(2**31))
    for node in leaf:
        fewest[node] = 0
    for node in range(len(parent) - 1, 0, -1):
        fewest[parent[node]] = min(fewest[parent[node]], fewest[node] + 1)
    return fewest


@compiled
def most_tokens(arcs: Arcs) -> Ints:
    """No path from a state to the end writes more; below 0 where none leads there."""
    num_states = len(arcs.out_splits) - 1
    most = np.full(num_states, np.int64(-(2**40)))
    most[num_states - 1 :] = 0
    for state in range(num_states - 2, -1, -1):
        greatest = most[state]
        for arc in range(arcs.out_splits[state], arcs.out_splits[state + 1]):
            low, high = written(arc, arcs.tokens, arcs.token_splits)
            greatest = max(greatest, most[arcs.destination[arc]] + high - low)
        most[state] = greatest
    return most


@compiled_inline
def _follow(made: Composition, origin: int, arc: int, arcs: Arcs, node: int) -> None:
    """Go from a pair along an arc to the node there, whose pair is made if it is new; there must be room."""
    pairs, steps, head, table, filled = made
    bits = arcs.scores[arc] * LOG2_E
    if not bits > -_MOST_BITS:
        return
    factor, power = split_power(min(bits, _MOST_BITS))
    value, power = pairs.mantissas[origin] * factor, pairs.exponents[origin] + power
    state = arcs.destination[arc]
    slot = slot_of(state, node, pairs, table)
    pair = table[slot]
    if pair < 0:
        pair = filled[0]
        filled[0] = pair + 1
        table[slot] = pair
        pairs.state[pair], pairs.node[pair], pairs.link[pair] = state, node, head[state]
        pairs.mantissas[pair], pairs.exponents[pair] = value, power
        head[state] = pair
    elif power > pairs.exponents[pair]:
        pairs.mantissas[pair] = pairs.mantissas[pair] * power_of_two(pairs.exponents[pair] - power) + value
        pairs.exponents[pair] = power
    else:
        pairs.mantissas[pair] += value * power_of_two(power - pairs.exponents[pair])
    step = filled[1]
    filled[1] = step + 1
    steps.origin[step], steps.target[step], steps.arc[step] = origin, pair, arc
    steps.scores[step] = arcs.scores[arc]


@compiled
def _arrange(arcs: Arcs, low: int, high: int, order: Numbers, first: Numbers) -> int:
    """The arcs ``low..high - 1`` into ``order``: those that write nothing, then by ``first`` token.

    Returns:
        How many write nothing.
    """
    num_silent, is_sorted = 0, True
    for arc in range(low, high):
        begin, end = written(arc, arcs.tokens, arcs.token_splits)
        if begin == end:
            order[num_silent] = arc
            num_silent += 1
    count = num_silent
    for arc in range(low, high):
        begin, end = written(arc, arcs.tokens, arcs.token_splits)
        if begin < end:
            order[count], first[count] = arc, arcs.tokens[begin]
            is_sorted = is_sorted and (count == num_silent or first[count - 1] <= first[count])
            count += 1
    # k2 mostly leaves them so.
    if not is_sorted:
        sorting = np.argsort(first[num_silent:count], kind="mergesort")
        order[num_silent:count] = order[num_silent:count][sorting]
        first[num_silent:count] = first[num_silent:count][sorting]
    return num_silent


@compiled_inline
def _lower_bound(values: npt.NDArray[Any], low: int, high: int, wanted: int) -> int:
    """The first place in the ascending ``values[low:high]`` that is not below ``wanted``."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled_inline
def _child(tree: Tree, node: int, token: int) -> int:
    """The node of the prefix and one more token, -1 where the tree has none."""
    low, high = tree.child_splits[node], tree.child_splits[node + 1]
    while low < high:
        middle = (low + high) // 2
        if tree.label[tree.children[middle]] < token:
            low = middle + 1
        else:
            high = middle
    if low < tree.child_splits[node + 1] and tree.label[tree.children[low]] == token:
        return int(tree.children[low])
    return -1


@compiled_inline
def _rest_of(arc: int, node: int, arcs: Arcs, tree: Tree) -> int:
    """From the node of an arc's first token on to that of its last, -1 where the tree has none."""
    low, high = written(arc, arcs.tokens, arcs.token_splits)
    for position in range(low + 1, high):
        if node >= 0:
            node = _child(tree, node, arcs.tokens[position])
    return node


@compiled
def _leave(pair: int, leaving: Leaving, arcs: Arcs, tree: Tree, most: Ints, made: Composition) -> int:
    """Follow the arcs from a state's pairs, the given one and those it links to.

    Returns:
        The pair that there is no room to go on with, -1 where all is done.
    """
    num_silent, count = leaving.num_silent, leaving.num_arcs
    while pair >= 0:
        if made.filled[1] + count > len(made.steps.arc) or made.filled[0] + count > len(made.pairs.node):
            return pair
        excess = exponent_of(made.pairs.mantissas[pair])
        made.pairs.mantissas[pair] *= power_of_two(-excess)
        made.pairs.exponents[pair] += excess
        node = made.pairs.node[pair]
        for place in range(num_silent):
            if tree.fewest_left[node] <= most[arcs.destination[leaving.arcs[place]]]:
                _follow(made, pair, leaving.arcs[place], arcs, node)
        begin, end = tree.child_splits[node], tree.child_splits[node + 1]
        # Whichever are fewer: the node's children, or arcs that write.
        if end - begin <= count - num_silent:
            for child in tree.children[begin:end]:
                token = tree.label[child]
                place = _lower_bound(leaving.first, num_silent, count, token)
                while place < count and leaving.first[place] == token:
                    reached = _rest_of(leaving.arcs[place], child, arcs, tree)
                    if reached >= 0 and tree.fewest_left[reached] <= most[arcs.destination[leaving.arcs[place]]]:
                        _follow(made, pair, leaving.arcs[place], arcs, reached)
                    place += 1
        else:
            for place in range(num_silent, count):
                reached = _rest_of(leaving.arcs[place], _child(tree, node, leaving.first[place]), arcs, tree)
                if reached >= 0 and tree.fewest_left[reached] <= most[arcs.destination[leaving.arcs[place]]]:
                    _follow(made, pair, leaving.arcs[place], arcs, reached)
        pair = made.pairs.link[pair]
    return -1


@compiled
def forward(arcs: Arcs, tree: Tree, most_bytes: int) -> Composition:
    """The sums of all pairs of one utterance; it stops where it would take more than ``most_bytes``."""
    num_states, widest = len(arcs.out_splits) - 1, 1
    for state in range(num_states):
        widest = max(widest, arcs.out_splits[state + 1] - arcs.out_splits[state])
    most = most_tokens(arcs)
    # Most often a pair or two of each node is enough.
    made = new_composition(num_states, 2 * len(tree.label), arcs.scores)
    order, first = np.empty(widest, np.int32), np.empty(widest, np.int32)
    for state in range(num_states):
        pair = made.head[state]
        if pair >= 0:
            low, high = arcs.out_splits[state], arcs.out_splits[state + 1]
            leaving = Leaving(order, first, _arrange(arcs, low, high, order, first), high - low)
            pair = _leave(pair, leaving, arcs, tree, most, made)
            while pair >= 0:
                wanted = wanted_bytes(made, high - low)
                if wanted > most_bytes:
                    made.filled[2] = wanted
                    return made
                made = with_room(made, high - low)
                pair = _leave(pair, leaving, arcs, tree, most, made)
    return made


@compiled
def leaf_pairs(leaf: Ints, last_state: int, made: Composition) -> tuple[Ints, Floats]:
    """For each leaf, its pair with the last state and its log-sum; -1 and -inf where no path writes it."""
    place, log_sum = np.full(len(leaf), np.int64(-1)), np.full(len(leaf), -np.inf)
    for row in range(len(leaf)):
        pair = made.table[slot_of(last_state, leaf[row], made.pairs, made.table)]
        if pair >= 0:
            place[row] = pair
            log_sum[row] = math.log(made.pairs.mantissas[pair]) + made.pairs.exponents[pair] / LOG2_E
    return place, log_sum


@compiled
def backward(num_arcs: int, made: Composition, adjoint: Floats) -> Floats:
    """``sum_i g_i dZ_i / dscore`` per arc: one pass for all sequences, ``adjoint`` holding the g_i at their leaves."""
    pairs, steps, _, _, filled = made
    gradient = np.zeros(num_arcs, np.float64)
    for step in range(filled[1] - 1, -1, -1):
        there = adjoint[steps.target[step]]
        if there == 0.0:
            continue
        origin, target = steps.origin[step], steps.target[step]
        factor, power = split_power(min(steps.scores[step] * LOG2_E, _MOST_BITS))
        aligned = power_of_two(pairs.exponents[origin] + power - pairs.exponents[target])
        share = there * (pairs.mantissas[origin] * factor * aligned / pairs.mantissas[target])
        adjoint[origin] += share
        gradient[steps.arc[step]] += share
    return gradient
