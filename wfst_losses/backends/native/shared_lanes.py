"""Forward and backward over one graph for several utterances at once, one per lane, scaled frame by frame.

Sums are plain numbers, an arc one multiplication and addition in all lanes; each lane has one power of two per frame.
Such sums may underflow where a state far below the others matters in the end. That is found out, not hoped against:
forward no sum is let below a floor that lies above all that can vanish, so its total is too high or right; backward
what vanishes is lost, so that total is too low or right. Where both agree, neither underflow made a difference, to the
values nor to the occupancies (whose frames then err by no more in sum). Where they do not, the caller takes more bits,
and in the end logarithms.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.shared_rows import SharedRows, Weights
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import LOG2_E, exponent_of, exponential, power_of_two
from wfst_losses.compiled.lanes import Lanes, Width, add, larger, load, multiply, multiply_add, spread, store
from wfst_losses.compiled.rows import row_peak

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[Any]


class Tile(NamedTuple):
    """The utterances in the lanes, and their frames; unused lanes have utterance 0 and -1 frames."""

    utterances: Ints
    lengths: Ints


class Work(NamedTuple):
    """Room for one tile; rows of lanes unless said otherwise.

    Attributes:
        previous, current: ``(Q,)`` sums of two frames; backwards, what lies ahead and the states' sums.
        emissions: ``(C,)`` of one frame.
        shares: ``(C,)`` occupancies of one frame.
        arrivals: ``(frames kept, R)`` forward sums of the states that are entered by reading.
        checkpoints: ``(blocks, Q)`` forward sums where blocks begin; checkpoint_scales: and their scales.
        peaks: ``(T,)`` the largest score of each frame.
        scale: ``(1,)`` sums of the last frame.
        row: ``(C,)`` numbers.
    """

    previous: Floats
    current: Floats
    emissions: Floats
    shares: Floats
    arrivals: Floats
    checkpoints: Floats
    checkpoint_scales: Floats
    peaks: Floats
    scale: Floats
    row: Floats


class ArcWork(NamedTuple):
    """Occupancies of arcs (as they enter) and of final states, rows of lanes; ``is_wanted`` tells whether to sum them.

    ``closed`` has room for the forward sums of one frame.
    """

    is_wanted: bool
    arcs: Floats
    finals: Floats
    closed: Floats


@compiled_inline
def _sum_row(begin: int, end: int, places: Floats, weights: Floats, table: Floats, width: Width) -> Lanes:
    even, odd = spread(table.dtype.type(0), width), spread(table.dtype.type(0), width)
    arc = begin
    while arc + 1 < end:
        even = multiply_add(weights[arc], load(table, places[arc], width), even)
        odd = multiply_add(weights[arc + 1], load(table, places[arc + 1], width), odd)
        arc += 2
    if arc < end:
        even = multiply_add(weights[arc], load(table, places[arc], width), even)
    return add(even, odd)


@compiled
def _read_emissions(rows: SharedRows, width: Width, tile: Tile, inputs: Inputs, frame: int, work: Work) -> None:
    """Into ``emissions`` each lane's ``e^(score - peak)``, over the power of two of its last sum."""
    num_lanes = np.uint64(len(width))
    for lane in range(num_lanes):
        if frame >= tile.lengths[lane] or work.peaks[frame * len(width) + lane] == -np.inf:
            for column in range(len(rows.columns)):
                work.emissions[np.uint64(column) * num_lanes + lane] = 0.0
            continue
        scores = inputs.scores[tile.utterances[lane], frame]
        peak = work.peaks[frame * len(width) + lane]
        for column in range(np.uint64(len(rows.columns))):
            score = work.row.dtype.type(scores[np.uint64(rows.columns[column])])
            work.row[column] = exponential(score - work.row.dtype.type(peak))
        factor = work.row.dtype.type(power_of_two(-_exponent(work.scale[lane])))
        for column in range(np.uint64(len(rows.columns))):
            work.emissions[column * num_lanes + lane] = work.row[column] * factor


@compiled_inline
def _exponent(value: Any) -> int:
    """The power of two of a sum; 0 of nothing."""
    number = np.float64(value)
    return exponent_of(number) if 0.0 < number < np.inf else 0


@compiled
def _advance(rows: SharedRows, weights: Weights, width: Width, floor: float, work: Work, keep_at: int) -> None:
    """One frame: ``current`` from ``previous``; at ``keep_at``, if not negative, the states entered by reading."""
    total, least = spread(work.current.dtype.type(0), width), spread(work.current.dtype.type(floor), width)
    for column in range(len(rows.columns)):
        emission = load(work.emissions, column, width)
        for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
            begin, end = rows.entering.splits[state], rows.entering.splits[state + 1]
            arrived = _sum_row(begin, end, rows.entering.places, weights.entering, work.previous, width)
            value = larger(multiply(arrived, emission), least)
            store(work.current, state, value)
            if keep_at >= 0:
                store(work.arrivals, keep_at + state, value)
            total = add(total, value)
    store(work.scale, 0, total)
    _close(rows, weights, width, floor, work.current)


