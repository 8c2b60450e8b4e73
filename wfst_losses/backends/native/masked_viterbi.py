"""Best paths under masks: several at a time in one pass over an utterance, the label of one column hidden per frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.arc_sums import Floats, Ints, Rows
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.viterbi import Found, follow
from wfst_losses.compiled import compiled, compiled_inline

LANES = 4
"""Masks that go through the frames together: as many float64 as a vector register holds."""

Masks = npt.NDArray[np.bool_]


class Hidden(NamedTuple):
    """What is hidden from R readings.

    Attributes:
        columns: ``(R, T)`` a label per frame.
        masks: ``(R, N, T)`` whether it is hidden; N is a multiple of `LANES`.
        like: an array of the dtype of choices: it must hold the length of any state's row of arcs.
    """

    columns: Ints
    masks: Masks
    like: npt.NDArray[Any]


@compiled
def find(
    begin: int,
    end: int,
    rows: Rows,
    inputs: Inputs,
    graphs: Ints,
    utterances: Ints,
    hidden: Hidden,
    found: Found,
) -> None:
    """Readings ``begin..end-1``, each under all its masks; ``found`` has R N rows."""
    size, longest = 0, 0
    for reading in range(begin, end):
        graph, num_frames = graphs[reading], inputs.lengths[utterances[reading]]
        longest = max(longest, (num_frames + 1) * (rows.state_splits[graph + 1] - rows.state_splits[graph]))
        num_ports = rows.port_splits[graph + 1] - rows.port_splits[graph]
        size = max(size, num_ports + rows.state_splits[graph + 1] - rows.state_splits[graph])
    # Made once for all readings: fresh memory costs more than what is computed into it.
    values, room = np.empty((size, LANES), np.float64), np.empty(longest * LANES, hidden.like.dtype)
    num_masks = hidden.masks.shape[1]
    for reading in range(begin, end):
        graph, utterance = graphs[reading], utterances[reading]
        num_frames, num_states = inputs.lengths[utterance], rows.state_splits[graph + 1] - rows.state_splits[graph]
        choices = room[: (num_frames + 1) * num_states * LANES].reshape((num_frames + 1, num_states, LANES))
        for first in range(0, num_masks, LANES):
            values[:] = -np.inf
            for frame in range(num_frames, -1, -1):
                if frame < num_frames:
                    masks, column = hidden.masks[reading, first : first + LANES, frame], hidden.columns[reading, frame]
                    _enter_ports(rows, graph, inputs, utterance, frame, masks, column, values)
                _choose(rows, graph, frame == num_frames, values, choices[frame])
            for lane in range(LANES):
                row = reading * num_masks + first + lane
                found.scores[row] = values[rows.starts[graph], lane]
                found.graph_scores[row] = -np.inf
                if found.scores[row] > -np.inf:
                    follow(rows, graph, choices[:, :, lane], row, found)


@compiled
def _enter_ports(
    rows: Rows, graph: int, inputs: Inputs, utterance: int, frame: int, masks: Masks, column: int, values: Floats
) -> None:
    num_states, first = rows.state_splits[graph + 1] - rows.state_splits[graph], rows.port_splits[graph]
    row, log_sum = inputs.scores[utterance, frame], np.float64(inputs.log_sums[utterance, frame])
    for port in range(rows.port_splits[graph + 1] - first):
        emission = np.float64(row[rows.port_label[first + port]]) - log_sum
        state = rows.port_state[first + port]
        for lane in range(LANES):
            values[num_states + port, lane] = emission + values[state, lane]
        if rows.port_label[first + port] == column:
            for lane in range(LANES):
                if masks[lane]:
                    values[num_states + port, lane] = -np.inf


@compiled_inline
def _better(value: float, arc: int, best: float, choice: int) -> tuple[float, int]:
    """Whichever is higher, the first of equals; NaN never is."""
    return (value, arc) if value > best else (best, choice)


@compiled
def _choose(rows: Rows, graph: int, is_end: bool, values: Floats, choices: npt.NDArray[Any]) -> None:
    """As `viterbi.find` chooses, in each lane."""
    low = rows.state_splits[graph]
    for state in range(len(choices) - 1, -1, -1):
        best0 = rows.final_score[low + state] if is_end else -np.inf
        best1, best2, best3 = best0, best0, best0
        choice0, choice1, choice2, choice3 = -1, -1, -1, -1
        begin = rows.arc_splits[low + state]
        for arc in range(begin, rows.arc_splits[low + state + 1]):
            score, target = rows.score[arc], rows.target[arc]
            best0, choice0 = _better(score + values[target, 0], arc - begin, best0, choice0)
            best1, choice1 = _better(score + values[target, 1], arc - begin, best1, choice1)
            best2, choice2 = _better(score + values[target, 2], arc - begin, best2, choice2)
            best3, choice3 = _better(score + values[target, 3], arc - begin, best3, choice3)
        values[state, 0], values[state, 1], values[state, 2], values[state, 3] = best0, best1, best2, best3
        choices[state, 0], choices[state, 1], choices[state, 2], choices[state, 3] = choice0, choice1, choice2, choice3
