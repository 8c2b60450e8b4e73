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
    """

    source: Ints
    destination: Ints
    label: Ints
    output: Ints
    scores: Floats
    graph_scores: Floats
    rest: Floats
    is_pruned: bool


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
                if value > best:
                    best = value
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


@compiled
def unroll(rows: Rows, graph: int, inputs: Inputs, utterance: int, rest: Floats, threshold: float) -> Unrolled:
    """All of the graph that paths with a score of at least the threshold pass."""
    low, first_port = rows.state_splits[graph], rows.port_splits[graph]
    num_frames, num_states = len(rest) - 1, rest.shape[1]
    start = rows.starts[graph]
    # Bounds are sums in another order than scores: what lies on the threshold must not fall to rounding.
    floor = threshold - 1e-9 * (1.0 + abs(rest[0, start])) if threshold > -np.inf else -np.inf
    here, ahead = np.full(num_states, -np.inf), np.full(num_states, -np.inf)
    number = np.empty(num_states, np.int64)
    arcs, size, count = _Arcs(np.empty((1024, 4), np.int64), np.empty((1024, 2), np.float64)), 0, 0
    kept_rest, entering, is_pruned = np.empty(1024, np.float64), 0, False
    here[start] = 0.0
    for frame in range(num_frames + 1):
        begin = size
        for state in range(num_states):
            if not (here[state] + rest[frame, state] >= floor and rest[frame, state] > -np.inf):
                continue
            number[state] = count
            if count + 2 > len(kept_rest):
                kept_rest = np.append(kept_rest, kept_rest)
            kept_rest[count] = rest[frame, state]
            arc_begin, arc_end = rows.arc_splits[low + state], rows.arc_splits[low + state + 1]
            arcs = _with_room(arcs, size + arc_end - arc_begin + 1)
            for arc in range(arc_begin, arc_end):
                label, there, score = rows.label[arc], rows.target[arc], rows.score[arc]
                if label == EPSILON:
                    total, after = here[state] + score, rest[frame, there]
                elif frame < num_frames:
                    there = rows.port_state[first_port + there - num_states]
                    emission = np.float64(inputs.scores[utterance, frame, label])
                    score += emission - np.float64(inputs.log_sums[utterance, frame])
                    total, after = here[state] + score, rest[frame + 1, there]
                else:
                    continue
                if not (total + after > -np.inf):
                    continue
                if not (total + after >= floor):
                    is_pruned = True
                    continue
                arcs.columns[size] = count, there, label, rows.output[arc]
                arcs.scores[size] = score, rows.score[arc]
                size += 1
                if label == EPSILON:
                    here[there] = max(here[there], total)
                else:
                    ahead[there] = max(ahead[there], total)
            final_score = rows.final_score[low + state]
            is_pruned = is_pruned or (frame == num_frames and -np.inf < here[state] + final_score < floor)
            if frame == num_frames and here[state] + final_score >= floor and final_score > -np.inf:
                # The end has no number yet.
                arcs.columns[size] = count, -1, EPSILON, EPSILON
                arcs.scores[size] = final_score, final_score
                size += 1
            count += 1
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
    return Unrolled(source, destination, label, output, scores, graph_scores, kept_rest[: count + 1].copy(), is_pruned)


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
