"""The probabilities of states' labels at every frame, for sums over blocks of frames."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.windows import Windows
from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import LOG2_E, exponential
from wfst_losses.compiled.rows import is_plausible, looked_at, num_looked_at

Floats: TypeAlias = npt.NDArray[np.float64]

_LOWEST, _HIGHEST = -80 / LOG2_E, 1e-3
"""Between these, in nats, lies every label that a path reads."""


class Room(NamedTuple):
    """Memory for any one of several graphs: emissions of all frames, and what arrives with them, flat.

    Emissions are as wide as what the network gave: their rounding is less than its own.
    """

    emissions: Scores
    columns: Scores
    arrivals: Floats


@compiled
def read_emissions(
    bands: Bands, graph: int, inputs: Inputs, utterance: int, windows: Windows, room: Room, gains: Floats
) -> bool:
    """The probability of each state's label at each frame, within its window.

    False where any is out of range or NaN, or a row that is looked at whole is no log-probs. It is looked at where sums
    read it: fetched for that alone it would take longer.

    ``gains[t]`` are the bits of the largest ones of ``t`` frames.
    """
    low, first, num_frames = bands.state_splits[graph], bands.column_splits[graph], inputs.lengths[utterance]
    num_states, num_columns = np.uint64(bands.state_splits[graph + 1] - low), bands.column_splits[graph + 1] - first
    columns, column_of_state = bands.columns[first : first + num_columns], bands.column_of_state[low:]
    emissions, num_looks, num_seen = room.emissions, num_looked_at(inputs.scores, num_frames), 0
    if inputs.tolerance < 0.0:
        num_looks = 0
    for frame in range(np.uint64(num_frames)):
        row, log_sum, here = inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], frame * num_states
        begin, end = np.uint64(windows.lows[frame + 1]), np.uint64(windows.highs[frame + 1])
        # Half the states of a target read blank: its exponential is taken once, unless few states are left at all.
        is_narrow = begin < end and end - begin < num_columns
        values = room.columns[: end - begin if is_narrow else num_columns]
        if is_narrow:
            for state in range(begin, end):
                values[state - begin] = row[np.uint64(columns[np.uint64(column_of_state[state])])] - log_sum
        else:
            for column in range(np.uint64(num_columns)):
                values[column] = row[np.uint64(columns[column])] - log_sum
        if _num_outside(values) > 0:
            return False
        if num_seen < num_looks and np.int64(frame) == looked_at(num_seen, num_frames, num_looks):
            if not is_plausible(row, inputs.tolerance):
                return False
            num_seen += 1
        gains[frame + np.uint64(1)] = gains[frame] + _largest(values) * LOG2_E
        for place in range(np.uint64(len(values))):
            values[place] = exponential(values[place])
        for state in range(begin, end):
            source = state - begin if is_narrow else np.uint64(column_of_state[state])
            emissions[here + state] = values[np.uint64(source)]
    return True


@compiled
def _num_outside(values: Scores) -> int:
    lowest, highest, count = values.dtype.type(_LOWEST), values.dtype.type(_HIGHEST), 0
    for column in range(len(values)):
        count += (values[column] >= lowest) & (values[column] <= highest)
    return len(values) - count


@compiled_reduction
def _largest(values: Scores) -> float:
    largest = values.dtype.type(-np.inf)
    for column in range(len(values)):
        largest = max(largest, values[column])
    return float(largest)
