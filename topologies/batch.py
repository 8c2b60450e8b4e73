"""Several graphs in one set of columns, trimmed and ordered for engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies.graph import EPSILON, FloatColumn, Graph, IntColumn, check_graph

TokenSequence: TypeAlias = "Sequence[int] | npt.NDArray[np.integer[Any]]"


@dataclasses.dataclass(frozen=True, eq=False)
class GraphBatch:
    """Several graphs in one set of columns: what a batch of targets becomes, and what backends run on.

    The states of graph ``g`` are ``state_splits[g]..state_splits[g + 1] - 1``; its arcs lie likewise between
    ``arc_splits``, sorted by destination. An epsilon arc leads to a state of a higher number, so that one pass over
    the states in order takes all of them.

    Attributes:
        source, destination, input_label, output_label, score, final_score: as in `Graph`, states of all graphs.
        starts: ``(num_graphs,)`` int32, each graph's start state.
        state_splits, arc_splits: ``(num_graphs + 1,)`` int64.
    """

    source: IntColumn
    destination: IntColumn
    input_label: IntColumn
    output_label: IntColumn
    score: FloatColumn
    final_score: FloatColumn
    starts: IntColumn
    state_splits: npt.NDArray[np.int64]
    arc_splits: npt.NDArray[np.int64]

    @property
    def num_graphs(self) -> int:
        """How many graphs."""
        return len(self.starts)

    @property
    def num_states(self) -> int:
        """States of all graphs together."""
        return len(self.final_score)

    @property
    def num_arcs(self) -> int:
        """Arcs of all graphs together."""
        return len(self.source)

    @property
    def num_epsilon_arcs(self) -> int:
        """Arcs of all graphs together that read nothing."""
        return int(np.count_nonzero(self.input_label == EPSILON))

    @property
    def graph_of_state(self) -> IntColumn:
        """``(num_states,)`` the graph each state belongs to."""
        return np.repeat(np.arange(self.num_graphs, dtype=np.int32), np.diff(self.state_splits))

    def with_input_labels(self, input_label: IntColumn) -> GraphBatch:
        """The same graphs reading other labels.

        Raises:
            ValueError: for another number of them.
        """
        if np.shape(input_label) != self.input_label.shape:
            raise ValueError(
                f"input_label is {input_label!r:.80}, expected {self.input_label.shape} labels, one per arc"
            )
        return dataclasses.replace(self, input_label=input_label)

    def repeated(self, count: int) -> GraphBatch:
        """The whole batch ``count`` times over.

        Raises:
            ValueError: for a count below 0, or one that makes more states or arcs than 31 bits can number.
        """
        is_integer = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if not is_integer or not 0 <= count * max(1, self.num_states, self.num_arcs) <= np.iinfo(np.int32).max:
            raise ValueError(f"count is {count!r:.80}, expected 0 or more, and at most 31 bits of states and arcs")
        states = np.arange(count, dtype=np.int32) * np.int32(self.num_states)

        def shifted(column: IntColumn) -> IntColumn:
            return (states[:, None] + column).reshape(-1)

        return GraphBatch(
            source=shifted(self.source),
            destination=shifted(self.destination),
            input_label=np.tile(self.input_label, count),
            output_label=np.tile(self.output_label, count),
            score=np.tile(self.score, count),
            final_score=np.tile(self.final_score, count),
            starts=shifted(self.starts),
            state_splits=_repeated_splits(self.state_splits, count),
            arc_splits=_repeated_splits(self.arc_splits, count),
        )

    def graph(self, index: int) -> Graph:
        """One graph of the batch, its states renumbered from 0.

        Raises:
            ValueError: for an index that is none of ``0..num_graphs - 1``.
        """
        is_integer = isinstance(index, (int, np.integer)) and not isinstance(index, bool)
        if not is_integer or not 0 <= index < self.num_graphs:
            raise ValueError(f"index is {index!r:.80}, expected 0..{self.num_graphs - 1}")
        low = int(self.state_splits[index])
        arcs = slice(int(self.arc_splits[index]), int(self.arc_splits[index + 1]))
        return Graph(
            self.source[arcs] - low,
            self.destination[arcs] - low,
            self.input_label[arcs],
            self.output_label[arcs],
            self.score[arcs],
            self.final_score[low : int(self.state_splits[index + 1])],
            int(self.starts[index]) - low,
        )

    @classmethod
    def from_graphs(cls, graphs: Sequence[Graph]) -> GraphBatch:
        """A batch of the given graphs, in their order.

        Raises:
            ValueError: if one is none, naming its place.
        """
        if not isinstance(graphs, Sequence):
            raise ValueError(f"graphs is {graphs!r:.80}, expected a sequence of graphs")
        for place, graph in enumerate(graphs):
            check_graph(f"graphs[{place}]", graph)
        offsets = np.cumsum([0] + [graph.num_states for graph in graphs])

        def stacked(column: str, offset: bool) -> npt.NDArray[np.int32]:
            parts = [
                getattr(graph, column) + (low if offset else 0)
                for graph, low in zip(graphs, offsets[:-1].tolist(), strict=True)
            ]
            return np.concatenate(parts or [np.empty(0, np.int32)])

        owner = np.repeat(np.arange(len(graphs)), [graph.num_states for graph in graphs])
        starts = np.array([graph.start for graph in graphs], dtype=np.int64) + offsets[:-1]
        return finished(
            stacked("source", True),
            stacked("destination", True),
            stacked("input_label", False),
            stacked("output_label", False),
            np.concatenate([graph.score for graph in graphs] or [np.empty(0, np.float32)]),
            np.concatenate([graph.final_score for graph in graphs] or [np.empty(0, np.float32)]),
            starts,
            owner,
        )[0]


def _repeated_splits(splits: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], (np.arange(count)[:, None] * splits[-1] + splits[1:]).reshape(-1)])


def chains(targets: Sequence[TokenSequence]) -> GraphBatch:
    """One linear acceptor per token sequence: state u stands after u tokens."""
    lengths = np.array([len(target) for target in targets], dtype=np.int64)
    num_states = lengths + 1
    starts = np.cumsum(num_states) - num_states
    tokens = (
        np.concatenate([np.asarray(target, dtype=np.int32) for target in targets])
        if len(lengths)
        else np.empty(0, np.int32)
    )
    source = np.arange(len(tokens), dtype=np.int32) + np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    final_score = np.full(int(num_states.sum()), -np.inf, dtype=np.float32)
    final_score[starts + lengths] = 0.0
    return GraphBatch(
        source=source,
        destination=source + 1,
        input_label=tokens,
        output_label=tokens,
        score=np.zeros(len(tokens), dtype=np.float32),
        final_score=final_score,
        starts=starts.astype(np.int32),
        state_splits=np.concatenate([starts, [num_states.sum()]]).astype(np.int64),
        arc_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def check_sequences(name: str, sequences: Any) -> list[TokenSequence]:
    """Rows of integers, none of them negative, one per sequence."""
    if isinstance(sequences, (str, bytes)) or not isinstance(sequences, Sequence):
        raise ValueError(f"{name} is {sequences!r:.80}, expected a list of token sequences")
    rows: list[TokenSequence] = []
    for index, sequence in enumerate(sequences):
        try:
            row = np.asarray(sequence)
        except (ValueError, TypeError):  # ragged, or a tensor that has no values
            row = np.asarray(None)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise ValueError(f"{name}[{index}] is {sequence!r:.80}, expected a sequence of integers")
        if row.size and not 0 <= row.min() <= row.max() <= np.iinfo(np.int32).max:
            place = int(np.argmax((row < 0) | (row > np.iinfo(np.int32).max)))
            raise ValueError(f"{name}[{index}][{place}] is {row[place]}, expected a label, 0 or more, of 31 bits")
        rows.append(row.astype(np.int64))
    return rows


def ranges(
    low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For rows of half-open ranges: the row of each element, and the element."""
    counts = high - low
    rows = np.repeat(np.arange(len(low)), counts)
    offsets = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - np.repeat(offsets - low, counts)


