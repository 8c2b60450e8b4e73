"""Graphs cleaned up: what lies on no path taken out, arcs in order."""

from __future__ import annotations

import numpy as np

from topologies import Graph
from topologies.batch import coaccessible


def empty_graph() -> Graph:
    """A start, and no path."""
    nothing = np.empty(0, dtype=np.int32)
    return Graph(nothing, nothing, nothing, nothing, np.empty(0, np.float32), np.full(1, -np.inf, np.float32))


def connected(graph: Graph) -> Graph:
    """The states and arcs that lie on a path from the start to a final state; a start alone if there is none."""
    at_start = np.full(graph.num_states, -np.inf)
    at_start[graph.start : graph.start + 1] = 0.0
    alive = coaccessible(graph.destination, graph.source, at_start)
    alive &= coaccessible(graph.source, graph.destination, graph.final_score)
    if not alive[graph.start : graph.start + 1].any():
        return empty_graph()
    number = (np.cumsum(alive) - 1).astype(np.int32)
    kept = np.flatnonzero(alive[graph.source] & alive[graph.destination])
    return Graph(
        number[graph.source[kept]],
        number[graph.destination[kept]],
        graph.input_label[kept],
        graph.output_label[kept],
        graph.score[kept],
        graph.final_score[alive],
        int(number[graph.start]),
    )


def sorted_arcs(graph: Graph) -> Graph:
    """The same graph with its arcs in ascending order of source, input label and output label."""
    order = np.lexsort((graph.output_label, graph.input_label, graph.source))
    return Graph(
        graph.source[order],
        graph.destination[order],
        graph.input_label[order],
        graph.output_label[order],
        graph.score[order],
        graph.final_score,
        graph.start,
    )
