"""Forward and backward over bands, each state's sum held as a float64 mantissa and a power of two of its own.

A target's states differ by thousands of nats within one frame, and with confidently wrong outputs the ones that
matter in the end are far below the others: one scale per frame underflows without a word. Here each sum aligns the
terms that enter it to the largest of them, so that only terms 2^-1000 below another term of the same sum vanish.
There are no exponentials but those of the emissions, and no logarithms but the last.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands, Diagonals
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two, split_power
from wfst_losses.compiled.rows import write_softmax

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[Any]
Sums: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


class Inputs(NamedTuple):
    """What a network gave: scores ``(B, T, V)``, what to subtract from each row ``(B, T)``, frames ``(B,)``."""

    scores: Scores
    log_sums: Scores
    lengths: Ints


class Arrivals(NamedTuple):
    """Forward sums kept for the backward pass, after each frame and before its virtual arcs.

    ``begins[g]`` is where graph g's ``(frames, states)`` block begins, or -1: nothing is kept.
    """

    begins: Ints
    mantissas: Floats
    exponents: npt.NDArray[np.int32]


_NOTHING = -(2**50)
_IMPOSSIBLE = -(2**40)
_FRAMES_BETWEEN_NORMALISATIONS = 32


@compiled
def _read_emissions(row: Scores, log_sum: float, labels: Ints, mantissas: Floats, exponents: Ints) -> None:
    """``exp(row[label] - log_sum)`` of each state's label, split."""
    for state in range(len(labels)):
        mantissas[state] = (row[labels[state]] - log_sum) * LOG2_E
    for state in range(len(labels)):
        y = mantissas[state]
        mantissa, exponent = split_power(max(y, -1e9))
        mantissas[state] = mantissa if y >= -1e9 else 0.0
        exponents[state] = exponent if y >= -1e9 else _IMPOSSIBLE


@compiled
def _enter(
    diagonals: Diagonals,
    graph: int,
    num_states: int,
    sign: int,
    origin: Sums,
    result: Sums,
    keep: bool,
) -> None:
    """For each state the aligned sum of what its diagonals bring, added to what is there with ``keep``.

    ``sign`` 1 follows arcs forwards (weights stand at the destination), -1 backwards.
    """
    mantissas, exponents = result
    if not keep:
        exponents[:] = 2 * _NOTHING
        mantissas[:] = 0.0
    peaks = exponents.copy()
    for diagonal in range(diagonals.splits[graph], diagonals.splits[graph + 1]):
        weights, _, origin_exponents, _, reached = _aligned(diagonals, diagonal, num_states, sign, origin)
        peaks_here = peaks[reached : reached + len(weights)]
        for state in range(len(weights)):
            peaks_here[state] = max(peaks_here[state], origin_exponents[state] + weights[state])
    for state in range(num_states):
        mantissas[state] *= power_of_two(exponents[state] - peaks[state])
        exponents[state] = peaks[state]
    for diagonal in range(diagonals.splits[graph], diagonals.splits[graph + 1]):
        weights, factors, origin_exponents, origin_mantissas, reached = _aligned(
            diagonals, diagonal, num_states, sign, origin
        )
        peaks_here, mantissas_here = (
            peaks[reached : reached + len(weights)],
            mantissas[reached : reached + len(weights)],
        )
        for state in range(len(weights)):
            aligned = power_of_two(origin_exponents[state] + weights[state] - peaks_here[state])
            mantissas_here[state] += origin_mantissas[state] * factors[state] * aligned


@compiled
def _aligned(
    diagonals: Diagonals, diagonal: int, num_states: int, sign: int, origin: Sums
) -> tuple[Ints, Floats, Ints, Floats, int]:
    """One diagonal's weights beside the sums they apply to, and the first state they lead to.

    Slices, because an index that runs from 0 needs no test for being negative: only then do loops vectorise.
    """
    offset, row = diagonals.offsets[diagonal], diagonals.begins[diagonal]
    low, high = max(0, offset), min(num_states, num_states + offset)
    # Arcs lead from low-offset..high-offset-1 to low..high-1; backwards it is the sources that are reached.
    reached, left = (low, low - offset) if sign > 0 else (low - offset, low)
    return (
        diagonals.exponents[row + low : row + high],
        diagonals.mantissas[row + low : row + high],
        origin[1][left : left + high - low],
        origin[0][left : left + high - low],
        reached,
    )


@compiled
def _normalise(mantissas: Floats, exponents: Ints) -> None:
    for state in range(len(mantissas)):
        excess = exponent_of(mantissas[state]) if mantissas[state] > 0.0 else 0
        mantissas[state] *= power_of_two(-excess)
        exponents[state] += excess


