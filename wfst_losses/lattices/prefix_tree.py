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
        child_splits, children: the children of each node, in ascending order of label.
    """

    leaf: npt.NDArray[np.int64]
    parent: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    child_splits: npt.NDArray[np.int64]
    children: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[TokenSequence]) -> PrefixTree:
        """The tree of the given sequences; equal sequences share a leaf."""
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        width = int(lengths.max(initial=0))
        live = np.arange(width) < lengths[:, None]
        padded = np.full((len(sequences), width), -1, dtype=np.int64)
        padded[live] = np.concatenate([np.empty(0, np.int64), *sequences])
        order = np.lexsort(padded.T[::-1]) if width else np.arange(len(sequences))
        padded, live = padded[order], live[order]
        # In lexicographic order a prefix is new where it differs from that of the row above.
        differs = np.ones(padded.shape, dtype=bool)
        differs[1:] = np.logical_or.accumulate(padded[1:] != padded[:-1], axis=1)
        is_new = differs & live
        number = np.cumsum(is_new.reshape(-1)).reshape(is_new.shape)
        # Numbers ascend, so the highest so far is that of the last row in which the prefix was new.
        node = np.maximum.accumulate(np.where(is_new, number, 0), axis=0)
        before = np.concatenate([np.zeros((len(node), 1), dtype=np.int64), node[:, :-1]], axis=1)[:, :width]
        parent = np.concatenate([[-1], before[is_new]])
        label = np.concatenate([[-1], padded[is_new]])
        leaf = np.zeros(len(sequences), dtype=np.int64)
        full = lengths[order] > 0
        leaf[order[full]] = node[full, lengths[order][full] - 1]
        children = 1 + np.lexsort((label[1:], parent[1:]))
        child_splits = np.searchsorted(parent[children], np.arange(len(parent) + 1))
        return cls(leaf, parent, label, child_splits, children)
