"""Graphs to k2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from topologies import Graph, GraphBatch, without_epsilons
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


def to_k2_vec(graphs: GraphBatch, device: torch.device | str = "cpu") -> Fsa:
    """The graphs as an FsaVec, virtual arcs removed exactly.

    Raises:
        ValueError: for a graph without a path, naming it, and as `to_k2`.
    """
    parts = [graphs.graph(index) for index in range(graphs.num_graphs)]
    for index, graph in enumerate(parts):
        if not np.any(graph.final_score > -np.inf):
            raise ValueError(f"graph {index} has no path, expected one or more: k2 has no such graph")
    return k2.create_fsa_vec([to_k2(without_epsilons(graph)) for graph in parts]).to(device)