@compiled
def _close(rows: SharedRows, weights: Weights, width: Width, floor: float, sums: Floats) -> None:
    """Forward sums of the states entered by virtual arcs."""
    least = spread(sums.dtype.type(floor), width)
    for state in range(rows.column_splits[-1], len(rows.origin)):
        begin, end = rows.entering.splits[state], rows.entering.splits[state + 1]
        store(sums, state, larger(_sum_row(begin, end, rows.entering.places, weights.entering, sums, width), least))


@compiled
def _begin(rows: SharedRows, weights: Weights, width: Width, floor: float, sums: Floats) -> None:
    """Forward sums before the first frame."""
    num_lanes, first = len(width), rows.column_splits[-1]
    sums[:] = floor
    sums[rows.start * num_lanes : (rows.start + 1) * num_lanes] = 1.0
    least = spread(sums.dtype.type(floor), width)
    for state in range(first, len(rows.origin)):
        begin, end = rows.entering.splits[state], rows.entering.splits[state + 1]
        value = _sum_row(begin, end, rows.entering.places, weights.entering, sums, width)
        if state == rows.start:
            value = add(value, spread(sums.dtype.type(1), width))
        store(sums, state, larger(value, least))


@compiled
def _add_up_finals(rows: SharedRows, weights: Weights, num_lanes: int, lane: int, sums: Floats) -> float:
    total = 0.0
    for state in range(len(rows.origin)):
        total += np.float64(weights.final[state]) * np.float64(sums[state * num_lanes + lane])
    return total


@compiled
def forward(
    rows: SharedRows,
    weights: Weights,
    width: Width,
    tile: Tile,
    inputs: Inputs,
    floor: float,
    begin: int,
    end: int,
    keep: bool,
    work: Work,
    totals: Floats,
) -> None:
    """Frames ``begin..end-1`` on from ``previous``, in which the result is; ``totals`` get log2-sums and offsets.

    ``totals`` is ``(2, lanes)``: the log2 of each lane's total, written where its last frame is, and before that the
    powers of two taken out so far.
    """
    num_lanes, num_reading = len(width), rows.column_splits[-1]
    for frame in range(begin, end):
        for lane in range(num_lanes):
            totals[1, lane] += _exponent(work.scale[lane])
        _read_emissions(rows, width, tile, inputs, frame, work)
        _advance(rows, weights, width, floor, work, (frame - begin) * num_reading if keep else -1)
        work.previous[:] = work.current
        for lane in range(num_lanes):
            if tile.lengths[lane] == frame + 1:
                total = _add_up_finals(rows, weights, num_lanes, lane, work.current)
                totals[0, lane] = math.log2(total) + totals[1, lane]


@compiled
def _retreat(rows: SharedRows, weights: Weights, width: Width, is_end: Floats, any_end: bool, work: Work) -> None:
    """Backward sums of all states from what lies ahead: virtual ones into ``previous`` itself, others to ``current``.

    ``is_end`` has a one in each lane that may end here.
    """
    num_reading, zero = rows.column_splits[-1], spread(work.current.dtype.type(0), width)
    total, ends = zero, load(is_end, 0, width)
    for state in range(len(rows.origin) - 1, -1, -1):
        begin, end = rows.leaving.splits[state], rows.leaving.splits[state + 1]
        value = _sum_row(begin, end, rows.leaving.places, weights.leaving, work.previous, width)
        if any_end:
            value = multiply_add(weights.final[state], ends, value)
        if state >= num_reading:
            store(work.previous, state, value)
        else:
            store(work.current, state, value)
            total = add(total, value)
    store(work.scale, 0, total)


@compiled
def _share_out(rows: SharedRows, width: Width, keep_at: int, work: Work, factors: Floats) -> None:
    """Occupancies of columns into ``shares``, and into ``factors`` what makes each lane's sum to 1."""
    frame_total = spread(work.current.dtype.type(0), width)
    for column in range(len(rows.columns)):
        share = spread(work.current.dtype.type(0), width)
        for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
            share = multiply_add(load(work.arrivals, keep_at + state, width), load(work.current, state, width), share)
        store(work.shares, column, share)
        frame_total = add(frame_total, share)
    store(factors, 0, frame_total)
    for lane in range(len(width)):
        factors[lane] = 1.0 / factors[lane] if factors[lane] > 0.0 else 0.0


