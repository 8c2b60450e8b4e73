"""Forward and backward over bands, each state's sum held as a float64 mantissa and a power of two of its own.

A target's states differ by thousands of nats within one frame, and with confidently wrong outputs the ones that
matter in the end are far below the others: one scale per frame underflows without a word. Here each sum aligns the
terms that enter it to the largest of them, so that only terms 2^-1000 below another term of the same sum vanish.
There are no exponentials but those of the emissions, and no logarithms but the last.

Indices are unsigned: a signed one is tested for being negative at every access, and such loops do not vectorise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands, Diagonals
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power
from wfst_losses.compiled.rows import write_softmax

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[Any]


class Inputs(NamedTuple):
    """What a network gave: scores ``(B, T, V)``, what to subtract from each row ``(B, T)``, frames ``(B,)``."""

    scores: Scores
    log_sums: Scores
    lengths: Ints


class Arrivals(NamedTuple):
    """Forward sums kept for the backward pass, after each frame and before its virtual arcs.

    ``begins[g]`` is where graph g's ``(frames, states)`` block begins, or -1: nothing is kept. Mantissas have the
    precision of the emissions.
    """

    begins: Ints
    mantissas: Scores
    exponents: npt.NDArray[np.int32]


class Work(NamedTuple):
    """Sums of one graph's states, with a margin on either side that holds nothing; and room for emissions."""

    mantissas: Floats
    exponents: Ints


_NOTHING = -(2**50)
_IMPOSSIBLE = -(2**40)
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
        mantissa, exponent = split_power(max(y, -1e9))
        out.mantissas[state] = mantissa if y >= -1e9 else 0.0
        out.exponents[state] = exponent if y >= -1e9 else _IMPOSSIBLE


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
def _keep(num_states: int, margin: int, sums: Work, arrivals: Arrivals, place: int) -> None:
    here, there = np.uint64(margin), np.uint64(place)
    for state in range(np.uint64(num_states)):
        arrivals.mantissas[there + state] = sums.mantissas[here + state]
        arrivals.exponents[there + state] = np.int32(max(sums.exponents[here + state], -(2**31)))


@compiled
def _multiply(num_states: int, margin: int, sums: Work, emissions: Work) -> None:
    here = np.uint64(margin)
    for state in range(np.uint64(num_states)):
        sums.mantissas[here + state] *= emissions.mantissas[state]
        sums.exponents[here + state] += emissions.exponents[state]


@compiled
def forward(
    begin: int, end: int, bands: Bands, inputs: Inputs, utterances: Ints, arrivals: Arrivals, totals: Floats
) -> None:
    """Into ``totals[g]`` the log-sum of graphs ``begin..end-1``, each reading one of ``utterances``."""
    for graph in range(begin, end):
        low, utterance, margin = bands.state_splits[graph], utterances[graph], bands.margins[graph]
        num_states = bands.state_splits[graph + 1] - low
        labels, depth = bands.labels[low : low + num_states], bands.virtual_depth[graph]
        current, following, emissions = _work(num_states, margin), _work(num_states, margin), _work(num_states, 0)
        current.mantissas[margin + bands.starts[graph]] = 1.0
        current.exponents[margin + bands.starts[graph]] = 0
        _close(bands.virtual, depth, graph, num_states, margin, current)
        place = arrivals.begins[graph]
        for frame in range(inputs.lengths[utterance]):
            _read_emissions(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emissions)
            _clear(num_states, margin, following)
            _follow(bands.reading, graph, num_states, margin, current, following)
            _multiply(num_states, margin, following, emissions)
            if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
                _normalise(num_states, margin, following)
            if place >= 0:
                _keep(num_states, margin, following, arrivals, place)
                place += num_states
            _close(bands.virtual, depth, graph, num_states, margin, following)
            current, following = following, current
        totals[graph] = _log_total(bands, low, num_states, margin, current)


@compiled
def _log_total(bands: Bands, low: int, num_states: int, margin: int, sums: Work) -> float:
    peak = 4 * _NOTHING
    for state in range(num_states):
        if sums.mantissas[margin + state] * bands.final_mantissas[low + state] > 0.0:
            peak = max(peak, sums.exponents[margin + state] + bands.final_exponents[low + state])
    total = 0.0
    for state in range(num_states):
        product = sums.mantissas[margin + state] * bands.final_mantissas[low + state]
        if product > 0.0:
            total += product * power_of_two(sums.exponents[margin + state] + bands.final_exponents[low + state] - peak)
    return (math.log(total) + peak / LOG2_E) if total > 0.0 else -np.inf


@compiled
def backward(
    begin: int,
    end: int,
    bands: Bands,
    inputs: Inputs,
    graph_splits: Ints,
    arrivals: Arrivals,
    coefficients: Floats,
    is_logits: bool,
    gradient: Scores,
) -> None:
    """The whole ``gradient[b]`` of utterances ``begin..end-1``: ``sum_g coefficient_g (occupancy_g - softmax)``.

    Graphs of utterance b are ``graph_splits[b]..graph_splits[b + 1] - 1``; the softmax is there for logits only.
    """
    for utterance in range(begin, end):
        total = 0.0
        for graph in range(graph_splits[utterance], graph_splits[utterance + 1]):
            total += coefficients[graph]
        for frame in range(inputs.scores.shape[1]):
            row = gradient[utterance, frame]
            if is_logits and total != 0.0 and frame < inputs.lengths[utterance]:
                write_softmax(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], -total, row)
            else:
                row[:] = 0.0
        for graph in range(graph_splits[utterance], graph_splits[utterance + 1]):
            if coefficients[graph] != 0.0:
                _add_occupancy(graph, utterance, bands, inputs, arrivals, coefficients[graph], gradient[utterance])


@compiled
def _add_occupancy(
    graph: int,
    utterance: int,
    bands: Bands,
    inputs: Inputs,
    arrivals: Arrivals,
    coefficient: float,
    gradient: Scores,
) -> None:
    """``gradient[t, label] += coefficient * posterior`` of each label at each frame."""
    low, margin = bands.state_splits[graph], bands.margins[graph]
    num_states = bands.state_splits[graph + 1] - low
    labels, depth = bands.labels[low : low + num_states], bands.virtual_depth[graph]
    rest, before, emissions = _work(num_states, margin), _work(num_states, margin), _work(num_states, 0)
    rest.mantissas[margin : margin + num_states] = bands.final_mantissas[low : low + num_states]
    rest.exponents[margin : margin + num_states] = bands.final_exponents[low : low + num_states]
    _close(bands.virtual_back, depth, graph, num_states, margin, rest)
    shares = np.empty(num_states, np.float64)
    for frame in range(inputs.lengths[utterance] - 1, -1, -1):
        place = arrivals.begins[graph] + frame * num_states
        factor = coefficient / _share_out(num_states, margin, rest, arrivals, place, shares)
        for state in range(np.uint64(num_states)):
            gradient[frame, labels[state]] += factor * shares[state]
        _read_emissions(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emissions)
        _multiply(num_states, margin, rest, emissions)
        _clear(num_states, margin, before)
        _follow(bands.reading_back, graph, num_states, margin, rest, before)
        if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
            _normalise(num_states, margin, before)
        _close(bands.virtual_back, depth, graph, num_states, margin, before)
        rest, before = before, rest


@compiled
def _share_out(num_states: int, margin: int, rest: Work, arrivals: Arrivals, place: int, shares: Floats) -> float:
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