@compiled
def _close(bands: Bands, graph: int, num_states: int, sign: int, sums: Sums, spare: Sums) -> None:
    """Add virtual arcs: ``sums = base + virtual(sums)``, as often as virtual arcs come in a row."""
    if bands.virtual_depth[graph] == 0:
        return
    base_mantissas, base_exponents = sums[0].copy(), sums[1].copy()
    for _ in range(bands.virtual_depth[graph]):
        spare[0][:], spare[1][:] = sums[0], sums[1]
        sums[0][:], sums[1][:] = base_mantissas, base_exponents
        _enter(bands.virtual, graph, num_states, sign, spare, sums, True)


@compiled
def _workspace(size: int) -> Sums:
    return np.zeros(size, np.float64), np.full(size, _NOTHING, np.int64)


@compiled
def forward(
    begin: int, end: int, bands: Bands, inputs: Inputs, utterances: Ints, arrivals: Arrivals, totals: Floats
) -> None:
    """Into ``totals[g]`` the log-sum of graphs ``begin..end-1``, each reading one of ``utterances``."""
    for graph in range(begin, end):
        low = bands.state_splits[graph]
        num_states = bands.state_splits[graph + 1] - low
        labels = bands.labels[low : low + num_states]
        current, following, spare = _workspace(num_states), _workspace(num_states), _workspace(num_states)
        emission = _workspace(num_states)
        current[0][bands.starts[graph]] = 1.0
        current[1][bands.starts[graph]] = 0
        _close(bands, graph, num_states, 1, current, spare)
        utterance = utterances[graph]
        place = arrivals.begins[graph]
        for frame in range(inputs.lengths[utterance]):
            _read_emissions(
                inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emission[0], emission[1]
            )
            _enter(bands.reading, graph, num_states, 1, current, following, False)
            for state in range(num_states):
                following[0][state] *= emission[0][state]
                following[1][state] += emission[1][state]
            if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
                _normalise(following[0], following[1])
            if place >= 0:
                for state in range(num_states):
                    arrivals.mantissas[place + state] = following[0][state]
                    arrivals.exponents[place + state] = max(following[1][state], -(2**31))
                place += num_states
            _close(bands, graph, num_states, 1, following, spare)
            current, following = following, current
        totals[graph] = _log_total(bands, low, num_states, current)


@compiled
def _log_total(bands: Bands, low: int, num_states: int, sums: Sums) -> float:
    peak = _NOTHING * 4
    for state in range(num_states):
        if sums[0][state] > 0.0 and bands.final_mantissas[low + state] > 0.0:
            peak = max(peak, sums[1][state] + bands.final_exponents[low + state])
    total = 0.0
    for state in range(num_states):
        product = sums[0][state] * bands.final_mantissas[low + state]
        if product > 0.0:
            total += product * power_of_two(sums[1][state] + bands.final_exponents[low + state] - peak)
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
            if is_logits and total != 0.0 and frame < inputs.lengths[utterance]:
                write_softmax(
                    inputs.scores[utterance, frame],
                    inputs.log_sums[utterance, frame],
                    -total,
                    gradient[utterance, frame],
                )
            else:
                gradient[utterance, frame, :] = 0.0
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
    low = bands.state_splits[graph]
    num_states = bands.state_splits[graph + 1] - low
    labels = bands.labels[low : low + num_states]
    rest, before, spare = _workspace(num_states), _workspace(num_states), _workspace(num_states)
    emission = _workspace(num_states)
    share, share_exponents = _workspace(num_states)
    for state in range(num_states):
        rest[0][state] = bands.final_mantissas[low + state]
        rest[1][state] = max(bands.final_exponents[low + state], _NOTHING)
    _close(bands, graph, num_states, -1, rest, spare)
    for frame in range(inputs.lengths[utterance] - 1, -1, -1):
        place = arrivals.begins[graph] + frame * num_states
        peak = _NOTHING * 4
        for state in range(num_states):
            share[state] = arrivals.mantissas[place + state] * rest[0][state]
            share_exponents[state] = arrivals.exponents[place + state] + rest[1][state]
            peak = max(peak, share_exponents[state] if share[state] > 0.0 else peak)
        total = 0.0
        for state in range(num_states):
            share[state] *= power_of_two(share_exponents[state] - peak)
            total += share[state]
        factor = coefficient / total
        for state in range(num_states):
            gradient[frame, labels[state]] += factor * share[state]
        _read_emissions(
            inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], labels, emission[0], emission[1]
        )
        for state in range(num_states):
            rest[0][state] *= emission[0][state]
            rest[1][state] += emission[1][state]
        _enter(bands.reading, graph, num_states, -1, rest, before, False)
        if frame % _FRAMES_BETWEEN_NORMALISATIONS == 0:
            _normalise(before[0], before[1])
        _close(bands, graph, num_states, -1, before, spare)
        rest, before = before, rest
