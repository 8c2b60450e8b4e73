"""A graph unrolled over an utterance's frames, arc by arc, as far as paths above a threshold go.

First the best rest of every state at every frame, backwards; then forwards, from the start, only along arcs on which
some path reaches the threshold. What is left is exact: it holds every path above the threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from topologies import EPSILON
from wfst_losses.backends.native.arc_sums import Floats, Ints, Rows
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled import compiled


class Unrolled(NamedTuple):
    """Arcs of one utterance in ascending order of source; the last state is the end, entered by final scores.

    Attributes:
        source, destination: ``(A,)``, source < destination.
        label, output: ``(A,)`` what is read and written; `EPSILON` for nothing.
        scores, graph_scores: ``(A,)`` nats, with and without the emissions.
        rest: ``(num_states,)`` the score of the best path from each state to the end.
        is_pruned: whether anything was left out.
        wanted_bytes: where it came to need more than it may take, how much; then there are no arcs. Else 0.
    """

    source: Ints
    destination: Ints
    label: Ints
    output: Ints
    scores: Floats
    graph_scores: Floats
    rest: Floats
    is_pruned: bool
    wanted_bytes: int


@compiled
def rests(rows: Rows, graph: int, inputs: Inputs, utterance: int) -> Floats:
    """``(T + 1, Q)`` the best score of the rest of a path from each state at each frame; none leads through NaN."""
    low, first = rows.state_splits[graph], rows.port_splits[graph]
    num_states, num_ports = rows.state_splits[graph + 1] - low, rows.port_splits[graph + 1] - first
    num_frames = inputs.lengths[utterance]
    values = np.full(num_states + num_ports, -np.inf)
    rest = np.empty((num_frames + 1, num_states), np.float64)
    for frame in range(num_frames, -1, -1):
        if frame < num_frames:
            row, log_sum = inputs.scores[utterance, frame], np.float64(inputs.log_sums[utterance, frame])
            for port in range(num_ports):
                emission = np.float64(row[rows.port_label[first + port]]) - log_sum
                values[num_states + port] = emission + values[rows.port_state[first + port]]
        for state in range(num_states - 1, -1, -1):
            best = rows.final_score[low + state] if frame == num_frames else -np.inf
            for arc in range(rows.arc_splits[low + state], rows.arc_splits[low + state + 1]):
                value = rows.score[arc] + values[rows.target[arc]]
                best = max(best, value)
            values[state] = best
        rest[frame] = values[:num_states]
    return rest


class _Arcs(NamedTuple):
    """``columns`` holds source, destination (or, for a while, the graph's state), label, output; then both scores."""

    columns: Ints
    scores: Floats


@compiled
def _with_room(arcs: _Arcs, needed: int) -> _Arcs:
    if needed <= len(arcs.scores):
        return arcs
    larger = _Arcs(np.empty((2 * needed, 4), np.int64), np.empty((2 * needed, 2), np.float64))
    larger.columns[: len(arcs.scores)] = arcs.columns
    larger.scores[: len(arcs.scores)] = arcs.scores
    return larger


class _Bounds(NamedTuple):
    """Best scores of paths: to states before and after the frame's arcs, of the rest; and the least of a whole path."""

    here: Floats
    ahead: Floats
    rest: Floats
    floor: float


@compiled
def _leave(
    rows: Rows, graph: int, inputs: Inputs, utterance: int, now: tuple[int, int, int], bounds: _Bounds, arcs: _Arcs,
    size: int,
) -> tuple[int, bool]:  # fmt: skip
    """Add the arcs that lead from a state to the floor; the new number of arcs and whether any was left out.

    ``now`` is the frame, the state and its number. Destinations are the graph's states, -1 the end, until they have
    numbers.
    """
    frame, state, number = now
    low, first_port = rows.state_splits[graph], rows.port_splits[graph]
    num_frames, num_states = len(bounds.rest) - 1, bounds.rest.shape[1]
    begin, is_pruned = bounds.here[state], False
    for arc in range(rows.arc_splits[low + state], rows.arc_splits[low + state + 1]):
        label, there, score = rows.label[arc], rows.target[arc], rows.score[arc]
        reached, after = bounds.here, bounds.rest[frame]
        if label != EPSILON:
            if frame == num_frames:
                continue
            there = rows.port_state[first_port + there - num_states]
            score += np.float64(inputs.scores[utterance, frame, label]) - np.float64(inputs.log_sums[utterance, frame])
            reached, after = bounds.ahead, bounds.rest[frame + 1]
        total = begin + score
        if total + after[there] >= bounds.floor and total + after[there] > -np.inf:
            arcs.columns[size] = number, there, label, rows.output[arc]
            arcs.scores[size] = score, rows.score[arc]
            reached[there] = max(reached[there], total)
            size += 1
        elif total + after[there] > -np.inf:
            is_pruned = True
    final_score = rows.final_score[low + state]
    if frame == num_frames and begin + final_score > -np.inf:
        if begin + final_score >= bounds.floor:
            arcs.columns[size] = number, -1, EPSILON, EPSILON
            arcs.scores[size] = final_score, final_score
            size += 1
        else:
            is_pruned = True
    return size, is_pruned


@compiled
def unroll(
    rows: Rows, graph: int, inputs: Inputs, utterance: int, rest: Floats, threshold: float, most_bytes: int
) -> Unrolled:
    """All of the graph that paths with a score of at least the threshold pass, if it takes at most so many bytes."""
    low, start = rows.state_splits[graph], rows.starts[graph]
    num_states = rest.shape[1]
    # Bounds are sums in another order than scores: what lies on the threshold must not fall to rounding.
    floor = threshold - 1e-9 * (1.0 + abs(rest[0, start])) if threshold > -np.inf else -np.inf
    here, ahead, number = np.full(num_states, -np.inf), np.full(num_states, -np.inf), np.empty(num_states, np.int64)
    arcs, size = _Arcs(np.empty((1024, 4), np.int64), np.empty((1024, 2), np.float64)), 0
    kept_rest, count, entering, is_pruned = np.empty(1024, np.float64), 0, 0, False
    here[start] = 0.0
    for frame in range(len(rest)):
        begin, bounds = size, _Bounds(here, ahead, rest, floor)
        for state in range(num_states):
            if not (here[state] + rest[frame, state] >= floor and here[state] + rest[frame, state] > -np.inf):
                continue
            if count + 2 > len(kept_rest):
                kept_rest = np.append(kept_rest, kept_rest)
            number[state], kept_rest[count] = count, rest[frame, state]
            needed = size + rows.arc_splits[low + state + 1] - rows.arc_splits[low + state] + 1
            # Room for twice as many, and as much again: what it was before, or in the end the columns one by one.
            wanted = 192 * needed + 24 * len(kept_rest) if needed > len(arcs.scores) else 0
            if wanted > most_bytes:
                no_integers, no_floats = np.empty(0, np.int64), np.empty(0, np.float64)
                return Unrolled(
                    no_integers, no_integers, no_integers, no_integers, no_floats, no_floats, no_floats, True, wanted
                )
            arcs = _with_room(arcs, needed)
            size, left_out = _leave(rows, graph, inputs, utterance, (frame, state, count), bounds, arcs, size)
            is_pruned, count = is_pruned or left_out, count + 1
        _enter(arcs, entering, begin, size, number, frame)
        entering = begin
        here, ahead = ahead, here
        ahead[:] = -np.inf
    for arc in range(entering, size):
        if arcs.columns[arc, 1] < 0:
            arcs.columns[arc, 1] = count
    kept_rest[count] = 0.0
    source, destination = arcs.columns[:size, 0].copy(), arcs.columns[:size, 1].copy()
    label, output = arcs.columns[:size, 2].copy(), arcs.columns[:size, 3].copy()
    scores, graph_scores = arcs.scores[:size, 0].copy(), arcs.scores[:size, 1].copy()
    return Unrolled(
        source, destination, label, output, scores, graph_scores, kept_rest[: count + 1].copy(), is_pruned, 0
    )


@compiled
def _enter(arcs: _Arcs, before: int, begin: int, end: int, number: Ints, frame: int) -> None:
    """Number the states that arcs lead to: of the frame before those that read, of this one those that do not."""
    if frame > 0:
        for arc in range(before, begin):
            if arcs.columns[arc, 2] != EPSILON:
                arcs.columns[arc, 1] = number[arcs.columns[arc, 1]]
    for arc in range(begin, end):
        if arcs.columns[arc, 2] == EPSILON and arcs.columns[arc, 1] >= 0:
            arcs.columns[arc, 1] = number[arcs.columns[arc, 1]]
