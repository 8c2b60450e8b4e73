"""Forward and backward over bands at the speed of products and sums, where the numbers allow it.

As in `state_sums`, each state has a power of two of its own, but one that stays for a block of frames: within a block
a step is a product and a sum per arc. That is exact as long as nothing underflows, which is ensured, not hoped for:

- every label that a path reads has a probability in [2^-80, 1] at every frame of the utterance;
- at the start of a block, exponents are raised until no arc multiplies by more than 2^80 (2^40 where a virtual arc may
  follow in the same frame);
- a state that would have to be raised by more than 2^60 above its own size in a block of 12 frames, 2^380 in one of 8
  or 2^700 in one of 4, is dropped, and all that was dropped, with the most that the frames still to come can make of
  it, must be below 2^-60 of the total.

So a sum falls at most to 2^-1020. In the backward pass every frame's sum of occupancies must give the total again.
Where a condition fails, the caller takes shorter blocks, and then `state_sums`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.block_emissions import Room, read_emissions
from wfst_losses.backends.native.block_steps import MAX_STEP, NOTHING, bits_per_frame, find_factors, plan_of, settle
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.occupancy import add_up_within, final_sum
from wfst_losses.backends.native.windows import Windows, find_windows
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, power_of_two
from wfst_losses.compiled.lanes import (
    NUM_LANES,
    add,
    load_from,
    multiply,
    multiply_add,
    spread,
    store,
    store_from,
    widened,
)

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

LONG_BLOCK, MIDDLE_BLOCK, SHORT_BLOCK = 12, 8, 4
"""Frames in a block; shorter ones allow for neighbours whose sums differ more."""
_NARROW = 4 * NUM_LANES
"""Where paths have so few states to choose from, they are often far apart."""
_FALL = 1020
"""How far a sum may fall, as a power of two."""
_TOLERANCE = 1e-6
_NEGLIGIBLE = 60
"""What is dropped is less than the total by so many bits."""


class Course(NamedTuple):
    """How a graph is gone through.

    Attributes:
        num_frames, block_frames: of the utterance, and in a block.
        windows: where its paths are.
        gains: ``(T + 1,)`` the most, in bits, that so many frames add to a sum.
    """

    num_frames: int
    block_frames: int
    windows: Windows
    gains: Floats


@compiled
def room_for(bands: Bands, begin: int, end: int, inputs: Inputs, utterances: Ints, needs_occupancy: bool) -> Room:
    """Room for each of graphs ``begin..end-1``: taken anew for every graph, pages would cost as much as the sums."""
    num_emissions, num_columns, num_arrivals = 0, 0, 0
    for graph in range(begin, end):
        num_frames = inputs.lengths[utterances[graph]]
        num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
        kept = num_frames + 1 if needs_occupancy else 2
        num_emissions = max(num_emissions, num_frames * num_states)
        num_columns = max(num_columns, bands.column_splits[graph + 1] - bands.column_splits[graph])
        num_arrivals = max(num_arrivals, (kept + 2) * (num_states + 2 * bands.margins[graph]))
    dtype = inputs.scores.dtype
    return Room(np.empty(num_emissions, dtype), np.empty(num_columns, dtype), np.empty(num_arrivals))


@compiled
def applies(bands: Bands, graph: int) -> bool:
    """Whether arcs lead onwards only, at most one virtual arc in a row."""
    if bands.virtual_depth[graph] > 1:
        return False
    for diagonal in range(bands.reading.splits[graph], bands.reading.splits[graph + 1]):
        if bands.reading.offsets[diagonal] < 0:
            return False
    for diagonal in range(bands.virtual.splits[graph], bands.virtual.splits[graph + 1]):
        if bands.virtual.offsets[diagonal] < 0:
            return False
    return True


@compiled
def sums(
    bands: Bands,
    graph: int,
    inputs: Inputs,
    utterance: int,
    needs_occupancy: bool,
    block_frames: int,
    room: Room,
    occupancy: Scores,
) -> float:
    """The log-sum of one graph, and with ``needs_occupancy`` its ``(frames, columns)`` occupancies; NaN: not exact."""
    num_frames, margin = inputs.lengths[utterance], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
    low, high = bands.state_splits[graph], bands.state_splits[graph + 1]
    reading, virtual = plan_of(bands.reading, graph, num_states), plan_of(bands.virtual, graph, num_states)
    windows = find_windows(reading, virtual, bands.starts[graph], bands.final_mantissas[low:high], num_frames)
    if block_frames == LONG_BLOCK and (windows.highs - windows.lows).max() <= _NARROW:
        block_frames = MIDDLE_BLOCK
    gains = np.zeros(num_frames + 1)
    if not read_emissions(bands, graph, inputs, utterance, windows, room, gains):
        return np.nan
    gains += np.arange(num_frames + 1) * bits_per_frame(reading, virtual)
    # Row t + 1 holds what arrived with frame t, a margin of zeros before and after it.
    kept, stride = num_frames + 1 if needs_occupancy else 2, num_states + 2 * margin
    rows = room.arrivals[: (kept + 2) * stride].reshape((kept + 2, stride))
    rows[:, :margin] = 0.0
    rows[:, margin + num_states :] = 0.0
    exponents = np.full((num_frames // block_frames + 2) * stride, NOTHING)
    course = Course(num_frames, block_frames, windows, gains)
    total, exponent, dropped = _forward(bands, graph, course, kept, room, exponents)
    if total == 0.0 and dropped == -np.inf:
        return -np.inf
    limit = math.log2(total) + exponent - _NEGLIGIBLE - math.log2(num_states * (num_frames + 1))
    if not (total < np.inf and dropped <= limit):
        return np.nan
    if needs_occupancy and not _backward(bands, graph, course, room, exponents, limit, (total, exponent), occupancy):
        return np.nan
    return math.log(total) + exponent / LOG2_E


@compiled
def _keep_within(sums: Floats, at: int, num_states: int, low: int, high: int) -> None:
    """Zeros for all states of a row but ``low..high - 1``."""
    sums[at : at + low] = 0.0
    sums[at + high : at + num_states] = 0.0


@compiled
def _forward(
    bands: Bands, graph: int, course: Course, kept: int, room: Room, exponents: Ints
) -> tuple[float, int, float]:
    """Fill the arrivals and each block's exponents; the total as a number and a power of two.

    Beside it, in bits, the most that all dropped sums could have come to.

    A row of arrivals is filled in its window, with zeros where the next row reads beyond it. Two rows after those that
    are kept hold the sums a block begins with and those with virtual arcs.
    """
    low, margin, (num_frames, block_frames, windows, gains) = bands.state_splits[graph], bands.margins[graph], course
    num_states, max_raise = bands.state_splits[graph + 1] - low, _FALL - MAX_STEP * block_frames
    stride = num_states + 2 * margin
    reading, virtual = plan_of(bands.reading, graph, num_states), plan_of(bands.virtual, graph, num_states)
    offsets, virtual_offsets = reading.offsets, virtual.offsets
    factors, virtual_factors = np.empty(len(offsets) * num_states), np.empty(len(virtual_offsets) * num_states)
    sums, emissions = room.arrivals, room.emissions
    settled, closed = kept * stride + margin, (kept + 1) * stride + margin
    sums[settled : settled + num_states] = 0.0
    sums[settled + bands.starts[graph]] = 1.0
    before, at = np.full(stride, NOTHING), settled
    before[margin + bands.starts[graph]] = 0
    most_dropped, final_bits = -np.inf, bands.final_exponents[low : low + num_states].max() + 1
    for frame in range(num_frames + 1):
        begin, end = windows.lows[frame], windows.highs[frame]
        next_begin, next_end = windows.lows[min(frame + 1, num_frames)], windows.highs[min(frame + 1, num_frames)]
        if frame % block_frames == 0:
            # Row `frame` is the last of the block before: scale a copy, the backward pass will read the row.
            if frame > 0:
                sums[settled + begin : settled + end] = sums[at + begin : at + end]
            _keep_within(sums, settled, num_states, begin, end)
            at, block = settled, frame // block_frames
            after = exponents[block * stride : (block + 1) * stride]
            states = begin, windows.highs[min(frame + block_frames, num_frames)]
            dropped = settle(reading, virtual, True, margin, states, max_raise, sums, at, (before, after))
            if dropped > NOTHING:
                most_dropped = max(most_dropped, dropped + gains[num_frames] - gains[frame] + final_bits)
            find_factors(reading, margin, states, after, factors)
            find_factors(virtual, margin, states, after, virtual_factors)
            before[:] = after
        if len(virtual_offsets) > 0:
            for first in range(begin, end, NUM_LANES):
                value = load_from(sums, at + first)
                for diagonal in range(len(virtual_offsets)):
                    factor = load_from(virtual_factors, diagonal * num_states + first)
                    value = multiply_add(factor, load_from(sums, at - virtual_offsets[diagonal] + first), value)
                store_from(sums, closed + first, value)
            at = closed
            sums[at + begin - margin : at + begin] = 0.0
            sums[at + end : at + next_end] = 0.0
        if frame == num_frames:
            break
        here, place = ((frame + 1) % kept) * stride + margin, frame * num_states
        for first in range(next_begin, next_end, NUM_LANES):
            value = spread(0.0)
            for diagonal in range(len(offsets)):
                factor = load_from(factors, diagonal * num_states + first)
                value = multiply_add(factor, load_from(sums, at - offsets[diagonal] + first), value)
            store_from(sums, here + first, multiply(value, widened(load_from(emissions, place + first))))
        at = here
        sums[at + next_begin - margin : at + next_begin] = 0.0
        sums[at + next_end : at + windows.highs[min(frame + 2, num_frames)]] = 0.0
    _keep_within(sums, at, num_states, windows.lows[num_frames], windows.highs[num_frames])
    total, exponent = final_sum(bands, low, sums[at : at + num_states], before[margin : margin + num_states])
    return total, exponent, most_dropped


@compiled
def _begin_at_ends(bands: Bands, low: int, margin: int, num_states: int, sums: Floats, exponents: Ints) -> None:
    for state in range(num_states):
        if bands.final_mantissas[low + state] > 0.0:
            sums[margin + state] = bands.final_mantissas[low + state]
            exponents[margin + state] = bands.final_exponents[low + state]


@compiled
def _join_scales(forwards: Ints, begin: int, backwards: Ints, margin: int, total_exponent: int, scale: Floats) -> None:
    """What makes products of forward and backward sums shares of the total."""
    here, there = np.uint64(margin), np.uint64(begin + margin)
    for state in range(np.uint64(len(scale))):
        power = forwards[there + state] + backwards[here + state] - total_exponent
        scale[state] = power_of_two(min(power, 1000))


@compiled
def _sum_lanes(lanes: Floats) -> float:
    total = 0.0
    for lane in range(NUM_LANES):
        total += lanes[lane]
    return total


@compiled
def _backward(
    bands: Bands,
    graph: int,
    course: Course,
    room: Room,
    exponents: Ints,
    limit: float,
    total_and_exponent: tuple[float, int],
    occupancy: Scores,
) -> bool:
    """Occupancies of the graph's columns at each frame; False where a frame's sum is not the total."""
    low, margin, (num_frames, block_frames, windows, gains) = bands.state_splits[graph], bands.margins[graph], course
    num_states, max_raise = bands.state_splits[graph + 1] - low, _FALL - MAX_STEP * block_frames
    stride = num_states + 2 * margin
    reading, virtual = plan_of(bands.reading_back, graph, num_states), plan_of(bands.virtual_back, graph, num_states)
    offsets, virtual_offsets, (total, total_exponent) = reading.offsets, virtual.offsets, total_and_exponent
    factors, virtual_factors = np.empty(len(offsets) * num_states), np.empty(len(virtual_offsets) * num_states)
    arrivals, emissions = room.arrivals, room.emissions
    sums, lanes = np.zeros(2 * stride), np.empty(NUM_LANES)
    rest, other = margin, stride + margin
    before, after = np.full(stride, NOTHING), np.full(stride, NOTHING)
    shares, scale = np.zeros(num_states), np.empty(num_states)
    _begin_at_ends(bands, low, margin, num_states, sums, before)
    for frame in range(num_frames - 1, -1, -1):
        begin, end = windows.lows[frame + 1], windows.highs[frame + 1]
        next_begin, next_end = windows.lows[frame], windows.highs[frame]
        if frame == num_frames - 1 or (frame + 1) % block_frames == 0:
            block = frame // block_frames
            states = windows.lows[block * block_frames], end
            _keep_within(sums, rest, num_states, begin, end)
            dropped = settle(reading, virtual, False, margin, states, max_raise, sums, rest, (before, after))
            if dropped > NOTHING and dropped + gains[frame + 1] > limit:
                return False
            before[:] = after
            find_factors(reading, margin, states, after, factors)
            find_factors(virtual, margin, states, after, virtual_factors)
            _join_scales(exponents, block * stride, after, margin, total_exponent, scale)
        if len(virtual_offsets) > 0:
            for first in range(begin, end, NUM_LANES):
                value = load_from(sums, rest + first)
                for diagonal in range(len(virtual_offsets)):
                    factor = load_from(virtual_factors, diagonal * num_states + first)
                    value = multiply_add(factor, load_from(sums, rest - virtual_offsets[diagonal] + first), value)
                store_from(sums, other + first, value)
            rest, other = other, rest
        arrived, place, frame_sums = (frame + 1) * stride + margin, frame * num_states, spread(0.0)
        for first in range(begin, end, NUM_LANES):
            value = load_from(sums, rest + first)
            share = multiply(multiply(load_from(arrivals, arrived + first), value), load_from(scale, first))
            store_from(shares, first, share)
            frame_sums = add(frame_sums, share)
            store_from(sums, rest + first, multiply(value, widened(load_from(emissions, place + first))))
        store(lanes, 0, frame_sums)
        frame_total = _sum_lanes(lanes)
        if not abs(frame_total - total) <= _TOLERANCE * total:
            return False
        add_up_within(bands, graph, shares, (begin, end), 1.0 / frame_total, occupancy, frame)
        shares[next_end:end] = 0.0
        # The row before reads beyond the window on either side.
        sums[rest + next_begin : rest + begin] = 0.0
        sums[rest + end : rest + end + margin] = 0.0
        for first in range(next_begin, next_end, NUM_LANES):
            value = spread(0.0)
            for diagonal in range(len(offsets)):
                factor = load_from(factors, diagonal * num_states + first)
                value = multiply_add(factor, load_from(sums, rest - offsets[diagonal] + first), value)
            store_from(sums, other + first, value)
        sums[other + next_end : other + next_end + margin] = 0.0
        rest, other = other, rest
    return True
