"""Exact removal of virtual arcs, in the log semiring."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from topologies.batch import epsilon_depth
from topologies.graph import EPSILON, Graph, check_graph


def without_epsilons(graph: Graph, arcs: npt.NDArray[np.bool_] | None = None) -> Graph:
    """The same weighted relation with no arc that reads nothing, or without those of ``arcs``.

    Each arc is followed, inside itself, by every chain of virtual arcs that may come after it:
    ``p -> q`` and ``q ~> r`` give ``p -> r`` with the sum of their scores. Compact becomes k2's modified topology,
    4V - 3 arcs. Parallel arcs are kept, so every path stays one path, but for chains that leave the start: those to one
    state are summed into one. What a chain writes, the arc before it writes.

    Args:
        graph: to be rid of virtual arcs.
        arcs: ``(num_arcs,)`` which of its virtual arcs go; all of them if left out.

    Raises:
        ValueError: if what is written at one arc would be two tokens, a chain that leaves the start writes (there is
            then no arc to carry it), or virtual arcs form a cycle.
    """
    check_graph("graph", graph)
    virtual = graph.input_label == EPSILON
    if arcs is not None:
        arcs = np.asarray(arcs)
        if arcs.dtype != bool or arcs.shape != virtual.shape:
            raise ValueError(f"arcs is {arcs!r:.80}, expected {virtual.shape} of bool, one per arc")
        virtual = virtual & arcs
    if not virtual.any():
        return graph
    # Before any chain is followed: along a cycle their number may double at every step.
    depth = epsilon_depth(graph.source, graph.destination, np.where(virtual, EPSILON, 0), graph.num_states)
    origin, reached, weight, written = _closure(graph, virtual, int(depth.max()))
    source, destination, arc_of, score, output = _extended(
        graph, np.flatnonzero(~virtual), origin, reached, weight, written
    )
    final_score, start = graph.final_score, graph.start
    if np.any(graph.source[virtual] == start):
        # The closure of the start state begins a path too: a new start carries its arcs and its final score.
        begins = origin == start
        if np.any(written[begins] != EPSILON):
            raise ValueError("graph: virtual arcs from the start write a token; expected an arc before that reads")
        new_start = graph.num_states
        offset = np.full(graph.num_states, -np.inf)
        np.logaddexp.at(offset, reached[begins], weight[begins])
        copied = np.flatnonzero(offset[source] > -np.inf)
        source = np.concatenate([source, np.full(len(copied), new_start)])
        destination = np.concatenate([destination, destination[copied]])
        arc_of = np.concatenate([arc_of, arc_of[copied]])
        output = np.concatenate([output, output[copied]])
        score = np.concatenate([score, score[copied] + offset[source[copied]]])
        final = np.logaddexp.reduce(graph.final_score[reached[begins]] + weight[begins])
        final_score, start = np.append(graph.final_score, final.astype(graph.final_score.dtype)), new_start
    order = np.lexsort((destination, source))
    return Graph(
        source[order].astype(np.int32),
        destination[order].astype(np.int32),
        graph.input_label[arc_of[order]],
        output[order],
        score[order].astype(graph.score.dtype),
        final_score,
        start,
    )


def _closure(
    graph: Graph, virtual: npt.NDArray[np.bool_], longest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """All chains of up to ``longest`` virtual arcs, empty ones included: begin, end, score and what they write."""
    arcs = np.flatnonzero(virtual)
    arcs = arcs[np.argsort(graph.source[arcs], kind="stable")]
    pointer = np.searchsorted(graph.source[arcs], np.arange(graph.num_states + 1))
    states = np.arange(graph.num_states)
    written = np.full(graph.num_states, EPSILON, dtype=np.int32)
    origin, reached, weight = states, states, np.zeros(graph.num_states)
    found = [(origin, reached, weight, written)]
    for _ in range(longest):
        counts = pointer[reached + 1] - pointer[reached]
        rows = np.repeat(np.arange(len(reached)), counts)
        position = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - pointer[reached], counts)
        taken = arcs[position]
        origin, weight = origin[rows], weight[rows] + graph.score[taken]
        written = _joined(written[rows], graph.output_label[taken])
        reached = graph.destination[taken].astype(np.int64)
        found.append((origin, reached, weight, written))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[return-value]


def _extended(
    graph: Graph,
    arcs: npt.NDArray[np.int64],
    origin: npt.NDArray[np.int64],
    reached: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
    written: npt.NDArray[np.int32],
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]
]:
    """Each of ``arcs`` once per chain that leaves its destination."""
    order = np.argsort(origin, kind="stable")
    pointer = np.searchsorted(origin[order], np.arange(graph.num_states + 1))
    low, high = pointer[graph.destination[arcs]], pointer[graph.destination[arcs] + 1]
    counts = high - low
    arc_of = np.repeat(arcs, counts)
    position = np.arange(len(arc_of)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    chain = order[position]
    score = graph.score[arc_of] + weight[chain]
    output = _joined(graph.output_label[arc_of], written[chain])
    return graph.source[arc_of].astype(np.int64), reached[chain], arc_of, score, output


def _joined(first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What is written first or second."""
    both = (first != EPSILON) & (second != EPSILON)
    if both.any():
        place = int(np.argmax(both))
        raise ValueError(
            f"graph: virtual arcs would have one arc write both {first[place]} and {second[place]}; expected one token"
        )
    return np.where(first == EPSILON, second, first).astype(np.int32)
