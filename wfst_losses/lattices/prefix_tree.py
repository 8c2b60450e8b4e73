"""The prefix tree of a set of hypotheses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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
