"""Forward and backward over one graph for several utterances at once, one per lane, scaled frame by frame.

Sums are plain numbers, an arc one multiplication and addition in all lanes; each lane has one power of two per frame.
Such sums may underflow where a state far below the others matters in the end. That is found out, not hoped against:
forward no sum is let below a floor that lies above all that can vanish, so its total is too high or right; backward
what vanishes is lost, so that total is too low or right. Where both agree, neither underflow made a difference, to the
values nor to the occupancies (whose frames then err by no more in sum, unless a product of two sums vanished: that a
frame's sum tells). Where they do not, the caller takes more bits, and in the end logarithms.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.shared_rows import SharedRows, Weights
from wfst_losses.backends.native.shared_steps import (
    ArcWork,
    Work,
    add_arcs,
    advance,
    begin,
    close,
    look_back,
    retreat,
    share_out,
)
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import exponent_of, exponential, power_of_two
from wfst_losses.compiled.lanes import NUM_LANES
from wfst_losses.compiled.rows import row_peak

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[Any]


class Tile(NamedTuple):
    """The utterances in the lanes, and their frames; unused lanes have utterance 0 and -1 frames."""

    utterances: Ints
    lengths: Ints


@compiled
def read_peaks(tile: Tile, inputs: Inputs, work: Work, offsets: Floats) -> None:
    """The largest score of each live frame, and what all that is taken out of a lane adds up to."""
    for lane in range(NUM_LANES):
        utterance = tile.utterances[lane]
        for frame in range(tile.lengths[lane]):
            peak = row_peak(inputs.scores[utterance, frame])
            work.peaks[frame * NUM_LANES + lane] = peak
            offsets[lane] += (peak if peak > -np.inf else 0.0) - inputs.log_sums[utterance, frame]


@compiled
def forward(
    model: tuple[SharedRows, Weights],
    tile: Tile,
    inputs: Inputs,
    floor: float,
    first: int,
    last: int,
    keep: bool,
    work: Work,
    totals: Floats,
) -> None:
    """Frames ``first..last-1`` on from ``previous``, in which the result is; with ``keep`` arrivals are kept.

    ``totals`` is ``(2, NUM_LANES)``: the log2 of each lane's total, written where its last frame is, and the powers of
    two taken out so far.
    """
    rows, weights = model
    num_reading = rows.column_splits[-1]
    for lane in range(NUM_LANES):
        if tile.lengths[lane] == first:
            totals[0, lane] = math.log2(_add_up_finals(weights, lane, work.previous)) + totals[1, lane]
    for frame in range(first, last):
        for lane in range(NUM_LANES):
            totals[1, lane] += _exponent(work.scale[lane])
        _read_emissions(rows, tile, inputs, frame, work)
        advance(rows, weights, floor, work, (frame - first) * num_reading if keep else -1)
        work.previous[:] = work.current
        for lane in range(NUM_LANES):
            if tile.lengths[lane] == frame + 1:
                totals[0, lane] = math.log2(_add_up_finals(weights, lane, work.current)) + totals[1, lane]


@compiled
def backward(
    model: tuple[SharedRows, Weights],
    tile: Tile,
    inputs: Inputs,
    least_frame: float,
    frames: tuple[int, int],
    work: Work,
    arc_work: ArcWork,
    exponents: Floats,
    occupancies: Floats,
) -> None:
    """Frames ``first..last - 1``, backwards: occupancies by utterance, frame, column; each lane's powers of two add up.

    ``previous`` holds what lies ahead of ``last`` and then of ``first``. Occupancies without room are not wanted. Where
    those of a frame sum to less than ``least_frame``, the lane gets NaN for its powers of two.
    """
    (rows, weights), (first, last) = model, frames
    num_reading = rows.column_splits[-1]
    is_end, factors = np.zeros(NUM_LANES, work.current.dtype), np.zeros(NUM_LANES, work.current.dtype)
    for frame in range(last - 1, first - 1, -1):
        any_end = _mark_ends(tile, frame + 1, is_end)
        retreat(rows, weights, is_end, any_end, work)
        for lane in range(NUM_LANES):
            exponents[lane] += _exponent(work.scale[lane])
        _read_emissions(rows, tile, inputs, frame, work)
        if occupancies.size > 0:
            keep_at = (frame - first) * num_reading
            share_out(rows, keep_at, work, factors)
            _give_up(tile, frame, least_frame, factors, exponents)
            _write(rows, tile, frame, work, factors, occupancies)
            if arc_work.is_wanted:
                size = num_reading * NUM_LANES
                arc_work.closed[:size] = work.arrivals[keep_at * NUM_LANES : keep_at * NUM_LANES + size]
                close(rows, weights, 0.0, arc_work.closed)
                add_arcs(rows, weights, is_end, factors, work, arc_work)
        look_back(rows, work)


@compiled
def finish(rows: SharedRows, weights: Weights, tile: Tile, work: Work, arc_work: ArcWork, exponents: Floats) -> None:
    """The step before the first frame; log2 of the totals in place of their powers of two."""
    is_end, factors = np.zeros(NUM_LANES, work.current.dtype), np.zeros(NUM_LANES, work.current.dtype)
    any_end = _mark_ends(tile, 0, is_end)
    retreat(rows, weights, is_end, any_end, work)
    is_virtual = rows.start >= rows.column_splits[-1]
    for lane in range(NUM_LANES):
        place = rows.start * NUM_LANES + lane
        total = work.previous[place] if is_virtual else work.current[place]
        factors[lane] = 1.0 / total if total > 0.0 else 0.0
        exponents[lane] += math.log2(np.float64(total))
    if arc_work.is_wanted:
        begin(rows, weights, 0.0, arc_work.closed)
        add_arcs(rows, weights, is_end, factors, work, arc_work)


@compiled
def _read_emissions(rows: SharedRows, tile: Tile, inputs: Inputs, frame: int, work: Work) -> None:
    """Into ``emissions`` each lane's ``e^(score - peak)``, over the power of two of its last sum."""
    columns, emissions, row, peaks = rows.columns, work.emissions, work.row, work.peaks
    num_lanes, count = np.uint64(NUM_LANES), np.uint64(len(columns))
    for lane in range(num_lanes):
        peak = peaks[np.uint64(frame) * num_lanes + lane] if frame < tile.lengths[lane] else -np.inf
        if peak == -np.inf:
            for column in range(count):
                emissions[column * num_lanes + lane] = 0.0
            continue
        scores, top = inputs.scores[tile.utterances[lane], frame], row.dtype.type(peak)
        for column in range(count):
            row[column] = exponential(row.dtype.type(scores[np.uint64(columns[column])]) - top)
        factor = row.dtype.type(power_of_two(-_exponent(work.scale[lane])))
        for column in range(count):
            emissions[column * num_lanes + lane] = row[column] * factor


