"""A transducer composed with token sequences: `topologies.compose_targets`, compiled, in the order bands want.

States come position by position along the target, so that arcs join neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from topologies import EPSILON, Graph, GraphBatch
from wfst_losses.compiled import compiled
from wfst_losses.compiled.threads import run_in_parallel

Ints: TypeAlias = npt.NDArray[np.int64]


_FEW = 5_000
"""Tokens in all for which threads would take longer to begin."""


class _Piece(NamedTuple):
    """Some of the compositions, states and arcs numbered from 0: see `_compose`."""

    states: Ints
    arcs: Ints
    starts: Ints
    state_splits: Ints
    arc_splits: Ints


class _Index(NamedTuple):
    """A transducer's arcs in order of (source, output): where each state's begin, and the columns."""

    splits: Ints
    output: Ints
    destination: Ints
    arc: Ints
    is_virtual: npt.NDArray[np.bool_]
    is_final: npt.NDArray[np.bool_]
    start: int


def compose_chains(graph: Graph, targets: Sequence[npt.NDArray[np.int64]]) -> GraphBatch:
    """For each target the paths of ``graph`` that write it; trimmed, states in order of position.

    Raises:
        ValueError: if virtual arcs of the result form a cycle.
    """
    index = _index_of(graph)
    lengths = np.array([len(target) for target in targets], dtype=np.int64)
    tokens = np.concatenate([np.empty(0, np.int64), *targets])
    splits = np.concatenate([[0], np.cumsum(lengths)])
    pieces: dict[int, _Piece] = {}

    def work(begin: int, end: int) -> None:
        pieces[begin] = _Piece(*_compose(index, tokens, splits[begin : end + 1]))

    if len(tokens) > _FEW:
        run_in_parallel(work, lengths + 1)
    else:
        work(0, len(targets))
    return _joined(graph, [pieces[begin] for begin in sorted(pieces)])


def _joined(graph: Graph, pieces: list[_Piece]) -> GraphBatch:
    """The graphs of all pieces, in order."""
    states, arc = (
        np.concatenate(parts) for parts in ([each.states for each in pieces], [each.arcs[:, 2] for each in pieces])
    )
    bases = np.cumsum([0, *(each.state_splits[-1] for each in pieces)])[:-1].tolist()
    arc_bases = np.cumsum([0, *(each.arc_splits[-1] for each in pieces)])[:-1].tolist()
    ends = [(each.arcs[:, :2] + base).astype(np.int32) for each, base in zip(pieces, bases, strict=True)]
    return GraphBatch(
        source=np.concatenate([each[:, 0] for each in ends]),
        destination=np.concatenate([each[:, 1] for each in ends]),
        input_label=graph.input_label[arc],
        output_label=graph.output_label[arc],
        score=graph.score[arc],
        final_score=np.where(states[:, 1] == 1, graph.final_score[states[:, 0]], -np.inf).astype(np.float32),
        starts=np.concatenate([each.starts + base for each, base in zip(pieces, bases, strict=True)]).astype(np.int32),
        state_splits=_joined_splits([each.state_splits for each in pieces], bases),
        arc_splits=_joined_splits([each.arc_splits for each in pieces], arc_bases),
    )


def _joined_splits(splits: list[Ints], bases: list[int]) -> Ints:
    return np.concatenate([[0], *(each[1:] + base for each, base in zip(splits, bases, strict=True))])


@functools.lru_cache(maxsize=16)
def _index_of(graph: Graph) -> _Index:
    order = np.lexsort((graph.output_label, graph.source))
    return _Index(
        np.searchsorted(graph.source[order], np.arange(graph.num_states + 1)),
        graph.output_label[order].astype(np.int64),
        graph.destination[order].astype(np.int64),
        order,
        (graph.input_label == EPSILON)[order],
        graph.final_score > -np.inf,
        graph.start,
    )


@compiled
def _grown(rows: Ints, needed: int) -> Ints:
    """``rows`` with room for ``needed`` of them."""
    if needed <= len(rows):
        return rows
    larger = np.empty((2 * needed, rows.shape[1]), np.int64)
    larger[: len(rows)] = rows
    return larger


@compiled
def _reach(index: _Index, state: int, token: int) -> tuple[int, int]:
    """The arcs that leave ``state`` and write ``token``."""
    begin, end = index.splits[state], index.splits[state + 1]
    low = begin + np.searchsorted(index.output[begin:end], token)
    high = low
    while high < end and index.output[high] == token:
        high += 1
    return low, high


@compiled
def _explore(index: _Index, tokens: Ints) -> tuple[Ints, Ints, Ints]:
    """All pairs (state, position) reached, in order of position; where each position's begin; arcs between them.

    An arc is a row (pair left, pair reached, entry of the index).
    """
    num_left = len(index.splits) - 1
    states, arcs = np.empty((4 * len(tokens) + 4, 1), np.int64), np.empty((8 * len(tokens) + 8, 3), np.int64)
    position_splits = np.zeros(len(tokens) + 2, np.int64)
    place = np.full((2, num_left), -1, np.int64)
    states[0, 0] = index.start
    place[0, index.start] = 0
    num_states, num_arcs, begin = 1, 0, 0
    for position in range(len(tokens) + 1):
        # First arcs that write nothing: they stay at this position and may reach further states of it.
        for ahead in range(2 if position < len(tokens) else 1):
            here = place[(position + ahead) % 2]
            token = tokens[position] if ahead else EPSILON
            pair, end = begin, num_states
            while pair < (end if ahead else num_states):
                low, high = _reach(index, states[pair, 0], token)
                arcs = _grown(arcs, num_arcs + high - low)
                states = _grown(states, num_states + high - low)
                for entry in range(low, high):
                    reached = index.destination[entry]
                    if here[reached] < 0:
                        states[num_states, 0], here[reached] = reached, num_states
                        num_states += 1
                    arcs[num_arcs] = pair, here[reached], entry
                    num_arcs += 1
                pair += 1
            if not ahead:
                position_splits[position + 1] = num_states
        for pair in range(begin, position_splits[position + 1]):
            place[position % 2, states[pair, 0]] = -1
        begin = position_splits[position + 1]
    return states[:num_states, 0].copy(), position_splits, arcs[:num_arcs]


@compiled
def _leads_to_end(index: _Index, states: Ints, last_begin: int, arcs: Ints) -> npt.NDArray[np.bool_]:
    alive = np.zeros(len(states), np.bool_)
    for pair in range(last_begin, len(states)):
        alive[pair] = index.is_final[states[pair]]
    changed = True
    # Arcs come in order of position: one sweep back settles all but arcs within a position.
    while changed:
        changed = False
        for arc in range(len(arcs) - 1, -1, -1):
            if alive[arcs[arc, 1]] and not alive[arcs[arc, 0]]:
                alive[arcs[arc, 0]] = True
                changed = True
    return alive


@compiled
def _order(index: _Index, position_splits: Ints, arcs: Ints, num_states: int) -> Ints:
    """The pairs in order of position, within a position ascending along virtual arcs."""
    depth = np.zeros(num_states, np.int64)
    changed, rounds = True, 0
    while changed:
        changed = False
        rounds += 1
        if rounds > num_states + 1:
            raise ValueError("epsilon arcs form a cycle: paths would have no end")
        for arc in range(len(arcs)):
            if index.is_virtual[arcs[arc, 2]] and depth[arcs[arc, 1]] <= depth[arcs[arc, 0]]:
                depth[arcs[arc, 1]] = depth[arcs[arc, 0]] + 1
                changed = True
    order = np.empty(num_states, np.int64)
    for position in range(len(position_splits) - 1):
        begin, end = position_splits[position], position_splits[position + 1]
        order[begin:end] = begin + np.argsort(depth[begin:end], kind="mergesort")
    return order


@compiled
def _one(index: _Index, tokens: Ints) -> tuple[Ints, Ints, Ints]:
    """One composition, trimmed: rows (state, whether at the last position), rows of arcs sorted by destination."""
    states, position_splits, arcs = _explore(index, tokens)
    alive = _leads_to_end(index, states, position_splits[-2], arcs)
    alive[0] = True
    number, count = np.full(len(states), -1, np.int64), 0
    kept_states = np.empty((len(states), 2), np.int64)
    for pair in _order(index, position_splits, arcs, len(states)):
        if alive[pair]:
            number[pair] = count
            kept_states[count, 0], kept_states[count, 1] = states[pair], pair >= position_splits[-2]
            count += 1
    begins = np.zeros(count + 1, np.int64)
    for arc in range(len(arcs)):
        if alive[arcs[arc, 0]] and alive[arcs[arc, 1]]:
            begins[number[arcs[arc, 1]] + 1] += 1
    begins = np.cumsum(begins)
    kept_arcs = np.empty((begins[-1], 3), np.int64)
    for arc in range(len(arcs)):
        if alive[arcs[arc, 0]] and alive[arcs[arc, 1]]:
            target = number[arcs[arc, 1]]
            kept_arcs[begins[target]] = number[arcs[arc, 0]], target, index.arc[arcs[arc, 2]]
            begins[target] += 1
    starts = np.empty(1, np.int64)
    starts[0] = number[0]
    return kept_states[:count], kept_arcs, starts


@compiled
def _compose(index: _Index, tokens: Ints, splits: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """All compositions one after another: states, arcs, starts, and where each graph's states and arcs begin."""
    num_graphs = len(splits) - 1
    states, arcs = np.empty((4 * len(tokens) + 4, 2), np.int64), np.empty((8 * len(tokens) + 8, 3), np.int64)
    starts = np.empty(num_graphs, np.int64)
    state_splits, arc_splits = np.zeros(num_graphs + 1, np.int64), np.zeros(num_graphs + 1, np.int64)
    for graph in range(num_graphs):
        own_states, own_arcs, own_start = _one(index, tokens[splits[graph] : splits[graph + 1]])
        state_base, arc_base = state_splits[graph], arc_splits[graph]
        state_end, arc_end = state_base + len(own_states), arc_base + len(own_arcs)
        states, arcs = _grown(states, state_end), _grown(arcs, arc_end)
        states[state_base:state_end] = own_states
        arcs[arc_base:arc_end] = own_arcs
        arcs[arc_base:arc_end, :2] += state_base
        starts[graph] = state_base + own_start[0]
        state_splits[graph + 1], arc_splits[graph + 1] = state_end, arc_end
    return states[: state_splits[-1]], arcs[: arc_splits[-1]], starts, state_splits, arc_splits
