"""Graphs of training laid out along their diagonals, so that a step over the states is a few vector operations.

A target's graph is a chain with short jumps: nearly all arcs lead from state ``s - d`` to ``s`` for a handful of
offsets ``d``. Stored as one weight per offset and state, a step needs no gathers. Any graph can be laid out so, at a
cost of offsets times states.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch
from wfst_losses.compiled import compiled
from wfst_losses.graphs.splitting import split_by_label

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

BLOCK = 16
"""States are padded to a multiple of this, so that no loop over them ends in single steps."""
NO_ARC = -(2**55)
"""The exponent of an absent arc's weight: below anything a path can reach."""


class Diagonals(NamedTuple):
    """Arcs of all graphs by offset, in one direction: those of graph ``g`` are ``splits[g]..splits[g + 1]``.

    Attributes:
        splits: ``(G + 1,)`` where each graph's diagonals begin.
        offsets: how far behind a state its diagonal's other end lies: ``destination - source`` forwards, the
            opposite backwards.
        begins: where each diagonal's row of weights begins, one per padded state of its graph.
        mantissas, exponents: of the weights; they stand at destinations forwards, at sources backwards.
    """

    splits: Ints
    offsets: Ints
    begins: Ints
    mantissas: Floats
    exponents: Ints


class Bands(NamedTuple):
    """A batch of graphs whose states each are entered on one label only.

    Attributes:
        state_splits: ``(G + 1,)``, each graph's states padded to a multiple of `BLOCK`.
        margins: ``(G,)`` the largest offset of each graph.
        labels: ``(num_states,)`` the column read on the way into each state; any of its graph's where none is.
        columns, column_splits: the distinct columns each graph reads.
        column_of_state: ``(num_states,)`` which of its graph's columns that label is.
        by_column, column_begins: states grouped by column: those of the graph's column ``c`` are
            ``by_column[column_begins[c]:column_begins[c + 1]]``, counted from the graph's first state.
        several, several_splits: the columns of more than one state: those of graph ``g`` are
            ``several[several_splits[g]:several_splits[g + 1]]``.
        reading, virtual: arcs that read a frame, and arcs that do not, forwards.
        reading_back, virtual_back: the same arcs backwards.
        virtual_depth: ``(G,)`` the most virtual arcs in a row.
        starts: ``(G,)`` counted from the graph's first state.
        final_mantissas, final_exponents: of the final weights.
    """

    state_splits: Ints
    margins: Ints
    labels: Ints
    columns: Ints
    column_splits: Ints
    column_of_state: Ints
    by_column: Ints
    column_begins: Ints
    several: Ints
    several_splits: Ints
    reading: Diagonals
    reading_back: Diagonals
    virtual: Diagonals
    virtual_back: Diagonals
    virtual_depth: Ints
    starts: Ints
    final_mantissas: Floats
    final_exponents: Ints


