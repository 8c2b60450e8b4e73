"""Graphs of training laid out along their diagonals, so that a step over the states is a few vector operations.

A target's graph is a chain with short jumps: nearly all arcs lead from state ``s - d`` to ``s`` for a handful of
offsets ``d``. Stored as one weight per offset and state, a step needs no gathers. Any graph can be laid out so, at a
cost of offsets times states.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch
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
    by_column = np.lexsort((labels, owner_of_place))
    is_first = np.ones(len(labels), dtype=bool)
    is_first[1:] = (np.diff(labels[by_column]) != 0) | (np.diff(owner_of_place[by_column]) != 0)
    column_begins = np.flatnonzero(is_first)
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


def _split(scores: npt.NDArray[np.floating]) -> tuple[Floats, Ints]:
    """``e^scores`` as mantissas and exponents; no weight for -inf."""
    present = scores > -np.inf
    bits = np.where(present, scores, 0.0) / np.log(2.0)
    exponents = np.floor(bits)
    mantissas = np.where(present, np.exp2(bits - exponents), 0.0)
    return mantissas, np.where(present, exponents, NO_ARC).astype(np.int64)


def _diagonals(graphs: GraphBatch, chosen: npt.NDArray[np.bool_], num_states: Ints) -> tuple[Diagonals, Diagonals]:
    """The chosen arcs forwards and backwards."""
    source = graphs.source[chosen].astype(np.int64)
    destination = graphs.destination[chosen].astype(np.int64)
    owner = graphs.graph_of_state[destination].astype(np.int64)
    span = 2 * graphs.num_states + 1
    diagonal, inverse = np.unique(owner * span + destination - source + graphs.num_states, return_inverse=True)
    owner_of_diagonal, offsets = np.divmod(diagonal, span)
    lengths = num_states[owner_of_diagonal]
    begins = np.cumsum(lengths) - lengths
    row = begins[inverse.reshape(-1)] - graphs.state_splits[owner]
    # Parallel arcs on one label are one weight.
    scores = np.full((2, int(lengths.sum())), -np.inf)
    for direction, state in enumerate((destination, source)):
        np.logaddexp.at(scores[direction], row + state, graphs.score[chosen].astype(np.float64))
    splits = np.searchsorted(owner_of_diagonal, np.arange(graphs.num_graphs + 1))
    offsets = offsets - graphs.num_states
    return (
        Diagonals(splits, offsets, begins, *_split(scores[0])),
        Diagonals(splits, -offsets, begins, *_split(scores[1])),
    )


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
