"""How many states a lattice composed with a prefix tree has: counted, where a limit is to be held, before any sum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.lattices.prefix_tree import PrefixTree
from wfst_losses.lattices.utterance import Utterance

Ints = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int32]

COUNTING_BYTES = 12
"""Per pair while it is counted: its node, and room for twice as many."""


def num_pairs(part: Utterance, tree: PrefixTree, most: int) -> int:
    """Pairs of a state of one utterance and a node: some path to the state writes it. Stops counting above ``most``."""
    found: int = _count(
        part.source, part.arcs_into, part.into_splits, part.tokens, part.token_splits,
        tree.label, tree.child_splits, tree.children, most,
    )  # fmt: skip
    return found


@compiled
def _child(node: int, token: int, labels: Ints, child_splits: Ints, children: Ints) -> int:
    """The node one token on, -1 where the tree has none; children lie by label."""
    begin, end = child_splits[node], child_splits[node + 1]
    while end - begin > 1:
        middle = (begin + end) // 2
        if labels[children[middle]] <= token:
            begin = middle
        else:
            end = middle
    if begin == end or labels[children[begin]] != token:
        return -1
    return int(children[begin])


@compiled
def _count(
    source: Ints, arcs_into: Ints, into_splits: Ints, tokens: Ints, token_splits: Ints,
    labels: Ints, child_splits: Ints, children: Ints, most: int,
) -> int:  # fmt: skip
    num_states, num_nodes = len(into_splits) - 1, len(labels)
    splits, stamp = np.zeros(num_states + 1, np.int64), np.full(num_nodes, np.int64(-1))
    nodes, filled = np.zeros(1024 + num_nodes, np.int32), 1
    splits[1] = 1
    for state in range(1, num_states):
        if filled + num_nodes > len(nodes):
            nodes = np.append(nodes, np.empty(len(nodes), np.int32))
        for position in range(into_splits[state], into_splits[state + 1]):
            arc = arcs_into[position]
            for pair in range(splits[source[arc]], splits[source[arc] + 1]):
                node = int(nodes[pair])
                for place in range(token_splits[arc], token_splits[arc + 1]):
                    if node >= 0:
                        node = _child(node, tokens[place], labels, child_splits, children)
                if node >= 0 and stamp[node] != state:
                    stamp[node], nodes[filled] = state, node
                    filled += 1
        splits[state + 1] = filled
        if filled > most:
            break
    return filled
