"""Reading all but one token over shared arcs: what makes lossless compact small where a state lists many tokens."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, Graph
from topologies.batch import ranges

Ints: TypeAlias = npt.NDArray[np.int64]
_ARCS_PER_LEAF = 6


class Arcs:
    """A graph in the making over a grammar: its arcs are copies of the grammar's, or free ones."""

    def __init__(self, num_nodes: int, grammar: Graph) -> None:
        self.num_nodes, self.grammar = num_nodes, grammar
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []
        self._finals: list[tuple[Ints, Ints]] = []

    def new(self, count: int) -> Ints:
        """So many nodes more."""
        self.num_nodes += count
        return np.arange(self.num_nodes - count, self.num_nodes)

    def add(self, source: Ints, destination: Ints, label: int | Ints) -> None:
        """Free arcs that write nothing."""
        nothing = np.full(len(source), EPSILON, dtype=np.int32)
        read = np.broadcast_to(np.asarray(label, dtype=np.int32), len(source))
        self._parts.append((source, destination, read, nothing, np.zeros(len(source), dtype=self.grammar.score.dtype)))

    def copy(self, source: Ints, destination: Ints, arc: Ints) -> None:
        """Arcs that read, write and score what arcs of the grammar do."""
        grammar = self.grammar
        self._parts.append(
            (source, destination, grammar.input_label[arc], grammar.output_label[arc], grammar.score[arc])
        )

    def finals(self, node: Ints, state: Ints) -> None:
        """Nodes are final as states of the grammar are."""
        self._finals.append((node, state))

    def graph(self, start: int) -> Graph:
        """The graph of all that was added."""
        source, destination, read, written, score = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        final_score = np.full(self.num_nodes, -np.inf, dtype=self.grammar.final_score.dtype)
        for node, state in self._finals:
            final_score[node] = self.grammar.final_score[state]
        source, destination = source.astype(np.int32), destination.astype(np.int32)
        return Graph(source, destination, read, written, score, final_score, start)


class Rows(Protocol):
    """What is known of the nodes over a grammar; see `wfst_losses.graphs.lossless_compact`."""

    grammar: Graph
    width: int
    reading: Ints
    listed: Ints
    token_of_arc: Ints
    first_token: int
    root: Ints
    backed: Ints


def share(arcs: Arcs, rows: Rows, node: Ints, state: Ints, label: Ints) -> npt.NDArray[np.bool_]:
    """Lay the arcs of states once, for whole nodes and for those that exclude a token: which states were.

    ``common(s)`` reads the tokens that no node at s excludes. For one excluded token, whole nodes have its arcs
    themselves. For k of them, two binary trees stand over the tokens, one to climb and one to descend: an excluding
    node climbs to the last subtree without its token, crosses to its sibling and descends.

    Args:
        arcs: to add to.
        rows: of the nodes.
        node, state, label: the excluding nodes, the states they read from and the tokens they do not read.
    """
    grammar = rows.grammar
    num_arcs = np.bincount(grammar.source[rows.reading], minlength=grammar.num_states)
    excluded = np.intersect1d(np.unique(state * rows.width + label), rows.listed, assume_unique=True)
    excluded_state = excluded // rows.width
    leaves = np.bincount(excluded_state, minlength=grammar.num_states)
    has_nodes = np.bincount(state, minlength=grammar.num_states) > 0
    # A tree costs arcs too: where a state has few, every node gets its own.
    shared = has_nodes & ((leaves <= 1) | (num_arcs > _ARCS_PER_LEAF + 1))
    common = np.full(grammar.num_states, -1)
    common[shared] = arcs.new(int(shared.sum()))
    arcs.finals(common[shared], np.flatnonzero(shared))

    whole = np.concatenate([rows.root[shared], rows.backed[shared]])
    whole_state = np.tile(np.flatnonzero(shared), 2)
    kept = shared[state]
    node, state, label = node[kept], state[kept], label[kept]
    is_leaf = np.isin(state * rows.width + label, excluded)
    # Nodes whose token is not listed here read all, as whole ones do.
    reads_all, reads_all_state = np.concatenate([whole, node[~is_leaf]]), np.concatenate([whole_state, state[~is_leaf]])
    arcs.add(reads_all, common[reads_all_state], EPSILON)
    arcs.add(node[is_leaf], common[state[is_leaf]], EPSILON)

    arc = rows.reading[shared[grammar.source[rows.reading]]]
    source = grammar.source[arc].astype(np.int64)
    key = source * rows.width + grammar.input_label[arc]
    is_common = ~np.isin(key, excluded)
    _copy(arcs, rows, common[source[is_common]], arc[is_common])
    arc, source, key = arc[~is_common], source[~is_common], key[~is_common]

    single = leaves[source] == 1
    order = np.argsort(reads_all_state, kind="stable")
    splits = np.searchsorted(reads_all_state[order], np.arange(grammar.num_states + 1))
    of_arc, place = ranges(splits[source[single]], splits[source[single] + 1])
    _copy(arcs, rows, reads_all[order[place]], arc[single][of_arc])

    in_tree = shared[excluded_state] & (leaves[excluded_state] > 1)
    tree = _Trees(arcs, excluded[in_tree], rows.width, grammar.num_states)
    _copy(arcs, rows, tree.down_leaf[np.searchsorted(tree.keys, key[~single])], arc[~single])
    several = leaves[reads_all_state] > 1
    arcs.add(reads_all[several], tree.top[reads_all_state[several]], EPSILON)
    climbs = is_leaf & (leaves[state] > 1)
    arcs.add(node[climbs], tree.up_leaf[np.searchsorted(tree.keys, (state * rows.width + label)[climbs])], EPSILON)
    return shared


def _copy(arcs: Arcs, rows: Rows, source: Ints, arc: Ints) -> None:
    arcs.copy(source, rows.first_token + rows.token_of_arc[arc], arc)


class _Trees:
    """A pair of trees per state over the tokens excluded there, in the order of ``keys``; virtual arcs added.

    As in a heap, node n of a tree over k leaves has children 2n and 2n + 1, and leaf l is node k + l.

    Attributes:
        up_leaf, down_leaf: ``(len(keys),)`` the climbing and descending node of each leaf.
        top: by state, the descending root.
    """

    def __init__(self, arcs: Arcs, keys: Ints, width: int, num_states: int) -> None:
        self.keys = keys
        owner, leaves = np.unique(keys // width, return_counts=True)
        first = np.cumsum(2 * leaves) - 2 * leaves  # node n of a tree is numbered first + n
        tree, place = ranges(np.zeros_like(leaves), 2 * leaves)
        climbing, descending = arcs.new(len(tree)), arcs.new(len(tree))
        low, at = first[tree], place
        is_child = at >= 2
        arcs.add(climbing[is_child], descending[(low + (at ^ 1))[is_child]], EPSILON)
        rises = at >= 4
        arcs.add(climbing[rises], climbing[(low + at // 2)[rises]], EPSILON)
        arcs.add(descending[(low + at // 2)[is_child]], descending[is_child], EPSILON)
        leaf = at >= leaves[tree]
        self.up_leaf, self.down_leaf = climbing[leaf], descending[leaf]
        self.top = np.full(num_states, -1)
        self.top[owner] = descending[first + 1]
