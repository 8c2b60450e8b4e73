"""Forward and backward over bands at the speed of products and sums, where the numbers allow it.

As in `state_sums`, each state has a power of two of its own, but one that stays for a block of frames: within a block
a step is a product and a sum per arc. That is exact as long as nothing underflows, which is ensured, not hoped for:

- every label the graph reads has a probability in [2^-80, 1] at every frame of the utterance;
- at the start of a block, exponents are raised until no arc multiplies by more than 2^80 (2^40 where a virtual arc may
  follow in the same frame), and no state that holds anything is raised by more than 2^60 above its own size.

So in a block of 12 frames a sum falls at most to 2^-1020. In the backward pass every frame's sum of occupancies must
give the total again. Where a condition fails, the caller takes `state_sums`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.block_steps import NOTHING, find_factors, plan_of, settle
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.occupancy import add_up, final_sum
from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import LOG2_E, exponential, power_of_two
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

_BLOCK_FRAMES = 12
_LOWEST, _HIGHEST = -80 / LOG2_E, 1e-3
"""Between these, in nats, lies every label that a graph reads."""
_TOLERANCE = 1e-6


class Room(NamedTuple):
    """Memory for any one of several graphs: emissions of all frames, and what arrives with them, flat.

    Emissions are as wide as what the network gave: their rounding is less than its own.
    """

    emissions: Scores
    columns: Scores
    arrivals: Floats


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
    bands: Bands, graph: int, inputs: Inputs, utterance: int, needs_occupancy: bool, room: Room, occupancy: Scores
) -> float:
    """The log-sum of one graph, and with ``needs_occupancy`` its ``(frames, columns)`` occupancies; NaN: not exact."""
    num_frames, margin = inputs.lengths[utterance], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
    if not _read_emissions(bands, graph, inputs, utterance, room):
        return np.nan
    # Row t + 1 holds what arrived with frame t, a margin of zeros before and after it.
    kept, stride = num_frames + 1 if needs_occupancy else 2, num_states + 2 * margin
    rows = room.arrivals[: (kept + 2) * stride].reshape((kept + 2, stride))
    rows[:, :margin] = 0.0
    rows[:, margin + num_states :] = 0.0
    exponents = np.full((num_frames // _BLOCK_FRAMES + 2) * stride, NOTHING)
    total, exponent = _forward(bands, graph, num_frames, kept, room, exponents)
    if total == 0.0:
        return -np.inf
    if not total < np.inf:
        return np.nan
    if needs_occupancy and not _backward(bands, graph, num_frames, room, exponents, total, exponent, occupancy):
        return np.nan
    return math.log(total) + exponent / LOG2_E


@compiled
def _read_emissions(bands: Bands, graph: int, inputs: Inputs, utterance: int, room: Room) -> bool:
    """The probability of each state's label at each frame; False where one is out of range."""
    low, first, num_frames = bands.state_splits[graph], bands.column_splits[graph], inputs.lengths[utterance]
    num_states, num_columns = np.uint64(bands.state_splits[graph + 1] - low), bands.column_splits[graph + 1] - first
    columns, column_of_state = bands.columns[first : first + num_columns], bands.column_of_state[low:]
    # Half the states of a target read blank: its exponential is taken once.
    values, emissions = room.columns[:num_columns], room.emissions
    for frame in range(np.uint64(num_frames)):
        row, log_sum, here = inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], frame * num_states
        for column in range(np.uint64(num_columns)):
            values[column] = row[np.uint64(columns[column])] - log_sum
        if _num_outside(values) > 0:
            return False
        for column in range(np.uint64(num_columns)):
            values[column] = exponential(values[column])
        for state in range(num_states):
            emissions[here + state] = values[np.uint64(column_of_state[state])]
    return True


@compiled_reduction
def _num_outside(values: Scores) -> int:
    lowest, highest, count = values.dtype.type(_LOWEST), values.dtype.type(_HIGHEST), 0
    for column in range(len(values)):
        count += (values[column] < lowest) | (values[column] > highest)
    return count


