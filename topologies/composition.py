"""Composition of a transducer with many acceptors or transducers at once, vectorised over all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from topologies.batch import GraphBatch, TokenSequence, chains, check_sequences, finished, ranges
from topologies.graph import EPSILON, Graph, check_graph

_DENSE_KEYS = 1 << 25


def compose_targets(graph: Graph, targets: Sequence[TokenSequence]) -> GraphBatch:
    """For each target, the paths of ``graph`` that write it, and nothing else.

    Raises:
        ValueError: for what is no graph, or no sequence of sequences of integers.
    """
    check_graph("graph", graph)
    return compose(graph, chains(check_sequences("targets", targets)))


def compose(left: Graph, right: GraphBatch) -> GraphBatch:
    """``left`` composed with each graph of ``right``: what ``left`` writes, ``right`` reads. Trimmed.

    Paths are in one-to-one correspondence with pairs of matching paths: where ``right`` reads nothing (a back-off
    arc), that arc is taken directly before the arc that matches or before the end and nowhere else, so no pair is
    counted twice in the log semiring.

    Raises:
        ValueError: if epsilon arcs of the result form a cycle.
    """
    check_graph("left", left)
    if not isinstance(right, GraphBatch):
        raise ValueError(f"right is {right!r:.80}, expected a GraphBatch; GraphBatch.from_graphs makes one")
    return _Exploration(left, right).run().batch


def compose_graph(left: Graph, right: Graph, *, num_real: int | None = None) -> Composition:
    """`compose` with a single graph, and what each arc and state came from.

    Args:
        left, right: as in `compose`.
        num_real: of ``left`` a topology's `factored` graph, the number of states of the topology's own graph. The
            others only pass on to tokens and blank: ``right`` backs off before them, never in between.
    """
    check_graph("left", left)
    check_graph("right", right)
    if num_real is not None:
        check_num_real(num_real, left.num_states)
    splits = np.array([0, right.num_states]), np.array([0, right.num_arcs])
    # The order that engines want of a batch is of no use to the search.
    columns = (right.source, right.destination, right.input_label, right.output_label, right.score, right.final_score)
    batch = GraphBatch(*columns, np.array([right.start], dtype=np.int32), *splits)
    return _Exploration(left, batch, left.num_states if num_real is None else num_real).run()


def check_num_real(num_real: object, num_states: int) -> None:
    """How many states of a factored graph are the topology's own: 1 or more, of those there are."""
    is_integer = isinstance(num_real, (int, np.integer)) and not isinstance(num_real, bool)
    if not is_integer or not 1 <= num_real <= num_states:  # type: ignore[operator]
        raise ValueError(f"num_real is {num_real!r:.80}, expected 1..{num_states}, states of the topology's own graph")


@dataclasses.dataclass(frozen=True, eq=False)
class Composition:
    """A batch of composed graphs and where they came from.

    Attributes:
        batch: the composed graphs.
        left_arc, right_arc: ``(num_arcs,)`` the arcs that each arc joins; -1 for none on that side.
        left_state, right_state: ``(num_states,)`` the states that each state joins.
        left_score: ``(num_arcs,)`` what the left side adds to each arc's score, float64.
    """

    batch: GraphBatch
    left_arc: npt.NDArray[np.int64]
    right_arc: npt.NDArray[np.int64]
    left_state: npt.NDArray[np.int64]
    right_state: npt.NDArray[np.int64]
    left_score: npt.NDArray[np.float64]