@compiled
def _look_back(rows: SharedRows, width: Width, work: Work) -> None:
    """What lies ahead of the frame before: the states' sums times their emissions."""
    for column in range(len(rows.columns)):
        emission = load(work.emissions, column, width)
        for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
            store(work.previous, state, multiply(load(work.current, state, width), emission))


@compiled
def _add_arcs(
    rows: SharedRows, weights: Weights, width: Width, is_end: Floats, factors: Floats, work: Work, arc_work: ArcWork
) -> None:
    """Occupancies of arcs that leave the states of ``closed``, and of ends there."""
    factor, ends = load(factors, 0, width), load(is_end, 0, width)
    for state in range(len(rows.origin)):
        for arc in range(rows.entering.splits[state], rows.entering.splits[state + 1]):
            source = multiply(load(arc_work.closed, rows.entering.places[arc], width), factor)
            passed = multiply(source, load(work.previous, state, width))
            store(arc_work.arcs, arc, multiply_add(weights.entering[arc], passed, load(arc_work.arcs, arc, width)))
        ended = multiply(multiply(load(arc_work.closed, state, width), factor), ends)
        sums = multiply_add(weights.final[state], ended, load(arc_work.finals, state, width))
        store(arc_work.finals, state, sums)


@compiled
def backward(
    rows: SharedRows,
    weights: Weights,
    width: Width,
    tile: Tile,
    inputs: Inputs,
    begin: int,
    end: int,
    work: Work,
    arc_work: ArcWork,
    needs_occupancy: bool,
    exponents: Floats,
    occupancies: Floats,
) -> None:
    """Frames ``end-1..begin``: occupancies by utterance, frame and column; each lane's powers of two add up.

    ``previous`` holds what lies ahead of ``end`` and then of ``begin``.
    """
    num_lanes, num_reading = len(width), rows.column_splits[-1]
    is_end, factors = np.zeros(num_lanes, work.current.dtype), np.zeros(num_lanes, work.current.dtype)
    for frame in range(end - 1, begin - 1, -1):
        any_end = mark_ends(tile, frame + 1, is_end)
        _retreat(rows, weights, width, is_end, any_end, work)
        for lane in range(num_lanes):
            exponents[lane] += _exponent(work.scale[lane])
        _read_emissions(rows, width, tile, inputs, frame, work)
        if needs_occupancy:
            keep_at = (frame - begin) * num_reading
            _share_out(rows, width, keep_at, work, factors)
            _write(rows, num_lanes, tile, frame, work, factors, occupancies)
            if arc_work.is_wanted:
                first = keep_at * num_lanes
                size = num_reading * num_lanes
                arc_work.closed[:size] = work.arrivals[first : first + size]
                _close(rows, weights, width, 0.0, arc_work.closed)
                _add_arcs(rows, weights, width, is_end, factors, work, arc_work)
        _look_back(rows, width, work)


@compiled
def mark_ends(tile: Tile, frame: int, is_end: Floats) -> bool:
    """Ones for the lanes whose frames end before ``frame``; whether there are any."""
    found = False
    for lane in range(len(is_end)):
        ends = tile.lengths[lane] == frame
        is_end[lane] = 1.0 if ends else 0.0
        found = found or ends
    return found


@compiled
def _write(
    rows: SharedRows, num_lanes: int, tile: Tile, frame: int, work: Work, factors: Floats, occupancies: Floats
) -> None:
    for lane in range(num_lanes):
        if frame < tile.lengths[lane]:
            out = occupancies[tile.utterances[lane], frame]
            for column in range(np.uint64(len(rows.columns))):
                share = work.shares[column * np.uint64(num_lanes) + np.uint64(lane)] * factors[lane]
                out[np.uint64(rows.columns[column])] = share