def lay_out(graphs: GraphBatch) -> Bands:
    """The bands of a batch; states entered on several labels are split first."""
    graphs = split_by_label(graphs)
    reads = graphs.input_label != EPSILON
    num_states = -(-np.diff(graphs.state_splits) // BLOCK) * BLOCK
    state_splits = np.concatenate([[0], np.cumsum(num_states)])
    owner = graphs.graph_of_state
    place = np.arange(graphs.num_states) - graphs.state_splits[owner] + state_splits[owner]
    labels = np.repeat(_some_label(graphs, reads), num_states)
    labels[place[graphs.destination[reads]]] = graphs.input_label[reads]
    owner_of_place = np.repeat(np.arange(graphs.num_graphs), num_states)
    keys = owner_of_place * (int(labels.max(initial=0)) + 1) + labels
    by_column = np.argsort(keys, kind="stable")
    is_first = np.diff(keys[by_column], prepend=-1) != 0
    column_begins = np.flatnonzero(is_first)
    column_of_state = np.empty_like(by_column)
    column_of_state[by_column] = np.cumsum(is_first) - 1
    several = np.flatnonzero(np.diff(np.append(column_begins, len(labels))) > 1)
    column_splits = np.searchsorted(owner_of_place[by_column[column_begins]], np.arange(graphs.num_graphs + 1))
    final = np.full(len(labels), -np.inf)
    final[place] = graphs.final_score
    mantissas, exponents = _split(final)
    offset = np.abs(graphs.destination.astype(np.int64) - graphs.source)
    margins = np.zeros(graphs.num_graphs, dtype=np.int64)
    np.maximum.at(margins, owner[graphs.source], offset)
    reading, reading_back = _diagonals(graphs, reads, num_states)
    virtual, virtual_back = _diagonals(graphs, ~reads, num_states)
    return Bands(
        state_splits=state_splits,
        margins=margins,
        labels=labels,
        columns=labels[by_column[column_begins]],
        column_splits=column_splits,
        column_of_state=column_of_state - column_splits[owner_of_place],
        by_column=by_column - state_splits[owner_of_place[by_column]],
        column_begins=np.append(column_begins, len(labels)),
        several=several,
        several_splits=np.searchsorted(several, column_splits),
        reading=reading,
        reading_back=reading_back,
        virtual=virtual,
        virtual_back=virtual_back,
        virtual_depth=_virtual_depth(graphs, ~reads),
        starts=graphs.starts - graphs.state_splits[:-1],
        final_mantissas=mantissas,
        final_exponents=exponents,
    )


def _some_label(graphs: GraphBatch, reads: npt.NDArray[np.bool_]) -> Ints:
    """A column each graph reads, for states that no arc reads into; 0 for a graph that reads nothing."""
    label = np.zeros(graphs.num_graphs, dtype=np.int64)
    label[graphs.graph_of_state[graphs.source[reads]]] = graphs.input_label[reads]
    return label


@compiled
def _split(scores: Floats) -> tuple[Floats, Ints]:
    """``e^scores`` as mantissas and exponents; no weight for -inf."""
    mantissas, exponents = np.zeros(len(scores)), np.full(len(scores), NO_ARC)
    for place in range(len(scores)):
        # Most are absent, or 1.
        if scores[place] == 0.0:
            mantissas[place], exponents[place] = 1.0, 0
        elif scores[place] > -np.inf:
            bits = scores[place] / math.log(2.0)
            exponents[place] = math.floor(bits)
            mantissas[place] = 2.0 ** (bits - math.floor(bits))
    return mantissas, exponents


def _diagonals(graphs: GraphBatch, chosen: npt.NDArray[np.bool_], num_states: Ints) -> tuple[Diagonals, Diagonals]:
    """The chosen arcs forwards and backwards."""
    source, destination = graphs.source[chosen].astype(np.int64), graphs.destination[chosen].astype(np.int64)
    arc_splits = np.searchsorted(destination, graphs.state_splits)
    splits, offsets, diagonal = _find_offsets(source, destination, arc_splits)
    lengths = np.repeat(num_states, np.diff(splits))
    begins = np.cumsum(lengths) - lengths
    row = begins[diagonal] - np.repeat(graphs.state_splits[:-1], np.diff(arc_splits))
    score, size = graphs.score[chosen].astype(np.float64), int(lengths.sum())
    return (
        Diagonals(splits, offsets, begins, *_split(_added(row + destination, score, size))),
        Diagonals(splits, -offsets, begins, *_split(_added(row + source, score, size))),
    )


@compiled
def _find_offsets(source: Ints, destination: Ints, arc_splits: Ints) -> tuple[Ints, Ints, Ints]:
    """Where each graph's diagonals begin, their offsets, ascending, and the diagonal of each arc."""
    splits, diagonal = np.zeros(len(arc_splits), np.int64), np.empty(len(source), np.int64)
    offsets, number, count = np.empty(16, np.int64), np.empty(0, np.int64), 0
    for graph in range(len(arc_splits) - 1):
        begin, end, largest = arc_splits[graph], arc_splits[graph + 1], 0
        for arc in range(begin, end):
            largest = max(largest, abs(destination[arc] - source[arc]))
        if len(number) < 2 * largest + 1:
            number = np.empty(2 * largest + 1, np.int64)
        number[: 2 * largest + 1] = -1
        for arc in range(begin, end):
            number[destination[arc] - source[arc] + largest] = 0
        for place in range(2 * largest + 1):
            if number[place] == 0:
                if count == len(offsets):
                    offsets = np.append(offsets, offsets)
                offsets[count], number[place] = place - largest, count
                count += 1
        for arc in range(begin, end):
            diagonal[arc] = number[destination[arc] - source[arc] + largest]
        splits[graph + 1] = count
    return splits, offsets[:count].copy(), diagonal


@compiled
def _added(places: Ints, scores: Floats, size: int) -> Floats:
    """Scores put into their places, -inf elsewhere; parallel arcs on one label are one weight."""
    added = np.full(size, -np.inf)
    for arc in range(len(places)):
        added[places[arc]] = np.logaddexp(added[places[arc]], scores[arc])
    return added


def _virtual_depth(graphs: GraphBatch, virtual: npt.NDArray[np.bool_]) -> Ints:
    depth = np.zeros(graphs.num_states, dtype=np.int64)
    source, destination = graphs.source[virtual], graphs.destination[virtual]
    while True:
        late = depth[destination] <= depth[source]
        if not late.any():
            break
        np.maximum.at(depth, destination[late], depth[source[late]] + 1)
    deepest = np.zeros(graphs.num_graphs, dtype=np.int64)
    np.maximum.at(deepest, graphs.graph_of_state, depth)
    return deepest
