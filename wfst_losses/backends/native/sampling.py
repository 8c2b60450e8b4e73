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
            _advance(rows, weights, graph, (frame, frame == num_frames), sums, table, walkers, reading, drawn)


@compiled
def _copy(origin: Sums, there: int, result: Sums, here: int, count: int) -> None:
    result.mantissas[here : here + count] = origin.mantissas[there : there + count]
    result.exponents[here : here + count] = origin.exponents[there : there + count]


@compiled
def _advance(
    rows: Rows,
    weights: Weights,
    graph: int,
    now: tuple[int, bool],
    sums: Sums,
    table: Table,
    walkers: Walkers,
    reading: int,
    drawn: Drawn,
) -> None:
    """Move all paths on, over virtual arcs, until they have read the frame or stop."""
    frame, is_end = now
    low = rows.state_splits[graph]
    first, first_port = rows.arc_splits[low], rows.port_splits[graph] + low - rows.state_splits[graph + 1]
    labels, tokens = drawn.labels[reading], drawn.tokens[reading]
    num_tokens, graph_scores = drawn.num_tokens[reading], drawn.graph_scores[reading]
    for path in range(len(walkers.states)):
        state, stream, is_moving = walkers.states[path], walkers.streams[path], True
        while is_moving:
            if table.frame[state] != frame:
                _tabulate(rows, weights, graph, state, is_end, sums, table)
                table.frame[state] = frame
            begin, end = rows.arc_splits[low + state] - first, rows.arc_splits[low + state + 1] - first
            total = table.cumulative[end - 1] if end > begin else table.stop[state]
            stream, uniform = next_uniform(stream)
            point = uniform * total
            if point < table.stop[state]:
                graph_scores[path] += rows.final_score[low + state]
                break
            arc = first + _search(table.cumulative, begin, end, point)
            graph_scores[path] += rows.score[arc]
            if rows.output[arc] != EPSILON:
                tokens[path, num_tokens[path]] = rows.output[arc]
                num_tokens[path] += 1
            state, is_moving = rows.target[arc], rows.label[arc] == EPSILON
            if not is_moving:
                labels[path, frame] = rows.label[arc]
                state = rows.port_state[first_port + state]
        walkers.states[path], walkers.streams[path] = state, stream


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
