"""Graphs on the device: both sweeps and the columns that are read, as the kernels take them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch

from topologies import GraphBatch
from wfst_losses.backends.native.cuda.nodes import Ints, Nodes, number_nodes
from wfst_losses.backends.native.cuda.sweeps import Stage, sweep
from wfst_losses.backends.native.cuda.tables import Tables, tabulate


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A `sweeps.Sweep` on the device, with what its rows begin from: final scores backwards, starts forwards."""

    slots: torch.Tensor
    begins: torch.Tensor
    arc_slots: torch.Tensor
    arc_scores: torch.Tensor
    base_scores: torch.Tensor
    slot_readers: torch.Tensor
    num_slots: int
    stages: tuple[Stage, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """A batch of graphs on the device.

    Attributes:
        num_graphs, num_reading, num_nodes: how many.
        start: ``(G,)`` the node each graph begins in.
        labels: ``(num_reading,)`` the column each node reads.
        column_labels, column_begins, column_graphs: nodes of one graph and label are one column, and neighbours.
        backwards, forwards: the sweeps.
        largest_score: the largest absolute value of finite scores.
        tables: where each graph is small enough for one program.
    """

    num_graphs: int
    num_reading: int
    num_nodes: int
    starts: torch.Tensor
    labels: torch.Tensor
    column_labels: torch.Tensor
    column_begins: torch.Tensor
    column_graphs: torch.Tensor
    backwards: Rows
    forwards: Rows
    largest_score: float
    tables: Tables | None

    @property
    def num_columns(self) -> int:
        """How many columns."""
        return len(self.column_labels)


@functools.lru_cache(maxsize=8)
def lay_out_shared(graph: GraphBatch, device: torch.device) -> Layout:
    """`lay_out`, kept between calls: a denominator is the same one every time."""
    return lay_out(graph, device, is_shared=True)


def lay_out(graphs: GraphBatch, device: torch.device, *, is_shared: bool = False) -> Layout:
    """The layout of a batch of graphs."""
    nodes = number_nodes(graphs)

    def indices(values: Ints) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.int32), device=device)

    reading_graphs = nodes.graphs[: nodes.num_reading]
    changes = (np.diff(nodes.labels, prepend=-1) != 0) | (np.diff(reading_graphs, prepend=-1) != 0)
    first_nodes = np.flatnonzero(changes)
    finite = np.concatenate([nodes.scores, nodes.final_scores])
    starts = np.flatnonzero(nodes.starts)
    return Layout(
        num_graphs=graphs.num_graphs,
        num_reading=nodes.num_reading,
        num_nodes=len(nodes.levels),
        starts=indices(starts[np.argsort(nodes.graphs[starts])]),
        labels=indices(nodes.labels),
        column_labels=indices(nodes.labels[first_nodes]),
        column_begins=indices(np.append(first_nodes, nodes.num_reading)),
        column_graphs=indices(reading_graphs[first_nodes]),
        backwards=_rows(nodes, device, forwards=False),
        forwards=_rows(nodes, device, forwards=True),
        largest_score=float(np.abs(finite[np.isfinite(finite)]).max(initial=0.0)),
        tables=None if is_shared else tabulate(nodes, graphs.num_graphs, device),
    )


def _rows(nodes: Nodes, device: torch.device, *, forwards: bool) -> Rows:
    found = sweep(nodes, forwards=forwards)
    base = np.where(nodes.starts, 0.0, -np.inf) if forwards else nodes.final_scores
    parts = found.num_slots - len(base)
    part_graphs = np.zeros(parts, dtype=np.int32)
    # A part is of the graph that its arcs are of.
    owner = found.slots >= len(base)
    first_arcs = found.begins[:-1][owner]
    part_graphs[found.slots[owner] - len(base)] = nodes.graphs[found.arc_slots[first_arcs]]

    def indices(values: Ints) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.int32), device=device)

    def floats(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=device)

    return Rows(
        slots=indices(found.slots),
        begins=indices(found.begins),
        arc_slots=indices(found.arc_slots),
        arc_scores=floats(found.arc_scores),
        base_scores=floats(np.concatenate([base, np.full(parts, -np.inf)])),
        slot_readers=indices(np.concatenate([nodes.graphs, part_graphs])),
        num_slots=found.num_slots,
        stages=found.stages,
    )
