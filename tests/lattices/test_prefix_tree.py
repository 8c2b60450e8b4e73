"""The prefix tree of hypotheses."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np

from wfst_losses.lattices.prefix_tree import PrefixTree


@hypothesis.given(sequences=st.lists(st.lists(st.integers(1, 3), max_size=5), max_size=6))
def test_every_node_is_a_prefix(sequences: list[list[int]]) -> None:
    tree = PrefixTree.of([np.array(sequence, dtype=np.int64) for sequence in sequences])
    prefixes = {0: ()}
    for node in range(1, len(tree.parent)):
        assert tree.parent[node] < node
        prefixes[node] = (*prefixes[int(tree.parent[node])], int(tree.label[node]))
    wanted = {tuple(sequence[:size]) for sequence in sequences for size in range(len(sequence) + 1)} | {()}
    assert sorted(prefixes.values()) == sorted(wanted)
    assert [prefixes[leaf] for leaf in tree.leaf.tolist()] == [tuple(sequence) for sequence in sequences]
    for node in range(len(tree.parent)):
        children = tree.children[tree.child_splits[node] : tree.child_splits[node + 1]]
        assert sorted(children.tolist()) == np.flatnonzero(tree.parent == node).tolist()
