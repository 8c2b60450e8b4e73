"""The best path: maxima backwards over the frames, each state's choice kept, then one walk forwards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from topologies import EPSILON
from wfst_losses.backends.native.arc_sums import Floats, Ints, Rows
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled import compiled

_STOP = -1


class Found(NamedTuple):
    """The best paths of ``R`` readings, a reading being a graph over an utterance.

    Attributes:
        labels: ``(R, T)`` the label read at each frame; -1 as given elsewhere.
        tokens, token_frames: ``(R, W)`` the tokens written and the frames they were written at, ``num_tokens`` of them.
        num_tokens: ``(R,)``.
        graph_scores, scores: ``(R,)`` nats, the latter with the emissions; -inf where there is no path.
    """

    labels: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    token_frames: npt.NDArray[np.int32]
    num_tokens: Ints
    graph_scores: Floats
    scores: Floats


@compiled
def find(begin: int, end: int, rows: Rows, inputs: Inputs, graphs: Ints, utterances: Ints, found: Found) -> None:
    """Readings ``begin..end-1``, each of ``graphs[r]`` over ``utterances[r]``."""
    for reading in range(begin, end):
        graph, num_frames = graphs[reading], inputs.lengths[utterances[reading]]
        num_states = rows.state_splits[graph + 1] - rows.state_splits[graph]
        values = np.full(num_states + rows.port_splits[graph + 1] - rows.port_splits[graph], -np.inf)
        choices = np.empty((num_frames + 1, num_states), np.int32)
        for frame in range(num_frames, -1, -1):
            if frame < num_frames:
                _enter_ports(rows, graph, inputs, utterances[reading], frame, values)
            _choose(rows, graph, frame == num_frames, values, choices[frame])
        found.scores[reading] = values[rows.starts[graph]]
        found.graph_scores[reading] = -np.inf
        if found.scores[reading] > -np.inf:
            follow(rows, graph, choices, reading, found)


@compiled
def _enter_ports(rows: Rows, graph: int, inputs: Inputs, utterance: int, frame: int, values: Floats) -> None:
    num_states, first = rows.state_splits[graph + 1] - rows.state_splits[graph], rows.port_splits[graph]
    row, log_sum = inputs.scores[utterance, frame], np.float64(inputs.log_sums[utterance, frame])
    for port in range(rows.port_splits[graph + 1] - first):
        emission = np.float64(row[rows.port_label[first + port]]) - log_sum
        values[num_states + port] = emission + values[rows.port_state[first + port]]


@compiled
def _choose(rows: Rows, graph: int, is_end: bool, values: Floats, choices: npt.NDArray[np.int32]) -> None:
    """Each state's best value and the first arc, counted within its row, that gives it; stopping comes before all."""
    low = rows.state_splits[graph]
    for state in range(len(choices) - 1, -1, -1):
        best, choice = rows.final_score[low + state] if is_end else -np.inf, _STOP
        begin = rows.arc_splits[low + state]
        for arc in range(begin, rows.arc_splits[low + state + 1]):
            value = rows.score[arc] + values[rows.target[arc]]
            if value > best:
                best, choice = value, arc - begin
        values[state], choices[state] = best, choice


@compiled
def follow(rows: Rows, graph: int, choices: npt.NDArray[Any], reading: int, found: Found) -> None:
    """Walk along the choices from the start and write down what is read and written."""
    low, num_frames = rows.state_splits[graph], len(choices) - 1
    num_states = rows.state_splits[graph + 1] - low
    state, frame, score = rows.starts[graph], 0, 0.0
    while choices[frame, state] != _STOP:
        arc = rows.arc_splits[low + state] + choices[frame, state]
        score += rows.score[arc]
        if rows.output[arc] != EPSILON:
            place = found.num_tokens[reading]
            found.tokens[reading, place] = rows.output[arc]
            found.token_frames[reading, place] = min(frame, max(num_frames - 1, 0))
            found.num_tokens[reading] += 1
        if rows.label[arc] == EPSILON:
            state = rows.target[arc]
        else:
            found.labels[reading, frame] = rows.label[arc]
            state = rows.port_state[rows.port_splits[graph] + rows.target[arc] - num_states]
            frame += 1
    found.graph_scores[reading] = score + rows.final_score[low + state]
