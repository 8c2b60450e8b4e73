"""How large a graph is, counted or in closed form, and what memory it takes to make and to read one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from topologies import EPSILON, AbstractTopology, Graph, Size
from topologies.topology import graph_of

_ARC_BYTES, _K2_ARC_BYTES, _STATE_BYTES = 20, 24, 4
# Peaks measured with all four topologies, rounded up.
_TEXT_PEAK_PER_ARC, _K2_PEAK_PER_ARC, _K2_PEAK_PER_ARC_WITH_EPSILONS = 40, 60, 200
_TEXT_READ_PEAK, _BINARY_READ_PEAK = 20, 9
_COMPOSED_PEAK_PER_ARC = 200
# Composed arcs for each state and each arc of the grammar, at most.
_COMPOSED = {"correct": (6, 3), "selfless": (6, 3), "compact": (6, 2), "minimal": (3, 2)}
_SMALL = 2


@dataclasses.dataclass(frozen=True)
class GraphSizes:
    """The figures of one graph. ``None`` where a closed form does not tell.

    Attributes:
        num_states, num_arcs: as everywhere, k2's super-final state and arcs not among them.
        num_epsilon_arcs: arcs that read nothing (virtual arcs); part of ``num_arcs``.
        num_labels: different labels read, blank included.
        mean_arcs_per_state, max_arcs_per_state: arcs leaving a state.
        is_deterministic: whether no state has two arcs that read the same label, and no arc reads nothing.
        num_bytes: bytes of the graph's columns in memory, columns that are one counted once.
        k2_bytes: bytes of the epsilon-free form in k2: arcs with their scores, source states and output labels, final
            arcs, and where each state's arcs begin.
    """

    num_states: int
    num_arcs: int
    num_epsilon_arcs: int | None
    num_labels: int
    mean_arcs_per_state: float
    max_arcs_per_state: int | None
    is_deterministic: bool | None
    num_bytes: int
    k2_bytes: int | None


def graph_sizes(graph: Graph) -> GraphSizes:
    """The sizes of a graph, counted."""
    return GraphSizes(
        num_states=graph.num_states,
        num_arcs=graph.num_arcs,
        num_epsilon_arcs=graph.num_epsilon_arcs,
        num_labels=len(np.unique(graph.input_label[graph.input_label != EPSILON])),
        mean_arcs_per_state=graph.num_arcs / max(1, graph.num_states),
        max_arcs_per_state=_max_arcs_per_state(graph),
        is_deterministic=_is_deterministic(graph),
        num_bytes=graph.num_bytes,
        k2_bytes=_k2_bytes(graph),
    )


def topology_sizes(topology: AbstractTopology) -> GraphSizes:
    """The sizes of a topology in closed form: no graph of its number of labels is built.

    States and arcs are `size()`. What `size()` does not say is read off the topology's graphs of 2 to 6 labels: a
    count that is a polynomial of degree 2 in the number of labels on all of them is continued, any other is ``None``.
    """
    size = topology.size()
    small: list[Graph] = []
    if topology.is_symmetric:
        small = [graph_of(dataclasses.replace(topology, num_labels=_SMALL + more)) for more in range(5)]
    # With fewer labels than the polynomials begin at, the graph itself is the quickest answer.
    if topology.num_labels < _SMALL:
        return graph_sizes(graph_of(topology))
    more_labels = topology.num_labels - _SMALL
    num_bytes = _continued(small, lambda graph: graph.num_bytes, more_labels)
    deterministic = {_is_deterministic(graph) for graph in small}
    return GraphSizes(
        num_states=size.num_states,
        num_arcs=size.num_arcs,
        num_epsilon_arcs=_continued(small, lambda graph: graph.num_epsilon_arcs, more_labels),
        num_labels=topology.num_labels,
        mean_arcs_per_state=size.num_arcs / max(1, size.num_states),
        max_arcs_per_state=_continued(small, _max_arcs_per_state, more_labels),
        is_deterministic=deterministic.pop() if len(deterministic) == 1 else None,
        num_bytes=_ARC_BYTES * size.num_arcs + _STATE_BYTES * size.num_states if num_bytes is None else num_bytes,
        k2_bytes=_continued(small, _k2_bytes, more_labels),
    )


def predicted_compile_bytes(topology: AbstractTopology, *, for_k2: bool) -> int:
    """An upper bound of the memory it takes to build a topology and write it, before anything is allocated."""
    sizes = topology_sizes(topology)
    per_arc = _TEXT_PEAK_PER_ARC
    if for_k2:
        per_arc = _K2_PEAK_PER_ARC if sizes.num_epsilon_arcs == 0 else _K2_PEAK_PER_ARC_WITH_EPSILONS
    return per_arc * sizes.num_arcs + per_arc * sizes.num_states


def predicted_decoding_bytes(topology: AbstractTopology, grammar: Graph, *, lossless: str | None) -> int:
    """An upper bound of the memory it takes to compose a topology with a grammar, and to write the graph."""
    per_state, per_arc = _COMPOSED.get("compact" if lossless == "shared" else topology.name, (topology.num_labels,) * 2)
    return _COMPOSED_PEAK_PER_ARC * (per_state * grammar.num_states + per_arc * grammar.num_arcs)


def predicted_read_bytes(path: Path, *, is_text: bool) -> int:
    """An upper bound of the memory it takes to read a graph file, from the file's size."""
    return path.stat().st_size * (_TEXT_READ_PEAK if is_text else _BINARY_READ_PEAK)