class _Exploration:
    """Breadth-first search over the pairs of states, one whole frontier at a time."""

    def __init__(self, left: Graph, right: GraphBatch, num_real: int | None = None) -> None:
        self.left, self.right = left, right
        self.num_real = left.num_states if num_real is None else num_real
        num_outputs = 1 + max(int(left.output_label.max(initial=0)), int(right.input_label.max(initial=0)))
        self.num_keys_per_state = num_outputs + 1
        left_key = left.source.astype(np.int64) * self.num_keys_per_state + (left.output_label + 1)
        self.left_order = np.argsort(left_key, kind="stable")
        self.left_key = left_key[self.left_order]
        self.right_order = np.argsort(right.source, kind="stable")
        self.right_pointer = np.searchsorted(right.source[self.right_order], np.arange(right.num_states + 1))
        self.has_right_epsilons = bool(np.any(right.input_label == EPSILON))
        has_inner = self.num_real < left.num_states
        self.reach = _Reach(left, right, self.num_real, self.num_keys_per_state) if has_inner else None
        nothing = np.empty(0, dtype=np.int64)
        self.arcs: list[tuple[npt.NDArray[np.int64], ...]] = [(nothing, nothing, nothing, nothing)]

    def run(self) -> Composition:
        """All pairs that can be reached, trimmed and put in order."""
        left, right = self.left, self.right
        numbering = _Numbering(left.num_states * right.num_states * 2)
        pair = np.int64(left.start) * right.num_states + right.starts.astype(np.int64)
        frontier = pair * 2
        starts = numbering.number(frontier)[0]
        found = [frontier]
        while len(frontier):
            ids = numbering.number(frontier)[0]
            source_index, destination_key, left_arc, right_arc = self._expand(frontier)
            destination, frontier = numbering.number(destination_key)
            found.append(frontier)
            self.arcs.append((ids[source_index], destination, left_arc, right_arc))
        keys = np.concatenate(found)
        left_state, right_state = np.divmod(keys // 2, right.num_states)
        source, destination, left_arc, right_arc = (np.concatenate(part) for part in zip(*self.arcs, strict=True))
        by_left, by_right = left_arc >= 0, right_arc >= 0
        zero = np.zeros(1, dtype=np.float32)
        left_score = np.where(by_left, left.score[left_arc] if left.num_arcs else zero, zero)
        batch, arcs, states = finished(
            source,
            destination,
            np.where(by_left, left.input_label[left_arc] if left.num_arcs else EPSILON, EPSILON),
            np.where(by_right, right.output_label[right_arc] if right.num_arcs else EPSILON, EPSILON),
            left_score + np.where(by_right, right.score[right_arc] if right.num_arcs else zero, zero),
            left.final_score[left_state] + right.final_score[right_state],
            starts,
            right.graph_of_state[right_state],
        )
        return Composition(
            batch, left_arc[arcs], right_arc[arcs], left_state[states], right_state[states],
            left_score[arcs].astype(np.float64),
        )  # fmt: skip

    def _expand(self, frontier: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """All arcs leaving the frontier: index into it, key of the destination, left arc and right arc or -1."""
        num_right = self.right.num_states
        pair, backed_off = frontier >> 1, (frontier & 1).astype(bool)
        left_state, right_state = np.divmod(pair, num_right)

        alone, left_arc = self._left_arcs(left_state * self.num_keys_per_state)
        inner = self.left.destination[left_arc] >= self.num_real
        # Having backed off, one may go on only towards a token.
        allowed = inner | ~backed_off[alone]
        if self.reach is not None and inner.any():
            allowed[inner] &= self.reach.finds(
                self.left.destination[left_arc[inner]], right_state[alone[inner]], backed_off[alone[inner]]
            )
        alone, left_arc, inner = alone[allowed], left_arc[allowed], inner[allowed]
        pair = self.left.destination[left_arc].astype(np.int64) * num_right + right_state[alone]
        parts = [(alone, pair * 2 + backed_off[alone], left_arc, np.full(len(alone), -1))]

        rows, right_position = ranges(self.right_pointer[right_state], self.right_pointer[right_state + 1])
        right_arc = self.right_order[right_position]
        label = self.right.input_label[right_arc].astype(np.int64)
        if self.has_right_epsilons:
            skips = (label == EPSILON) & (left_state[rows] < self.num_real)
            skip_rows, skip_arc = rows[skips], right_arc[skips]
            listed = label != EPSILON
            rows, right_arc, label = rows[listed], right_arc[listed], label[listed]
            destination = left_state[skip_rows] * num_right + self.right.destination[skip_arc]
            parts.append((skip_rows, destination * 2 + 1, np.full(len(skip_rows), -1), skip_arc))
        matched, left_arc = self._left_arcs(left_state[rows] * self.num_keys_per_state + label + 1)
        right_arc = right_arc[matched]
        destination = self.left.destination[left_arc].astype(np.int64) * num_right + self.right.destination[right_arc]
        parts.append((rows[matched], destination * 2, left_arc, right_arc))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _left_arcs(self, key: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        low = np.searchsorted(self.left_key, key, side="left")
        high = np.searchsorted(self.left_key, key, side="right")
        rows, position = ranges(low, high)
        return rows, self.left_order[position]


class _Reach:
    """Which of the states of ``left`` that only pass on lead to anything that ``right`` reads at a state of its own."""

    def __init__(self, left: Graph, right: GraphBatch, num_real: int, num_keys: int) -> None:
        self.num_keys = num_keys
        reads = right.input_label != EPSILON
        self.listed = np.unique(right.source[reads].astype(np.int64) * num_keys + right.input_label[reads])
        # The least and the largest token that lies ahead: trees over the tokens have nothing in between but theirs.
        self.low, self.high = np.full(left.num_states, num_keys), np.full(left.num_states, -1)
        self.silent = np.zeros(left.num_states, dtype=bool)
        inner = np.flatnonzero(left.source >= num_real)
        source, destination, output = left.source[inner], left.destination[inner], left.output_label[inner]
        writes, ends = output != EPSILON, left.input_label[inner] != EPSILON
        np.minimum.at(self.low, source[writes], output[writes])
        np.maximum.at(self.high, source[writes], output[writes])
        self.silent[source[ends & ~writes]] = True
        source, destination = source[~ends], destination[~ends]
        while len(source):
            before = self.low.sum() - self.high.sum() - self.silent.sum()
            np.minimum.at(self.low, source, self.low[destination])
            np.maximum.at(self.high, source, self.high[destination])
            np.logical_or.at(self.silent, source, self.silent[destination])
            if before == self.low.sum() - self.high.sum() - self.silent.sum():
                break

    def finds(
        self, left: npt.NDArray[np.int32], right: npt.NDArray[np.int64], backed_off: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Whether something may lie ahead of each pair of states; never False where something does."""
        first, last = right * self.num_keys + self.low[left], right * self.num_keys + self.high[left]
        between = np.searchsorted(self.listed, last, side="right") > np.searchsorted(self.listed, first, side="left")
        return np.asarray((between & (self.high[left] >= 0)) | (self.silent[left] & ~backed_off))


class _Numbering:
    """Consecutive numbers for 64-bit keys in order of discovery, with a table where the keys are few enough."""

    def __init__(self, num_keys: int) -> None:
        self.count = 0
        self.table = np.full(num_keys, -1, dtype=np.int32) if num_keys <= _DENSE_KEYS else None
        self.keys, self.numbers = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    def number(self, key: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The number of each key, and the keys never seen before, in the order of their numbers."""
        if self.table is not None:
            new = np.unique(key[self.table[key] < 0])
            self.table[new] = np.arange(self.count, self.count + len(new))
            self.count += len(new)
            return self.table[key].astype(np.int64), new
        distinct, inverse = np.unique(key, return_inverse=True)
        position = np.searchsorted(self.keys, distinct)
        known = position < len(self.keys)
        known[known] = self.keys[position[known]] == distinct[known]
        new = distinct[~known]
        numbers = np.arange(self.count, self.count + len(new))
        self.count += len(new)
        self.keys = np.insert(self.keys, position[~known], new)
        self.numbers = np.insert(self.numbers, position[~known], numbers)
        return self.numbers[np.searchsorted(self.keys, distinct)][inverse.reshape(-1)], new
