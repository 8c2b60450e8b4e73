"""Graphs to k2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topologies import Graph
from wfst_losses.backends.k2 import k2
from wfst_losses.graphs.k2_format import to_k2_dict

if TYPE_CHECKING:
    from k2 import Fsa


def to_k2(graph: Graph) -> Fsa:
    """An epsilon-free graph as a k2.Fsa with ``aux_labels``; see `wfst_losses.graphs.k2_format.to_k2_dict`.

    Raises:
        ValueError: for a virtual arc, labels beyond k2's limit, or a graph without a final state.
    """
    return k2.Fsa.from_dict(to_k2_dict(graph))
