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

from wfst_losses.backends.native.bands import Bands, Diagonals
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.occupancy import add_up, final_sum
from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power
from wfst_losses.compiled.lanes import NUM_LANES, add, load_from, multiply, multiply_add, spread, store, store_from

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_BLOCK_FRAMES = 12
_MAX_FALL = 80
_MAX_STEP = 80
_MAX_RAISE = 60
_NOTHING = -(2**40)
_TOLERANCE = 1e-6


class Room(NamedTuple):
    """Memory for any one of several graphs: emissions of all frames, and what arrives with them, flat."""

    emissions: Floats
    arrivals: Floats


@compiled
def room_for(bands: Bands, begin: int, end: int, inputs: Inputs, utterances: Ints, needs_occupancy: bool) -> Room:
    """Room for each of graphs ``begin..end-1``: taken anew for every graph, pages would cost as much as the sums."""
    num_emissions, num_arrivals = 0, 0
    for graph in range(begin, end):
        num_frames = inputs.lengths[utterances[graph]]
        num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
        kept = num_frames + 1 if needs_occupancy else 2
        num_emissions = max(num_emissions, num_frames * num_states)
        num_arrivals = max(num_arrivals, kept * (num_states + 2 * bands.margins[graph]))
    return Room(np.empty(num_emissions), np.empty(num_arrivals))


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
    emissions = room.emissions[: num_frames * num_states].reshape((num_frames, num_states))
    if not _read_emissions(bands, graph, inputs, utterance, emissions):
        return np.nan
    # Row t + 1 holds what arrived with frame t, a margin of zeros before and after it.
    kept, stride = num_frames + 1 if needs_occupancy else 2, num_states + 2 * margin
    alpha = room.arrivals[: kept * stride].reshape((kept, stride))
    alpha[:, :margin] = 0.0
    alpha[:, margin + num_states :] = 0.0
    exponents = np.full((num_frames // _BLOCK_FRAMES + 2, num_states), _NOTHING)
    total, exponent = _forward(bands, graph, emissions, alpha, exponents)
    if total == 0.0:
        return -np.inf
    if not total < np.inf:
        return np.nan
    if needs_occupancy and not _backward(bands, graph, emissions, alpha, exponents, total, exponent, occupancy):
        return np.nan
    return math.log(total) + exponent / LOG2_E


@compiled
def _read_emissions(bands: Bands, graph: int, inputs: Inputs, utterance: int, emissions: Floats) -> bool:
    """The probability of each state's label at each frame; False where one is out of range."""
    low = bands.state_splits[graph]
    num_frames, num_states = emissions.shape
    labels = bands.labels[low : low + num_states]
    for frame in range(num_frames):
        row, log_sum, out = inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], emissions[frame]
        for state in range(np.uint64(num_states)):
            out[state] = (row[np.uint64(labels[state])] - log_sum) * LOG2_E
        if not _in_range(out):
            return False
        for state in range(np.uint64(num_states)):
            mantissa, exponent = split_power(out[state])
            out[state] = mantissa * power_of_two(exponent)
    return True


@compiled_reduction
def _in_range(bits: Floats) -> bool:
    lowest = highest = 0.0
    for state in range(len(bits)):
        if bits[state] < lowest:  # noqa: PLR1730 (max() is compiled to calls, this to one instruction)
            lowest = bits[state]
        if bits[state] > highest:  # noqa: PLR1730
            highest = bits[state]
    return lowest >= -_MAX_FALL and highest <= 1e-3


@compiled
def _settle(
    reading: Diagonals,
    virtual: Diagonals,
    graph: int,
    onwards: bool,
    margin: int,
    row: Floats,
    before: Ints,
    after: Ints,
) -> bool:
    """Exponents for the next block into ``after``, and ``row`` scaled to them; False where one is raised too far."""
    num_states, here = len(after), np.uint64(margin)
    for state in range(np.uint64(num_states)):
        value = row[here + state]
        after[state] = before[state] + exponent_of(value) if value > 0.0 else _NOTHING
    max_step = _MAX_STEP if virtual.splits[graph] == virtual.splits[graph + 1] else _MAX_STEP // 2
    # Once all states are reached, arcs are rarely steep; looking is vectorised, raising is one state after another.
    if _is_steep(reading, graph, max_step, after) or _is_steep(virtual, graph, max_step, after):
        _raise(reading, virtual, graph, onwards, max_step, after)
    largest = 0
    for state in range(np.uint64(num_states)):
        value = row[here + state]
        raised = after[state] - before[state] - exponent_of(value)
        largest = max(largest, raised if value > 0.0 else 0)
        row[here + state] = value * power_of_two(before[state] - after[state]) if value > 0.0 else 0.0
    return largest <= _MAX_RAISE


@compiled
def _is_steep(diagonals: Diagonals, graph: int, max_step: int, exponents: Ints) -> bool:
    """Whether some arc multiplies by more than ``2^max_step``."""
    largest = 4 * _NOTHING
    for diagonal in range(diagonals.splits[graph], diagonals.splits[graph + 1]):
        weights, origin, result, _ = _aligned(diagonals, diagonal, exponents)
        for state in range(len(weights)):
            largest = max(largest, weights[state] + origin[state] - result[state])
    return largest > max_step


@compiled
def _aligned(diagonals: Diagonals, diagonal: int, exponents: Ints) -> tuple[Ints, Ints, Ints, int]:
    """A diagonal's weights beside the exponents of the states it joins, and the first state it leads to."""
    offset, num_states = diagonals.offsets[diagonal], len(exponents)
    low, high, begin = max(0, offset), num_states + min(0, offset), diagonals.begins[diagonal]
    return (
        diagonals.exponents[begin + low : begin + high],
        exponents[low - offset : high - offset],
        exponents[low:high],
        low,
    )


@compiled
def _raise(reading: Diagonals, virtual: Diagonals, graph: int, onwards: bool, max_step: int, exponents: Ints) -> None:
    """Raise exponents until no arc multiplies by more than ``2^max_step``."""
    num_states = len(exponents)
    for step in range(num_states):
        state = step if onwards else num_states - 1 - step
        exponent = exponents[state]
        for diagonals in (reading, virtual):
            for diagonal in range(diagonals.splits[graph], diagonals.splits[graph + 1]):
                other = state - diagonals.offsets[diagonal]
                if 0 <= other < num_states:
                    weight = diagonals.exponents[diagonals.begins[diagonal] + state]
                    exponent = max(exponent, exponents[other] + weight - max_step)
        exponents[state] = exponent


@compiled
def _factors(diagonals: Diagonals, graph: int, exponents: Ints, factors: Floats) -> None:
    """Weights between sums of the given exponents, a row per diagonal."""
    first = diagonals.splits[graph]
    for diagonal in range(first, diagonals.splits[graph + 1]):
        weights, origin, result, low = _aligned(diagonals, diagonal, exponents)
        begin, place = diagonals.begins[diagonal] + low, (diagonal - first) * len(exponents)
        mantissas = diagonals.mantissas[begin : begin + len(weights)]
        factors[place : place + len(exponents)] = 0.0
        row = factors[place + low : place + low + len(weights)]
        for state in range(len(weights)):
            # An absent arc's exponent is below all others.
            row[state] = mantissas[state] * power_of_two(weights[state] + origin[state] - result[state])


@compiled
def _step(
    offsets: Ints, factors: Floats, num_states: int, origin: Floats, origin_at: int, result: Floats, result_at: int
) -> None:
    """``result[s] = sum_d factor_d[s] origin[s - offset_d]`` from flat arrays, places counted from state 0."""
    for first in range(0, num_states, NUM_LANES):
        value = spread(0.0)
        for diagonal in range(len(offsets)):
            there = origin_at - offsets[diagonal] + first
            value = multiply_add(load_from(factors, diagonal * num_states + first), load_from(origin, there), value)
        store_from(result, result_at + first, value)


@compiled
def _step_and_multiply(
    offsets: Ints,
    factors: Floats,
    num_states: int,
    origin: Floats,
    origin_at: int,
    more: Floats,
    more_at: int,
    result: Floats,
    result_at: int,
) -> None:
    """`_step`, each sum times ``more[s]``."""
    for first in range(0, num_states, NUM_LANES):
        value = spread(0.0)
        for diagonal in range(len(offsets)):
            there = origin_at - offsets[diagonal] + first
            value = multiply_add(load_from(factors, diagonal * num_states + first), load_from(origin, there), value)
        store_from(result, result_at + first, multiply(value, load_from(more, more_at + first)))


@compiled
def _close(
    offsets: Ints, factors: Floats, num_states: int, origin: Floats, origin_at: int, result: Floats, margin: int
) -> None:
    """``result[s] = origin[s] + sum_d factor_d[s] origin[s - offset_d]``."""
    for first in range(0, num_states, NUM_LANES):
        value = load_from(origin, origin_at + first)
        for diagonal in range(len(offsets)):
            there = origin_at - offsets[diagonal] + first
            value = multiply_add(load_from(factors, diagonal * num_states + first), load_from(origin, there), value)
        store_from(result, margin + first, value)


@compiled
def _offsets(diagonals: Diagonals, graph: int) -> Ints:
    return diagonals.offsets[diagonals.splits[graph] : diagonals.splits[graph + 1]]


@compiled
def _forward(bands: Bands, graph: int, emissions: Floats, alpha: Floats, exponents: Ints) -> tuple[float, int]:
    """Fill ``alpha`` and each block's exponents; the total as a number and a power of two, NaN where not exact."""
    num_frames, num_states = emissions.shape
    margin, low, has_virtual = bands.margins[graph], bands.state_splits[graph], bands.virtual_depth[graph] > 0
    offsets, virtual_offsets = _offsets(bands.reading, graph), _offsets(bands.virtual, graph)
    factors, virtual_factors = np.empty(len(offsets) * num_states), np.empty(len(virtual_offsets) * num_states)
    flat, stride, shares = alpha.reshape(-1), alpha.shape[1], emissions.reshape(-1)
    settled, closed = np.zeros(stride), np.zeros(stride)
    settled[margin + bands.starts[graph]] = 1.0
    before = np.full(num_states, _NOTHING)
    before[bands.starts[graph]] = 0
    at = 0
    for frame in range(num_frames + 1):
        is_first = frame % _BLOCK_FRAMES == 0
        if is_first:
            # Row `frame` is the last of the block before: scale a copy, the backward pass will read the row.
            if frame > 0:
                settled[:] = flat[at - margin : at - margin + stride]
            after = exponents[frame // _BLOCK_FRAMES]
            if not _settle(bands.reading, bands.virtual, graph, True, margin, settled, before, after):
                return np.nan, 0
            _factors(bands.reading, graph, after, factors)
            _factors(bands.virtual, graph, after, virtual_factors)
            before[:] = after
        if has_virtual:
            if is_first:
                _close(virtual_offsets, virtual_factors, num_states, settled, margin, closed, margin)
            else:
                _close(virtual_offsets, virtual_factors, num_states, flat, at, closed, margin)
        if frame == num_frames:
            break
        place, here = frame * num_states, ((frame + 1) % len(alpha)) * stride + margin
        if has_virtual:
            _step_and_multiply(offsets, factors, num_states, closed, margin, shares, place, flat, here)
        elif is_first:
            _step_and_multiply(offsets, factors, num_states, settled, margin, shares, place, flat, here)
        else:
            _step_and_multiply(offsets, factors, num_states, flat, at, shares, place, flat, here)
        at = here
    last = closed if has_virtual else settled
    if not has_virtual and num_frames % _BLOCK_FRAMES != 0:
        last = flat[at - margin : at - margin + stride]
    return final_sum(bands, low, last[margin : margin + num_states], before)


@compiled
def _backward(
    bands: Bands,
    graph: int,
    emissions: Floats,
    alpha: Floats,
    exponents: Ints,
    total: float,
    total_exponent: int,
    occupancy: Scores,
) -> bool:
    """Occupancies of the graph's columns at each frame; False where a frame's sum is not the total."""
    num_frames, num_states = emissions.shape
    margin, low, has_virtual = bands.margins[graph], bands.state_splits[graph], bands.virtual_depth[graph] > 0
    offsets, virtual_offsets = _offsets(bands.reading_back, graph), _offsets(bands.virtual_back, graph)
    factors, virtual_factors = np.empty(len(offsets) * num_states), np.empty(len(virtual_offsets) * num_states)
    flat, stride, flat_emissions = alpha.reshape(-1), alpha.shape[1], emissions.reshape(-1)
    rest, other = np.zeros(stride), np.zeros(stride)
    before, after = np.full(num_states, _NOTHING), np.full(num_states, _NOTHING)
    shares, scale = np.empty(num_states), np.empty(num_states)
    for state in range(num_states):
        if bands.final_mantissas[low + state] > 0.0:
            rest[margin + state] = bands.final_mantissas[low + state]
            before[state] = bands.final_exponents[low + state]
    for frame in range(num_frames - 1, -1, -1):
        if frame == num_frames - 1 or (frame + 1) % _BLOCK_FRAMES == 0:
            if not _settle(bands.reading_back, bands.virtual_back, graph, False, margin, rest, before, after):
                return False
            before[:] = after
            _factors(bands.reading_back, graph, after, factors)
            _factors(bands.virtual_back, graph, after, virtual_factors)
            forward_exponents = exponents[frame // _BLOCK_FRAMES]
            for state in range(num_states):
                scale[state] = power_of_two(min(forward_exponents[state] + after[state] - total_exponent, 1000))
        if has_virtual:
            _close(virtual_offsets, virtual_factors, num_states, rest, margin, other, margin)
            rest, other = other, rest
        frame_total = _share_out(
            num_states,
            flat,
            (frame + 1) * stride + margin,
            rest,
            margin,
            flat_emissions,
            frame * num_states,
            scale,
            shares,
        )
        if not abs(frame_total - total) <= _TOLERANCE * total:
            return False
        add_up(bands, graph, shares, 1.0 / frame_total, occupancy, frame)
        _step(offsets, factors, num_states, rest, margin, other, margin)
        rest, other = other, rest
    return True


@compiled
def _share_out(
    num_states: int,
    alpha: Floats,
    alpha_at: int,
    rest: Floats,
    margin: int,
    emissions: Floats,
    emissions_at: int,
    scale: Floats,
    shares: Floats,
) -> float:
    """Unnormalised posteriors of the states at one frame and their sum; ``rest`` times the emissions."""
    total = spread(0.0)
    for first in range(0, num_states, NUM_LANES):
        value = load_from(rest, margin + first)
        share = multiply(multiply(load_from(alpha, alpha_at + first), value), load_from(scale, first))
        store_from(shares, first, share)
        total = add(total, share)
        store_from(rest, margin + first, multiply(value, load_from(emissions, emissions_at + first)))
    lanes = np.empty(NUM_LANES)
    store(lanes, 0, total)
    result = 0.0
    for lane in range(NUM_LANES):
        result += lanes[lane]
    return result
