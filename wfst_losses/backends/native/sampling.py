"""Exact posterior sampling: sum backwards over the frames, then walk all paths of an utterance forwards together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topologies import EPSILON
from wfst_losses.backends.native.arc_sums import (
    NOTHING,
    Floats,
    Ints,
    Rows,
    Sums,
    Weights,
    close_ports,
    enter_ports,
    sum_rows,
)
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import power_of_two
from wfst_losses.compiled.random import next_uniform


class Drawn(NamedTuple):
    """Paths of ``R`` readings, a reading being a graph over an utterance; ``N`` each.

    Attributes:
        labels: ``(R, N, T)`` the label read at each frame; -1 as given elsewhere.
        tokens: ``(R, N, W)`` the tokens written, ``num_tokens`` of them.
        num_tokens: ``(R, N)``.
        graph_scores: ``(R, N)`` nats.
        is_possible: ``(R,)`` whether there is any path; where not, the rest is as given.
    """

    labels: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    num_tokens: Ints
    graph_scores: Floats
    is_possible: npt.NDArray[np.bool_]


class Table(NamedTuple):
    """Cumulative probabilities of the rows visited at a frame, made when the first path comes by.

    Attributes:
        frame: ``(Q,)`` the frame each state's row was made for.
        stop: ``(Q,)`` the probability of stopping in each state, where cumulation begins.
        cumulative: one entry per arc of the graph.
    """

    frame: Ints
    stop: Floats
    cumulative: Floats


class Walkers(NamedTuple):
    """The paths of one reading on their way: where each stands, and its stream of random numbers."""

    states: Ints
    streams: npt.NDArray[np.uint64]


@compiled
def draw(
    begin: int,
    end: int,
    model: tuple[Rows, Weights, float],
    inputs: Inputs,
    graphs: Ints,
    utterances: Ints,
    seeds: Ints,
    drawn: Drawn,
) -> None:
    """Readings ``begin..end-1``, each of ``graphs[r]`` over ``utterances[r]``.

    ``model`` is rows, their weights and the scale that these were made with; ``seeds`` are one per path, ``(R, N)``.
    """
    rows, weights, scale = model
    for reading in range(begin, end):
        graph, utterance = graphs[reading], utterances[reading]
        low, high, num_frames = rows.state_splits[graph], rows.state_splits[graph + 1], inputs.lengths[utterance]
        num_states, size = high - low, high - low + rows.port_splits[graph + 1] - rows.port_splits[graph]
        sums = Sums(np.zeros(size, np.float64), np.full(size, np.int64(NOTHING)))
        kept = Sums(np.empty((num_frames + 1) * num_states), np.empty((num_frames + 1) * num_states, np.int64))
        for frame in range(num_frames, -1, -1):
            if frame < num_frames:
                enter_ports(rows, graph, inputs, utterance, frame, scale, sums)
            sum_rows(rows, weights, graph, frame == num_frames, sums)
            _copy(sums, 0, kept, frame * num_states, num_states)
        drawn.is_possible[reading] = sums.mantissas[rows.starts[graph]] > 0.0
        if not drawn.is_possible[reading]:
            continue
        num_arcs = rows.arc_splits[high] - rows.arc_splits[low]
        table = Table(np.full(num_states, np.int64(-1)), np.zeros(num_states, np.float64), np.empty(num_arcs))
        walkers = Walkers(np.full(seeds.shape[1], rows.starts[graph]), seeds[reading].astype(np.uint64))
        for frame in range(num_frames + 1):
            if frame < num_frames:
                _copy(kept, (frame + 1) * num_states, sums, 0, num_states)
                enter_ports(rows, graph, inputs, utterance, frame, scale, sums)
            else:
                close_ports(num_states, sums)
            _copy(kept, frame * num_states, sums, 0, num_states)
            for path in range(len(walkers.states)):
                _step(rows, weights, graph, (frame, frame == num_frames), sums, table, (reading, path), walkers, drawn)


@compiled
def _copy(origin: Sums, there: int, result: Sums, here: int, count: int) -> None:
    result.mantissas[here : here + count] = origin.mantissas[there : there + count]
    result.exponents[here : here + count] = origin.exponents[there : there + count]


@compiled
def _step(
    rows: Rows,
    weights: Weights,
    graph: int,
    now: tuple[int, bool],
    sums: Sums,
    table: Table,
    row: tuple[int, int],
    walkers: Walkers,
    drawn: Drawn,
) -> None:
    """Move one path on, over virtual arcs, until it has read the frame or stops; ``row`` is its place in ``drawn``."""
    (frame, is_end), (reading, path) = now, row
    low = rows.state_splits[graph]
    first = rows.arc_splits[low]
    num_states = rows.state_splits[graph + 1] - low
    while True:
        state = walkers.states[path]
        if table.frame[state] != frame:
            _tabulate(rows, weights, graph, state, is_end, sums, table)
            table.frame[state] = frame
        begin, end = rows.arc_splits[low + state], rows.arc_splits[low + state + 1]
        total = table.cumulative[end - 1 - first] if end > begin else table.stop[state]
        walkers.streams[path], uniform = next_uniform(walkers.streams[path])
        point = uniform * total
        if point < table.stop[state]:
            drawn.graph_scores[row] += rows.final_score[low + state]
            return
        arc = first + _search(table.cumulative, begin - first, end - first, point)
        drawn.graph_scores[row] += rows.score[arc]
        if rows.output[arc] != EPSILON:
            drawn.tokens[reading, path, drawn.num_tokens[row]] = rows.output[arc]
            drawn.num_tokens[row] += 1
        if rows.label[arc] != EPSILON:
            walkers.states[path] = rows.port_state[rows.port_splits[graph] + rows.target[arc] - num_states]
            drawn.labels[reading, path, frame] = rows.label[arc]
            return
        walkers.states[path] = rows.target[arc]


@compiled
def _tabulate(rows: Rows, weights: Weights, graph: int, state: int, is_end: bool, sums: Sums, table: Table) -> None:
    """Cumulative shares of a state's row in its sum."""
    low = rows.state_splits[graph]
    first, whole = rows.arc_splits[low], sums.exponents[state]
    total = 0.0
    if is_end:
        total = weights.final_mantissas[low + state] * power_of_two(weights.final_exponents[low + state] - whole)
    table.stop[state] = total
    for arc in range(rows.arc_splits[low + state], rows.arc_splits[low + state + 1]):
        there = rows.target[arc]
        aligned = power_of_two(weights.exponents[arc] + sums.exponents[there] - whole)
        total += weights.mantissas[arc] * sums.mantissas[there] * aligned
        table.cumulative[arc - first] = total


@compiled
def _search(cumulative: Floats, begin: int, end: int, point: float) -> int:
    """The first entry above ``point``: one whose own share is not 0."""
    while end - begin > 1:
        middle = (begin + end - 1) // 2
        if cumulative[middle] > point:
            end = middle + 1
        else:
            begin = middle + 1
    return begin