@compiled_inline
def _exponent(value: Any) -> int:
    """The power of two of a sum; 0 of nothing."""
    number = np.float64(value)
    return exponent_of(number) if 0.0 < number < np.inf else 0


@compiled
def _add_up_finals(weights: Weights, lane: int, sums: Floats) -> float:
    total = 0.0
    for state in range(len(weights.final)):
        total += np.float64(weights.final[state]) * np.float64(sums[state * NUM_LANES + lane])
    return total


@compiled
def _mark_ends(tile: Tile, frame: int, is_end: Floats) -> bool:
    """Ones for the lanes whose frames end before ``frame``; whether there are any."""
    found = False
    for lane in range(len(is_end)):
        ends = tile.lengths[lane] == frame
        is_end[lane] = 1.0 if ends else 0.0
        found = found or ends
    return found


@compiled
def _give_up(tile: Tile, frame: int, least_frame: float, factors: Floats, exponents: Floats) -> None:
    """NaN for the lanes that live in the frame and sum to less; ``factors`` are what makes each sum 1, 0 of nothing."""
    for lane in range(NUM_LANES):
        if frame < tile.lengths[lane] and not 0.0 < factors[lane] * least_frame <= 1.0:
            exponents[lane] = np.nan


@compiled
def _write(rows: SharedRows, tile: Tile, frame: int, work: Work, factors: Floats, occupancies: Floats) -> None:
    columns, shares = rows.columns, work.shares
    for lane in range(np.uint64(NUM_LANES)):
        if frame < tile.lengths[lane]:
            out, factor = occupancies[tile.utterances[lane], frame], factors[lane]
            for column in range(np.uint64(len(columns))):
                out[np.uint64(columns[column])] = shares[column * np.uint64(NUM_LANES) + lane] * factor
