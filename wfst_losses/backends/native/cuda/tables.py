"""Small graphs as padded tables: for each node the arcs it takes, counted within its graph."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from wfst_losses.backends.native.cuda.nodes import Ints, Nodes

MOST_NODES = 1024
MOST_ARCS = 4096
"""What one program holds in registers: nodes, and nodes times the most arcs of one of them, each a power of two."""


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """One direction.

    Attributes:
        arc_nodes, arc_scores: ``(num_nodes, width)``; -inf for no arc.
        width: a power of two.
    """

    arc_nodes: torch.Tensor
    arc_scores: torch.Tensor
    width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """A batch of small graphs on the device.

    Attributes:
        reading_splits, virtual_splits: ``(G + 1,)`` each graph's nodes, those that read and the others, counted apart.
        levels, final_scores, start_scores: ``(num_nodes,)``.
        num_levels: one more than the highest level.
        size: a power of two, at least the nodes of each graph.
        backwards, forwards: arcs out of and into each node.
    """

    reading_splits: torch.Tensor
    virtual_splits: torch.Tensor
    levels: torch.Tensor
    final_scores: torch.Tensor
    start_scores: torch.Tensor
    num_levels: int
    size: int
    backwards: Table
    forwards: Table


def tabulate(nodes: Nodes, num_graphs: int, device: torch.device) -> Tables | None:
    """The tables of a batch, ``None`` where a graph is too large for them."""
    num_reading = nodes.num_reading
    graphs = np.arange(num_graphs + 1)
    reading_splits = np.searchsorted(nodes.graphs[:num_reading], graphs)
    virtual_splits = np.searchsorted(nodes.graphs[num_reading:], graphs)
    num_own_reading = np.diff(reading_splits)
    size = _power_of_two((num_own_reading + np.diff(virtual_splits)).max(initial=1))
    width = max(_width(nodes.sources), _width(nodes.destinations))
    if not num_graphs or size > MOST_NODES or size * width > MOST_ARCS:
        return None
    # A graph's nodes that read come first.
    own = np.arange(len(nodes.graphs)) - reading_splits[nodes.graphs]
    virtual = nodes.graphs[num_reading:]
    own[num_reading:] = num_own_reading[virtual] + np.arange(len(virtual)) - virtual_splits[virtual]

    def table(ends: Ints, others: Ints) -> Table:
        order = np.argsort(ends, kind="stable")
        ordered = ends[order]
        width = _width(ends)
        arc_nodes, arc_scores = np.zeros((len(own), width), np.int32), np.full((len(own), width), -np.inf)
        place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        arc_nodes[ordered, place] = own[others[order]]
        arc_scores[ordered, place] = nodes.scores[order]
        return Table(torch.as_tensor(arc_nodes, device=device), torch.as_tensor(arc_scores, device=device), width)

    def indices(values: Ints) -> torch.Tensor:
        return torch.as_tensor(values.astype(np.int32), device=device)

    return Tables(
        reading_splits=indices(reading_splits),
        virtual_splits=indices(virtual_splits),
        levels=indices(nodes.levels),
        final_scores=torch.as_tensor(nodes.final_scores, device=device),
        start_scores=torch.as_tensor(np.where(nodes.starts, 0.0, -np.inf), device=device),
        num_levels=int(nodes.levels.max(initial=0)) + 1,
        size=size,
        backwards=table(nodes.sources, nodes.destinations),
        forwards=table(nodes.destinations, nodes.sources),
    )


def _power_of_two(least: int) -> int:
    return 1 << (int(least) - 1).bit_length()


def _width(ends: Ints) -> int:
    """The most arcs at one node, as a power of two; at least 1."""
    return _power_of_two(np.bincount(ends).max(initial=1))
