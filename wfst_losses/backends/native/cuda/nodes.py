"""Graphs as nodes: every node is entered either by reading one label, or by virtual arcs alone.

A state entered on several labels, or by reading and virtually too, becomes a virtual node behind one *port* per label
it is entered on: the cost is a node per label, where copies of the state would cost copies of its arcs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, GraphBatch

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]


class Nodes(NamedTuple):
    """The nodes and arcs of a batch of graphs. The first ``num_reading`` nodes read, in order of graph and label.

    Attributes:
        num_reading: how many nodes read.
        labels: ``(num_reading,)`` the column each reads.
        levels: ``(num_nodes,)`` 0 for nodes that read; all virtual arcs into a node come from lower levels.
        graphs: ``(num_nodes,)`` the graph each belongs to.
        starts: ``(num_nodes,)`` bool.
        final_scores: ``(num_nodes,)`` nats.
        sources, destinations, scores: of arcs. An arc to a node that reads takes a frame, any other takes none.
    """

    num_reading: int
    labels: Ints
    levels: Ints
    graphs: Ints
    starts: npt.NDArray[np.bool_]
    final_scores: Floats
    sources: Ints
    destinations: Ints
    scores: Floats


def number_nodes(batch: GraphBatch) -> Nodes:
    """The nodes of a batch of graphs."""
    reads = batch.input_label != EPSILON
    owner = batch.graph_of_state
    width = int(batch.input_label.max(initial=0)) + 1
    keys = batch.destination[reads].astype(np.int64) * width + batch.input_label[reads]
    found, port = np.unique(keys, return_inverse=True)
    order = np.lexsort((found // width, found % width, owner[found // width]))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    port_states, labels = np.divmod(found[order], width)
    num_reading = len(found)

    is_plain = np.bincount(port_states, minlength=batch.num_states) == 1
    is_plain[batch.destination[~reads]] = False
    node_of_state = num_reading + np.cumsum(~is_plain) - 1
    is_plain_port = is_plain[port_states]
    node_of_state[port_states[is_plain_port]] = np.flatnonzero(is_plain_port)
    joining = np.flatnonzero(~is_plain_port)

    num_nodes = num_reading + int((~is_plain).sum())
    sources = np.concatenate([node_of_state[batch.source], joining])
    destinations = np.concatenate([node_of_state[batch.destination], node_of_state[port_states[joining]]])
    destinations[np.flatnonzero(reads)] = place[port.reshape(-1)]
    starts, final_scores = np.zeros(num_nodes, dtype=bool), np.full(num_nodes, -np.inf)
    starts[node_of_state[batch.starts]] = True
    final_scores[node_of_state] = batch.final_score
    graphs = np.empty(num_nodes, dtype=np.int32)
    graphs[:num_reading], graphs[node_of_state] = owner[port_states], owner
    is_virtual = destinations >= num_reading
    return Nodes(
        num_reading=num_reading,
        labels=labels,
        levels=_levels(sources[is_virtual], destinations[is_virtual], num_reading, num_nodes),
        graphs=graphs,
        starts=starts,
        final_scores=final_scores,
        sources=sources,
        destinations=destinations,
        scores=np.concatenate([batch.score.astype(np.float64), np.zeros(len(joining))]),
    )


def _levels(sources: Ints, destinations: Ints, num_reading: int, num_nodes: int) -> Ints:
    """The most virtual arcs in a row that lead to each node, at least 1 for virtual nodes."""
    levels = np.zeros(num_nodes, dtype=np.int64)
    levels[num_reading:] = 1
    while True:
        # Graphs have no virtual cycles, so this ends.
        late = levels[destinations] <= levels[sources]
        if not late.any():
            return levels
        np.maximum.at(levels, destinations[late], levels[sources[late]] + 1)
