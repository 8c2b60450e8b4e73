"""Forward and backward over bands, each state's sum held as a float64 mantissa and a power of two of its own.

A target's states differ by thousands of nats within one frame, and with confidently wrong outputs the ones that
matter in the end are far below the others: one scale per frame underflows without a word. Here each sum aligns the
terms that enter it to the largest of them, so that only terms 2^-1000 below another term of the same sum vanish.
There are no exponentials but those of the emissions, and no logarithms but the last.

Indices are unsigned: a signed one is tested for being negative at every access, and such loops do not vectorise.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands, Diagonals
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.backends.native.occupancy import add_up, final_sum
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


class Work(NamedTuple):
    """Sums of one graph's states, with a margin on either side that holds nothing; and room for emissions."""

    mantissas: Floats
    exponents: Ints


_LEAST_BITS = -(2.0**35)
"""Powers of two below this are 0: log-probs below -2.4e10 nats are impossible. Masks of -1e9 are not."""
_NOTHING, _IMPOSSIBLE = -(2**54), -(2**55)
"""Exponents of zeros, below what 2^18 frames can reach: what stands at the largest exponent is what others align to."""
_FRAMES_BETWEEN_NORMALISATIONS = 32


@compiled_inline
def _work(num_states: int, margin: int) -> Work:
    size = num_states + 2 * margin
    return Work(np.zeros(size, np.float64), np.full(size, _NOTHING, np.int64))


@compiled
def _read_emissions(row: Scores, log_sum: float, labels: Ints, out: Work) -> None:
    """``exp(row[label] - log_sum)`` of each state's label, split."""
    for state in range(np.uint64(len(labels))):
        out.mantissas[state] = (row[np.uint64(labels[state])] - log_sum) * LOG2_E
    for state in range(np.uint64(len(labels))):
        y = out.mantissas[state]
        mantissa, exponent = split_power(max(y, _LEAST_BITS))
        out.mantissas[state] = mantissa if y >= _LEAST_BITS else 0.0
        out.exponents[state] = exponent if y >= _LEAST_BITS else _IMPOSSIBLE


@compiled
def _follow(diagonals: Diagonals, graph: int, num_states: int, margin: int, origin: Work, result: Work) -> None:
    """``result[s] = result[s] + sum_d weight_d[s] origin[s - offset_d]``, terms aligned to the largest."""
    count, here = np.uint64(num_states), np.uint64(margin)
    begin, end = diagonals.splits[graph], diagonals.splits[graph + 1]
    factors, weights = diagonals.mantissas, diagonals.exponents
    peaks = np.empty(num_states, np.int64)
    for state in range(count):
        peaks[state] = result.exponents[here + state]
    for diagonal in range(begin, end):
        there, row = np.uint64(margin - diagonals.offsets[diagonal]), np.uint64(diagonals.begins[diagonal])
        for state in range(count):
            peaks[state] = max(peaks[state], origin.exponents[there + state] + weights[row + state])
    for state in range(count):
        result.mantissas[here + state] *= power_of_two(result.exponents[here + state] - peaks[state])
        result.exponents[here + state] = peaks[state]
    for diagonal in range(begin, end):
        there, row = np.uint64(margin - diagonals.offsets[diagonal]), np.uint64(diagonals.begins[diagonal])
        for state in range(count):
            aligned = power_of_two(origin.exponents[there + state] + weights[row + state] - peaks[state])
            result.mantissas[here + state] += origin.mantissas[there + state] * factors[row + state] * aligned


@compiled
def _clear(num_states: int, margin: int, sums: Work) -> None:
    sums.mantissas[margin : margin + num_states] = 0.0
    sums.exponents[margin : margin + num_states] = 2 * _NOTHING


@compiled
def _normalise(num_states: int, margin: int, sums: Work) -> None:
    for state in range(np.uint64(margin), np.uint64(margin + num_states)):
        excess = exponent_of(sums.mantissas[state]) if sums.mantissas[state] > 0.0 else 0
        sums.mantissas[state] *= power_of_two(-excess)
        sums.exponents[state] += excess


@compiled
def _close(virtual: Diagonals, depth: int, graph: int, num_states: int, margin: int, sums: Work) -> None:
    """Add virtual arcs: ``sums = base + virtual(sums)``, as often as virtual arcs come in a row."""
    if depth == 0:
        return
    base = Work(sums.mantissas.copy(), sums.exponents.copy())
    last = Work(sums.mantissas.copy(), sums.exponents.copy())
    for _ in range(depth):
        last.mantissas[:], last.exponents[:] = sums.mantissas, sums.exponents
        sums.mantissas[:], sums.exponents[:] = base.mantissas, base.exponents
        _follow(virtual, graph, num_states, margin, last, sums)