def _continued(small: list[Graph], count: Callable[[Graph], int], more_labels: int) -> int | None:
    """``count`` of the graph with so many more labels than the first of ``small``, by Newton's differences."""
    counts = [count(graph) for graph in small]
    if not counts:
        return None
    first, slope, bend = counts[0], counts[1] - counts[0], counts[2] - 2 * counts[1] + counts[0]

    def value(more: int) -> int:
        return first + slope * more + bend * more * (more - 1) // 2

    return value(more_labels) if counts == [value(more) for more in range(len(counts))] else None


def epsilon_free_size(graph: Graph) -> tuple[Size, int]:
    """States and arcs, and final states, of `topologies.without_epsilons` of a graph, without building it."""
    # Each arc comes once per chain of virtual arcs that may follow it.
    virtual = graph.input_label == EPSILON
    source, destination = graph.source[virtual], graph.destination[virtual]
    chains, before = np.ones(graph.num_states, dtype=np.int64), np.zeros(graph.num_states, dtype=np.int64)
    while not np.array_equal(chains, before):
        before = chains
        following = np.bincount(source, before[destination], minlength=graph.num_states)
        chains = 1 + following.astype(np.int64)
    num_arcs = int(chains[graph.destination[~virtual]].sum())
    final = graph.final_score > -np.inf
    num_states, num_finals = graph.num_states, int(final.sum())
    if np.any(source == graph.start):
        # A start of its own has the arcs of all states that a chain from the start reaches.
        begins = np.zeros(graph.num_states, dtype=bool)
        begins[graph.start] = True
        while np.any(begins[source] & ~begins[destination]):
            begins[destination[begins[source]]] = True
        num_arcs += int(chains[graph.destination[~virtual & begins[graph.source]]].sum())
        num_states, num_finals = num_states + 1, num_finals + bool(final[begins].any())
    return Size(num_states, num_arcs), num_finals


def _k2_bytes(graph: Graph) -> int:
    size, num_finals = epsilon_free_size(graph)
    return _K2_ARC_BYTES * (size.num_arcs + num_finals) + _STATE_BYTES * (size.num_states + 2)


def _max_arcs_per_state(graph: Graph) -> int:
    return int(np.bincount(graph.source, minlength=1).max())


def _is_deterministic(graph: Graph) -> bool:
    if graph.num_epsilon_arcs:
        return False
    num_keys = 1 + int(graph.input_label.max(initial=0))
    key = graph.source.astype(np.int64) * num_keys + graph.input_label
    key.sort()
    return not np.any(key[1:] == key[:-1])