@compiled
def sums(
    rows: SharedRows,
    weights: Weights,
    width: Width,
    tile: Tile,
    inputs: Inputs,
    floor: float,
    num_frames: int,
    block: int,
    needs_occupancy: bool,
    work: Work,
    arc_work: ArcWork,
    occupancies: Floats,
    totals: Floats,
) -> None:
    """Both log-sums of each lane into ``totals``: the one that is not too low, the one that is not too high, nats.

    Forward sums of ``block`` frames are kept at a time; where that is less than all, each block is run twice.
    """
    num_lanes, size = len(width), len(work.previous)
    upper, exponents = np.full((2, num_lanes), -np.inf), np.zeros(num_lanes)
    offsets = np.zeros(num_lanes)
    _read_peaks(num_lanes, tile, inputs, work, offsets)
    upper[1] = 0.0
    work.scale[:] = 1.0
    _begin(rows, weights, width, floor, work.previous)
    for lane in range(num_lanes):
        if tile.lengths[lane] == 0:
            upper[0, lane] = math.log2(_add_up_finals(rows, weights, num_lanes, lane, work.previous))
    num_blocks = max(1, -(-num_frames // block))
    for index in range(num_blocks):
        is_last = index == num_blocks - 1
        if needs_occupancy and not is_last:
            work.checkpoints[index * size : (index + 1) * size] = work.previous
            work.checkpoint_scales[index] = work.scale
        begin, end = index * block, min(num_frames, (index + 1) * block)
        keep = needs_occupancy and is_last
        forward(rows, weights, width, tile, inputs, floor, begin, end, keep, work, upper)
    work.previous[:] = 0.0
    ahead = work.previous.copy()
    for index in range(num_blocks - 1, -1, -1):
        begin, end = index * block, min(num_frames, (index + 1) * block)
        if needs_occupancy and index < num_blocks - 1:
            ahead[:] = work.previous
            work.previous[:] = work.checkpoints[index * size : (index + 1) * size]
            work.scale[:] = work.checkpoint_scales[index]
            again = np.zeros((2, num_lanes))
            forward(rows, weights, width, tile, inputs, floor, begin, end, True, work, again)
            work.previous[:] = ahead
        backward(
            rows, weights, width, tile, inputs, begin, end, work, arc_work, needs_occupancy, exponents, occupancies
        )
    _finish(rows, weights, width, tile, work, arc_work, exponents)
    for lane in range(num_lanes):
        if tile.lengths[lane] >= 0:
            totals[0, tile.utterances[lane]] = upper[0, lane] / LOG2_E + offsets[lane]
            totals[1, tile.utterances[lane]] = exponents[lane] / LOG2_E + offsets[lane]


@compiled
def _finish(
    rows: SharedRows, weights: Weights, width: Width, tile: Tile, work: Work, arc_work: ArcWork, exponents: Floats
) -> None:
    """The step before the first frame; log2 of the totals in place of their powers of two."""
    num_lanes = len(width)
    is_end, factors = np.zeros(num_lanes, work.current.dtype), np.zeros(num_lanes, work.current.dtype)
    any_end = mark_ends(tile, 0, is_end)
    _retreat(rows, weights, width, is_end, any_end, work)
    is_virtual = rows.start >= rows.column_splits[-1]
    for lane in range(num_lanes):
        place = rows.start * num_lanes + lane
        total = work.previous[place] if is_virtual else work.current[place]
        factors[lane] = 1.0 / total if total > 0.0 else 0.0
        exponents[lane] += math.log2(np.float64(total))
    if arc_work.is_wanted:
        _begin(rows, weights, width, 0.0, arc_work.closed)
        _add_arcs(rows, weights, width, is_end, factors, work, arc_work)


@compiled
def _read_peaks(num_lanes: int, tile: Tile, inputs: Inputs, work: Work, offsets: Floats) -> None:
    """The largest score of each live frame, and what all that is taken out of a lane adds up to."""
    for lane in range(num_lanes):
        utterance = tile.utterances[lane]
        for frame in range(tile.lengths[lane]):
            peak = row_peak(inputs.scores[utterance, frame])
            work.peaks[frame * num_lanes + lane] = peak
            offsets[lane] += (peak if peak > -np.inf else 0.0) - inputs.log_sums[utterance, frame]


@compiled
def growth(rows: SharedRows, weights: Weights) -> float:
    """The most by which a sum can exceed the largest of the frame before, forwards, backwards or at an end."""
    num_states, num_reading = len(rows.origin), rows.column_splits[-1]
    most, sums = 0.0, np.ones(num_states)
    for state in range(num_reading, num_states):
        total = 1.0 if state == rows.start else 0.0
        for arc in range(rows.entering.splits[state], rows.entering.splits[state + 1]):
            total += weights.entering[arc] * sums[rows.entering.places[arc]]
        sums[state] = total
        most = max(most, total)
    for state in range(num_reading):
        total = 0.0
        for arc in range(rows.entering.splits[state], rows.entering.splits[state + 1]):
            total += weights.entering[arc] * sums[rows.entering.places[arc]]
        most = max(most, total)
    for state in range(num_states - 1, -1, -1):
        total = np.float64(weights.final[state])
        for arc in range(rows.leaving.splits[state], rows.leaving.splits[state + 1]):
            total += weights.leaving[arc] * (1.0 if rows.leaving.places[arc] < num_reading else sums[rows.leaving.places[arc]])
        sums[state] = total
        most = max(most, total)
    return most
