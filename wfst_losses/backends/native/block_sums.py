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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands, Diagonals
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.occupancy import add_up, final_sum
from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_BLOCK_FRAMES = 12
_MAX_FALL = 80
_MAX_STEP = 80
_MAX_RAISE = 60
_NOTHING = -(2**40)
_TOLERANCE = 1e-6


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
def sums(bands: Bands, graph: int, inputs: Inputs, utterance: int, needs_occupancy: bool, occupancy: Scores) -> float:
    """The log-sum of one graph, and with ``needs_occupancy`` its ``(frames, columns)`` occupancies; NaN: not exact."""
    num_frames, margin = inputs.lengths[utterance], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
    emissions = np.empty((num_frames, num_states))
    if not _read_emissions(bands, graph, inputs, utterance, emissions):
        return np.nan
    # Row t + 1 holds what arrived with frame t, a margin of zeros before and after it.
    kept = num_frames + 1 if needs_occupancy else 2
    alpha = np.zeros((kept, num_states + 2 * margin))
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
        begin = diagonals.begins[diagonal] + low
        mantissas = diagonals.mantissas[begin : begin + len(weights)]
        factors[diagonal - first] = 0.0
        row = factors[diagonal - first, low : low + len(weights)]
        for state in range(len(weights)):
            # An absent arc's exponent is below all others.
            row[state] = mantissas[state] * power_of_two(weights[state] + origin[state] - result[state])


@compiled
def _step(
    diagonals: Diagonals,
    graph: int,
    factors: Floats,
    margin: int,
    num_states: int,
    origin: Floats,
    result: Floats,
    keep: bool,
) -> None:
    """``result[s] = sum_d factor_d[s] origin[s - offset_d]``, beside what is there with ``keep``."""
    first, here = diagonals.splits[graph], np.uint64(margin)
    if not keep and first == diagonals.splits[graph + 1]:
        result[:] = 0.0
    for diagonal in range(first, diagonals.splits[graph + 1]):
        there, factor = np.uint64(margin - diagonals.offsets[diagonal]), factors[diagonal - first]
        if keep or diagonal > first:
            for state in range(np.uint64(num_states)):
                result[here + state] += factor[state] * origin[there + state]
        else:
            for state in range(np.uint64(num_states)):
                result[here + state] = factor[state] * origin[there + state]


@compiled
def _num_diagonals(diagonals: Diagonals, graph: int) -> int:
    return int(diagonals.splits[graph + 1] - diagonals.splits[graph])


@compiled
def _forward(bands: Bands, graph: int, emissions: Floats, alpha: Floats, exponents: Ints) -> tuple[float, int]:
    """Fill ``alpha`` and each block's exponents; the total as a number and a power of two, NaN where not exact."""
    num_frames, num_states = emissions.shape
    margin, low, has_virtual = bands.margins[graph], bands.state_splits[graph], bands.virtual_depth[graph] > 0
    factors = np.empty((_num_diagonals(bands.reading, graph), num_states))
    virtual_factors = np.empty((_num_diagonals(bands.virtual, graph), num_states))
    here = np.uint64(margin)
    settled, closed = np.zeros(alpha.shape[1]), np.zeros(alpha.shape[1])
    current = settled
    current[margin + bands.starts[graph]] = 1.0
    before = np.full(num_states, _NOTHING)
    before[bands.starts[graph]] = 0
    after = exponents[0]
    for frame in range(num_frames + 1):
        block = frame // _BLOCK_FRAMES
        if frame % _BLOCK_FRAMES == 0:
            # Row `frame` is the last of the block before: scale a copy, the backward pass will read the row.
            settled[:] = current
            current = settled
            after = exponents[block]
            if not _settle(bands.reading, bands.virtual, graph, True, margin, current, before, after):
                return np.nan, 0
            _factors(bands.reading, graph, after, factors)
            _factors(bands.virtual, graph, after, virtual_factors)
            before = after
        if has_virtual:
            closed[:] = current
            _step(bands.virtual, graph, virtual_factors, margin, num_states, current, closed, True)
            current = closed
        if frame == num_frames:
            break
        row = alpha[(frame + 1) % len(alpha)]
        _step(bands.reading, graph, factors, margin, num_states, current, row, False)
        emission = emissions[frame]
        for state in range(np.uint64(num_states)):
            row[here + state] *= emission[state]
        current = row
    return final_sum(bands, low, current[margin : margin + num_states], before)


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
    factors = np.empty((_num_diagonals(bands.reading_back, graph), num_states))
    virtual_factors = np.empty((_num_diagonals(bands.virtual_back, graph), num_states))
    here = np.uint64(margin)
    rest, other = np.zeros(alpha.shape[1]), np.zeros(alpha.shape[1])
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
            other[:] = rest
            _step(bands.virtual_back, graph, virtual_factors, margin, num_states, rest, other, True)
            rest, other = other, rest
        row = alpha[frame + 1]
        frame_total = 0.0
        for state in range(np.uint64(num_states)):
            shares[state] = row[here + state] * rest[here + state] * scale[state]
            frame_total += shares[state]
        if not abs(frame_total - total) <= _TOLERANCE * total:
            return False
        add_up(bands, graph, shares, 1.0 / frame_total, occupancy[frame])
        emission = emissions[frame]
        for state in range(np.uint64(num_states)):
            rest[here + state] *= emission[state]
        _step(bands.reading_back, graph, factors, margin, num_states, rest, other, False)
        rest, other = other, rest
    return True
