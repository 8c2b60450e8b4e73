"""States entered on one label only, for engines that read a label per state."""

from __future__ import annotations

import dataclasses

import numpy as np

from topologies import EPSILON, GraphBatch


def split_by_label(graphs: GraphBatch) -> GraphBatch:
    """The same paths, with one copy of a state for each label it is entered on.

    Virtual arcs into a state, and the start, go to its first copy; arcs out of it leave from every copy. The copy
    that a state's own loop enters comes last, so that a chain stays one. Graphs whose states are entered on one label
    each are returned as they are.
    """
    reads = graphs.input_label != EPSILON
    label = np.empty(graphs.num_states, graphs.input_label.dtype)
    label[graphs.destination[reads]] = graphs.input_label[reads]
    if (label[graphs.destination[reads]] == graphs.input_label[reads]).all():
        return graphs
    width = 2 * (int(graphs.input_label.max(initial=0)) + 1)
    is_loop = graphs.source == graphs.destination
    loops = np.unique(graphs.destination[is_loop].astype(np.int64) * width + graphs.input_label[is_loop])
    keys = graphs.destination.astype(np.int64) * width + graphs.input_label
    keys += np.isin(keys, loops) * (width // 2)
    entered = np.unique(keys[reads])
    copies = np.bincount(entered // width, minlength=graphs.num_states)
    copies = np.maximum(copies, 1)
    first = np.cumsum(copies) - copies
    destination = first[graphs.destination]
    destination[reads] += np.searchsorted(entered, keys[reads]) - np.searchsorted(
        entered, graphs.destination[reads].astype(np.int64) * width
    )
    repeats = copies[graphs.source]
    arc = np.repeat(np.arange(graphs.num_arcs), repeats)
    rank = np.arange(len(arc)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    source, destination = first[graphs.source[arc]] + rank, destination[arc]
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