@compiled
def _multiply(num_states: int, margin: int, sums: Work, emissions: Work) -> None:
    here = np.uint64(margin)
    for state in range(np.uint64(num_states)):
        sums.mantissas[here + state] *= emissions.mantissas[state]
        sums.exponents[here + state] += emissions.exponents[state]


@compiled
def sums(bands: Bands, graph: int, inputs: Inputs, utterance: int, needs_occupancy: bool, occupancy: Scores) -> float:
    """The log-sum of one graph, and with ``needs_occupancy`` its ``(frames, columns)`` occupancies."""
    num_frames = inputs.lengths[utterance]
    num_states = bands.state_splits[graph + 1] - bands.state_splits[graph]
    arrivals = Work(
        np.empty(num_frames * num_states * needs_occupancy),
        np.empty(num_frames * num_states * needs_occupancy, np.int64),
    )
    total = _forward(bands, graph, inputs, utterance, needs_occupancy, arrivals)
    if needs_occupancy and total > -np.inf:
        _backward(bands, graph, inputs, utterance, arrivals, occupancy)
    return total


@compiled
def _forward(bands: Bands, graph: int, inputs: Inputs, utterance: int, keep: bool, arrivals: Work) -> float:
    """The log-sum; with ``keep`` each frame's arrivals, before virtual arcs."""
    low, margin, depth = bands.state_splits[graph], bands.margins[graph], bands.virtual_depth[graph]
    num_states = bands.state_splits[graph + 1] - low
    labels = bands.labels[low : low + num_states]
    current, following, emissions = _work(num_states, margin), _work(num_states, margin), _work(num_states, 0)
    current.mantissas[margin + bands.starts[graph]] = 1.0
    current.exponents[margin + bands.starts[graph]] = 0
    _close(bands.virtual, depth, graph, num_states, margin, current)
    for frame in range(inputs.lengths[utterance]):
        _read_emissions(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emissions)
        _clear(num_states, margin, following)
        _follow(bands.reading, graph, num_states, margin, current, following)
        _multiply(num_states, margin, following, emissions)
        if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
            _normalise(num_states, margin, following)
        if keep:
            place = frame * num_states
            arrivals.mantissas[place : place + num_states] = following.mantissas[margin : margin + num_states]
            arrivals.exponents[place : place + num_states] = following.exponents[margin : margin + num_states]
        _close(bands.virtual, depth, graph, num_states, margin, following)
        current, following = following, current
    here = slice(margin, margin + num_states)
    total, peak = final_sum(bands, low, current.mantissas[here], current.exponents[here])
    return (math.log(total) + peak / LOG2_E) if total > 0.0 else -np.inf


@compiled
def _backward(bands: Bands, graph: int, inputs: Inputs, utterance: int, arrivals: Work, occupancy: Scores) -> None:
    """Occupancies of the graph's columns at each frame."""
    low, margin, depth = bands.state_splits[graph], bands.margins[graph], bands.virtual_depth[graph]
    num_states = bands.state_splits[graph + 1] - low
    labels = bands.labels[low : low + num_states]
    rest, before, emissions = _work(num_states, margin), _work(num_states, margin), _work(num_states, 0)
    rest.mantissas[margin : margin + num_states] = bands.final_mantissas[low : low + num_states]
    rest.exponents[margin : margin + num_states] = bands.final_exponents[low : low + num_states]
    _close(bands.virtual_back, depth, graph, num_states, margin, rest)
    shares = np.empty(num_states, np.float64)
    for frame in range(inputs.lengths[utterance] - 1, -1, -1):
        total = _share_out(num_states, margin, rest, arrivals, frame * num_states, shares)
        add_up(bands, graph, shares, 1.0 / total, occupancy, frame)
        _read_emissions(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emissions)
        _multiply(num_states, margin, rest, emissions)
        _clear(num_states, margin, before)
        _follow(bands.reading_back, graph, num_states, margin, rest, before)
        if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
            _normalise(num_states, margin, before)
        _close(bands.virtual_back, depth, graph, num_states, margin, before)
        rest, before = before, rest


@compiled
def _share_out(num_states: int, margin: int, rest: Work, arrivals: Work, place: int, shares: Floats) -> float:
    """Unnormalised posteriors of the states at one frame; returns their sum."""
    here, there = np.uint64(margin), np.uint64(place)
    peak = 4 * _NOTHING
    for state in range(np.uint64(num_states)):
        shares[state] = arrivals.mantissas[there + state] * rest.mantissas[here + state]
        exponent = arrivals.exponents[there + state] + rest.exponents[here + state]
        peak = max(peak, exponent if shares[state] > 0.0 else 4 * _NOTHING)
    total = 0.0
    for state in range(np.uint64(num_states)):
        exponent = arrivals.exponents[there + state] + rest.exponents[here + state]
        shares[state] *= power_of_two(exponent - peak)
        total += shares[state]
    return total