@compiled
def _forward(bands: Bands, graph: int, num_frames: int, kept: int, room: Room, exponents: Ints) -> tuple[float, int]:
    """Fill the arrivals and each block's exponents; the total as a number and a power of two, NaN where not exact.

    Two rows after those that are kept hold the sums a block begins with and those with virtual arcs.
    """
    low, margin = bands.state_splits[graph], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - low
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
    for frame in range(num_frames + 1):
        if frame % _BLOCK_FRAMES == 0:
            # Row `frame` is the last of the block before: scale a copy, the backward pass will read the row.
            if frame > 0:
                sums[settled : settled + num_states] = sums[at : at + num_states]
            at, block = settled, frame // _BLOCK_FRAMES
            after = exponents[block * stride : (block + 1) * stride]
            if not settle(reading, virtual, True, margin, sums, at, before, after):
                return np.nan, 0
            find_factors(reading, margin, after, factors)
            find_factors(virtual, margin, after, virtual_factors)
            before[:] = after
        if len(virtual_offsets) > 0:
            for first in range(0, num_states, NUM_LANES):
                value = load_from(sums, at + first)
                for diagonal in range(len(virtual_offsets)):
                    factor = load_from(virtual_factors, diagonal * num_states + first)
                    value = multiply_add(factor, load_from(sums, at - virtual_offsets[diagonal] + first), value)
                store_from(sums, closed + first, value)
            at = closed
        if frame == num_frames:
            break
        here, place = ((frame + 1) % kept) * stride + margin, frame * num_states
        for first in range(0, num_states, NUM_LANES):
            value = spread(0.0)
            for diagonal in range(len(offsets)):
                factor = load_from(factors, diagonal * num_states + first)
                value = multiply_add(factor, load_from(sums, at - offsets[diagonal] + first), value)
            store_from(sums, here + first, multiply(value, widened(load_from(emissions, place + first))))
        at = here
    return final_sum(bands, low, sums[at : at + num_states], before[margin : margin + num_states])


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
    num_frames: int,
    room: Room,
    exponents: Ints,
    total: float,
    total_exponent: int,
    occupancy: Scores,
) -> bool:
    """Occupancies of the graph's columns at each frame; False where a frame's sum is not the total."""
    low, margin = bands.state_splits[graph], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - low
    stride = num_states + 2 * margin
    reading, virtual = plan_of(bands.reading_back, graph, num_states), plan_of(bands.virtual_back, graph, num_states)
    offsets, virtual_offsets = reading.offsets, virtual.offsets
    factors, virtual_factors = np.empty(len(offsets) * num_states), np.empty(len(virtual_offsets) * num_states)
    arrivals, emissions = room.arrivals, room.emissions
    sums, lanes = np.zeros(2 * stride), np.empty(NUM_LANES)
    rest, other = margin, stride + margin
    before, after = np.full(stride, NOTHING), np.full(stride, NOTHING)
    shares, scale = np.empty(num_states), np.empty(num_states)
    _begin_at_ends(bands, low, margin, num_states, sums, before)
    for frame in range(num_frames - 1, -1, -1):
        if frame == num_frames - 1 or (frame + 1) % _BLOCK_FRAMES == 0:
            if not settle(reading, virtual, False, margin, sums, rest, before, after):
                return False
            before[:] = after
            find_factors(reading, margin, after, factors)
            find_factors(virtual, margin, after, virtual_factors)
            _join_scales(exponents, frame // _BLOCK_FRAMES * stride, after, margin, total_exponent, scale)
        if len(virtual_offsets) > 0:
            for first in range(0, num_states, NUM_LANES):
                value = load_from(sums, rest + first)
                for diagonal in range(len(virtual_offsets)):
                    factor = load_from(virtual_factors, diagonal * num_states + first)
                    value = multiply_add(factor, load_from(sums, rest - virtual_offsets[diagonal] + first), value)
                store_from(sums, other + first, value)
            rest, other = other, rest
        arrived, place, frame_sums = (frame + 1) * stride + margin, frame * num_states, spread(0.0)
        for first in range(0, num_states, NUM_LANES):
            value = load_from(sums, rest + first)
            share = multiply(multiply(load_from(arrivals, arrived + first), value), load_from(scale, first))
            store_from(shares, first, share)
            frame_sums = add(frame_sums, share)
            store_from(sums, rest + first, multiply(value, widened(load_from(emissions, place + first))))
        store(lanes, 0, frame_sums)
        frame_total = _sum_lanes(lanes)
        if not abs(frame_total - total) <= _TOLERANCE * total:
            return False
        add_up(bands, graph, shares, 1.0 / frame_total, occupancy, frame)
        for first in range(0, num_states, NUM_LANES):
            value = spread(0.0)
            for diagonal in range(len(offsets)):
                factor = load_from(factors, diagonal * num_states + first)
                value = multiply_add(factor, load_from(sums, rest - offsets[diagonal] + first), value)
            store_from(sums, other + first, value)
        rest, other = other, rest
    return True