def finished(
    source: npt.NDArray[np.generic],
    destination: npt.NDArray[np.generic],
    input_label: npt.NDArray[np.generic],
    output_label: npt.NDArray[np.generic],
    score: FloatColumn,
    final_score: FloatColumn,
    starts: npt.NDArray[np.generic],
    graph_of_state: npt.NDArray[np.generic],
) -> tuple[GraphBatch, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Trim, group by graph, put epsilon arcs in ascending order and sort arcs by destination.

    Returns:
        The batch, and which of the given arcs and states its arcs and states are.
    """
    num_graphs = len(starts)
    alive = coaccessible(source, destination, final_score)
    alive[starts] = True
    depth = epsilon_depth(source, destination, input_label, len(alive))
    states = np.flatnonzero(alive)
    states = states[np.lexsort((depth[states], graph_of_state[states]))]
    number = np.full(len(alive), -1, dtype=np.int32)
    number[states] = np.arange(len(states), dtype=np.int32)
    arcs = np.flatnonzero(alive[source] & alive[destination])
    arcs = arcs[np.argsort(number[destination[arcs]], kind="stable")]
    owner = graph_of_state[states]
    splits = np.arange(num_graphs + 1)
    batch = GraphBatch(
        source=number[source[arcs]],
        destination=number[destination[arcs]],
        input_label=np.asarray(input_label[arcs], dtype=np.int32),
        output_label=np.asarray(output_label[arcs], dtype=np.int32),
        score=score[arcs],
        final_score=final_score[states],
        starts=number[starts],
        state_splits=np.searchsorted(owner, splits),
        arc_splits=np.searchsorted(graph_of_state[destination[arcs]], splits),
    )
    return batch, arcs, states


def coaccessible(
    source: npt.NDArray[np.generic], destination: npt.NDArray[np.generic], final_score: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Which states lead to a final state."""
    alive = np.asarray(final_score > -np.inf)
    order = np.argsort(destination, kind="stable")
    pointer = np.searchsorted(destination[order], np.arange(len(alive) + 1))
    frontier = np.flatnonzero(alive)
    while len(frontier):
        _, position = ranges(pointer[frontier], pointer[frontier + 1])
        before = source[order[position]]
        frontier = np.unique(before[~alive[before]])
        alive[frontier] = True
    return alive


def epsilon_depth(
    source: npt.NDArray[np.generic],
    destination: npt.NDArray[np.generic],
    input_label: npt.NDArray[np.generic],
    num_states: int,
) -> npt.NDArray[np.int32]:
    """The number of epsilon arcs on the longest epsilon path into each state.

    Raises:
        ValueError: if epsilon arcs form a cycle.
    """
    depth = np.zeros(num_states, dtype=np.int32)
    virtual = input_label == EPSILON
    source, destination = source[virtual], destination[virtual]
    for _ in range(num_states + 1):
        late = depth[destination] <= depth[source]
        if not late.any():
            return depth
        np.maximum.at(depth, destination[late], depth[source[late]] + 1)
    raise ValueError("epsilon arcs form a cycle: paths would have no end")


def shortest_path_num_frames(batch: GraphBatch) -> npt.NDArray[np.int64]:
    """The fewest frames of a path of each graph, -1 where there is none."""
    never = np.iinfo(np.int64).max // 2
    frames = np.full(batch.num_states, never)
    frames[batch.starts] = 0
    cost = (batch.input_label != EPSILON).astype(np.int64)
    for _ in range(batch.num_states + 1):
        reached = frames[batch.source] + cost
        late = reached < frames[batch.destination]
        if not late.any():
            break
        np.minimum.at(frames, batch.destination[late], reached[late])
    frames[batch.final_score == -np.inf] = never
    best = np.array(
        [
            frames[low:high].min(initial=never)
            for low, high in zip(batch.state_splits[:-1], batch.state_splits[1:], strict=True)
        ],
        dtype=np.int64,
    )
    return np.where(best >= never, -1, best)
