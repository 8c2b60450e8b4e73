"""The order of a frame's work: rows of arcs in stages, each stage one launch."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from topologies.batch import ranges
from wfst_losses.backends.native.cuda.nodes import Floats, Ints, Nodes

LONGEST_ROW = 256
"""Rows of more arcs are summed in parts: one row is the work of one program, and a stage waits for the longest."""


class Stage(NamedTuple):
    """Rows ``first..last - 1``, that need nothing of each other."""

    first: int
    last: int
    reads: bool
    """Whether, forwards, the rows' arcs come from the frame before."""


class Sweep(NamedTuple):
    """One pass over the nodes, forwards (rows are arcs in) or backwards (arcs out).

    Slots number what a row may give and an arc may take: nodes first, then parts of long rows.

    Attributes:
        num_slots: nodes and parts.
        slots: ``(rows,)`` where each row's sum goes.
        begins: ``(rows + 1,)`` the arcs of each row.
        arc_slots: ``(arcs,)`` what each arc takes.
        arc_scores: ``(arcs,)`` nats.
        stages: in the order in which they run.
    """

    num_slots: int
    slots: Ints
    begins: Ints
    arc_slots: Ints
    arc_scores: Floats
    stages: tuple[Stage, ...]


def sweep(nodes: Nodes, *, forwards: bool) -> Sweep:
    """The rows of one direction."""
    num_nodes = len(nodes.levels)
    ends, others = (nodes.destinations, nodes.sources) if forwards else (nodes.sources, nodes.destinations)
    # Backwards, the arcs of a node need nodes of higher levels and the next frame.
    turn = nodes.levels if forwards else int(nodes.levels.max(initial=0)) - nodes.levels
    slots = np.argsort(turn, kind="stable")
    row_of_node = np.empty(num_nodes, dtype=np.int64)
    row_of_node[slots] = np.arange(num_nodes)
    order = np.argsort(row_of_node[ends], kind="stable")
    begins = np.searchsorted(row_of_node[ends][order], np.arange(num_nodes + 1))
    steps = np.flatnonzero(np.diff(turn[slots], prepend=-1, append=-2))
    stages = tuple(
        Stage(int(first), int(last), reads=forwards and nodes.levels[slots[first]] == 0)
        for first, last in itertools.pairwise(steps)
    )
    whole = Sweep(num_nodes, slots, begins, others[order], nodes.scores[order], stages)
    return _in_parts(whole) if np.diff(begins).max(initial=0) > LONGEST_ROW else whole


def _in_parts(whole: Sweep) -> Sweep:
    """The same sums with no long row: before the stage of a row that is too long comes one with its parts."""
    found: list[tuple[Any, ...]] = []
    stages: list[Stage] = []
    num_slots = whole.num_slots

    def add(reads: bool, *columns: Ints | Floats) -> None:
        done = stages[-1].last if stages else 0
        stages.append(Stage(done, done + len(columns[0]), reads))
        found.append(columns)

    for stage in whole.stages:
        begins = whole.begins[stage.first : stage.last + 1]
        length = np.diff(begins)
        is_long = length > LONGEST_ROW
        num_parts = np.where(is_long, -(-length // LONGEST_ROW), 0)
        arcs = slice(begins[0], begins[-1])
        taken, scores = whole.arc_slots[arcs], whole.arc_scores[arcs]
        in_part = np.repeat(is_long, length)
        owner, part = ranges(np.zeros_like(num_parts), num_parts)
        parts = num_slots + np.arange(len(owner))
        if len(parts):
            sizes = np.minimum(length[owner] - part * LONGEST_ROW, LONGEST_ROW)
            add(stage.reads, parts, sizes, taken[in_part], scores[in_part])
        num_slots += len(parts)
        # Of short rows the arcs, of long rows their parts, each row's together.
        row = np.concatenate([np.repeat(np.arange(len(length)), length)[~in_part], owner])
        order = np.argsort(row, kind="stable")
        add(
            stage.reads,
            whole.slots[stage.first : stage.last],
            np.where(is_long, num_parts, length),
            np.concatenate([taken[~in_part], parts])[order],
            np.concatenate([scores[~in_part], np.zeros(len(parts))])[order],
        )
    slots, lengths, arc_slots, arc_scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
    begins = np.concatenate([[0], np.cumsum(lengths)])
    return Sweep(num_slots, slots, begins, arc_slots, arc_scores, tuple(stages))
