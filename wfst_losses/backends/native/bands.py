"""Graphs of training laid out along their diagonals, so that a step over the states is a few vector operations.

A target's graph is a chain with short jumps: nearly all arcs lead from state ``s - d`` to ``s`` for a handful of
offsets ``d``. Stored as one weight per offset and state, a step needs no gathers. Any graph can be laid out so, at a
cost of offsets times states; `Bands.of` tells which are worth it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NO_ARC = -(2**55)
"""The exponent of an absent arc's weight: below anything a path can reach."""


class Diagonals(NamedTuple):
    """Arcs of all graphs by offset: those of graph ``g`` are ``splits[g]..splits[g + 1]``, weights follow likewise.

    Attributes:
        splits: ``(G + 1,)`` where each graph's offsets begin.
        offsets: one per diagonal, ``destination - source``.
        begins: one per diagonal, where its row of weights begins; a row has one weight per state of its graph.
        mantissas, exponents: of the weights, by destination state.
    """

    splits: Ints
    offsets: Ints
    begins: Ints
    mantissas: Floats
    exponents: Ints


class Bands(NamedTuple):
    """A batch of graphs whose states each are entered on one label only.

    Attributes:
        state_splits: ``(G + 1,)``.
        labels: ``(num_states,)`` the column read on the way into each state; 0 where none is.
        reading, virtual: arcs that read a frame, and arcs that do not.
        virtual_depth: ``(G,)`` the most virtual arcs in a row.
        starts: ``(G,)`` counted from the graph's first state.
        final_mantissas, final_exponents: of the final weights.
    """

    state_splits: Ints
    labels: Ints
    reading: Diagonals
    virtual: Diagonals
    virtual_depth: Ints
    starts: Ints
    final_mantissas: Floats
    final_exponents: Ints


def lay_out(graphs: GraphBatch) -> Bands:
    """The bands of a batch; states entered on several labels are split first."""
    graphs = split_by_label(graphs)
    reads = graphs.input_label != EPSILON
    labels = np.zeros(graphs.num_states, dtype=np.int64)
    labels[graphs.destination[reads]] = graphs.input_label[reads]
    mantissas, exponents = _split(graphs.final_score)
    return Bands(
        state_splits=graphs.state_splits,
        labels=labels,
        reading=_diagonals(graphs, reads),
        virtual=_diagonals(graphs, ~reads),
        virtual_depth=_virtual_depth(graphs, ~reads),
        starts=graphs.starts - graphs.state_splits[:-1],
        final_mantissas=mantissas,
        final_exponents=exponents,
    )


def num_diagonal_weights(graphs: GraphBatch) -> Ints:
    """``(G,)`` weights each graph would have as bands, to hold against its number of arcs."""
    owner = graphs.graph_of_state[graphs.destination]
    offset = graphs.destination - graphs.source
    pairs = np.unique(owner.astype(np.int64) * (2 * graphs.num_states + 1) + offset + graphs.num_states)
    offsets_of_graph = np.bincount(pairs // (2 * graphs.num_states + 1), minlength=graphs.num_graphs)
    return offsets_of_graph * np.diff(graphs.state_splits)


def split_by_label(graphs: GraphBatch) -> GraphBatch:
    """The same graphs with one copy of a state for each label it is entered on; virtual arcs count as one more."""
    kind = np.where(graphs.input_label == EPSILON, -1, graphs.input_label).astype(np.int64)
    width = int(kind.max(initial=0)) + 2
    reads = kind >= 0
    entered = np.unique(graphs.destination[reads].astype(np.int64) * width + kind[reads] + 1)
    if len(entered) == len(np.unique(graphs.destination[reads])):
        return graphs
    state_of_copy = entered // width
    # The first copy keeps virtual arcs in and the start; states entered on no label keep themselves.
    copies = np.maximum(np.bincount(state_of_copy, minlength=graphs.num_states), 1)
    first = np.cumsum(copies) - copies
    rank = np.arange(len(entered)) - np.searchsorted(state_of_copy, state_of_copy)
    copy_of = dict(zip(entered.tolist(), (first[state_of_copy] + rank).tolist(), strict=True))
    keys = graphs.destination.astype(np.int64) * width + kind + 1
    destination = np.array(
        [
            copy_of[key] if read else first[state]
            for key, read, state in zip(keys.tolist(), reads, graphs.destination, strict=True)
        ],
        dtype=np.int64,
    )
    repeats = copies[graphs.source]
    arc = np.repeat(np.arange(graphs.num_arcs), repeats)
    source = first[graphs.source[arc]] + np.arange(len(arc)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    destination = destination[arc]
    order = np.argsort(destination, kind="stable")
    origin = np.repeat(np.arange(graphs.num_states), copies)
    splits = np.searchsorted(graphs.graph_of_state[origin], np.arange(graphs.num_graphs + 1))
    return dataclasses.replace(
        graphs,
        source=source[order].astype(np.int32),
        destination=destination[order].astype(np.int32),
        input_label=graphs.input_label[arc[order]],
        output_label=graphs.output_label[arc[order]],
        score=graphs.score[arc[order]],
        final_score=graphs.final_score[origin],
        starts=first[graphs.starts].astype(np.int32),
        state_splits=splits,
        arc_splits=np.searchsorted(destination[order], splits),
    )


def _split(scores: npt.NDArray[np.floating]) -> tuple[Floats, Ints]:
    """``e^scores`` as mantissas and exponents; no weight for -inf."""
    present = scores > -np.inf
    bits = np.where(present, scores, 0.0).astype(np.float64) / np.log(2.0)
    exponents = np.floor(bits)
    mantissas = np.where(present, np.exp2(bits - exponents), 0.0)
    return mantissas, np.where(present, exponents, NO_ARC).astype(np.int64)


def _diagonals(graphs: GraphBatch, chosen: npt.NDArray[np.bool_]) -> Diagonals:
    source = graphs.source[chosen].astype(np.int64)
    destination = graphs.destination[chosen].astype(np.int64)
    owner = graphs.graph_of_state[destination].astype(np.int64)
    span = 2 * graphs.num_states + 1
    diagonal, inverse = np.unique(owner * span + destination - source + graphs.num_states, return_inverse=True)
    owner_of_diagonal, offsets = np.divmod(diagonal, span)
    lengths = np.diff(graphs.state_splits)[owner_of_diagonal]
    begins = np.cumsum(lengths) - lengths
    place = begins[inverse.reshape(-1)] + destination - graphs.state_splits[owner]
    scores = np.full(int(lengths.sum()), -np.inf)
    # Parallel arcs on one label are one weight.
    np.logaddexp.at(scores, place, graphs.score[chosen].astype(np.float64))
    mantissas, exponents = _split(scores)
    splits = np.searchsorted(owner_of_diagonal, np.arange(graphs.num_graphs + 1))
    return Diagonals(splits, offsets - graphs.num_states, begins, mantissas, exponents)


def _virtual_depth(graphs: GraphBatch, virtual: npt.NDArray[np.bool_]) -> Ints:
    depth = np.zeros(graphs.num_states, dtype=np.int64)
    source, destination = graphs.source[virtual], graphs.destination[virtual]
    while True:
        late = depth[destination] <= depth[source]
        if not late.any():
            break
        np.maximum.at(depth, destination[late], depth[source[late]] + 1)
    return np.array(
        [
            depth[low:high].max(initial=0)
            for low, high in zip(graphs.state_splits[:-1], graphs.state_splits[1:], strict=True)
        ],
        dtype=np.int64,
    )
