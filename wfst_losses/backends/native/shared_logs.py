"""Forward and backward over one graph in logarithms, an utterance at a time: slow, and right wherever float64 is.

What `shared_lanes` falls back on. Each frame's largest sum is taken out, so that logarithms keep their digits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.native.shared_rows import Arcs, SharedRows
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.floats import exp64

Floats: TypeAlias = npt.NDArray[Any]


class LogWeights(NamedTuple):
    """Scores of arcs as they enter and as they leave, and of final states, nats."""

    entering: Floats
    leaving: Floats
    final: Floats


class ArcOccupancies(NamedTuple):
    """Occupancies of arcs (as they enter) and of final states; ``is_wanted`` tells whether to sum them."""

    is_wanted: bool
    arcs: Floats
    finals: Floats


@compiled_inline
def _sum_row(arcs: Arcs, scores: Floats, state: int, table: Floats, more: float) -> float:
    """The log-sum of ``table`` over a state's arcs, and of ``more``."""
    begin, end = arcs.splits[state], arcs.splits[state + 1]
    peak = more
    for arc in range(begin, end):
        peak = max(peak, scores[arc] + table[arcs.places[arc]])
    if not -np.inf < peak < np.inf:
        return peak
    total = exp64(more - peak)
    for arc in range(begin, end):
        total += exp64(scores[arc] + table[arcs.places[arc]] - peak)
    return peak + math.log(total)


@compiled
def _forward(
    rows: SharedRows, weights: LogWeights, inputs: Inputs, utterance: int, begin: int, end: int, sums: Floats
) -> float:
    """Frames ``begin..end-1``: row ``i`` of ``sums`` is before frame ``begin + i``; what was taken out of all."""
    num_reading, offset = rows.column_splits[-1], 0.0
    for frame in range(begin, end):
        before, after = sums[(frame - begin) % len(sums)], sums[(frame - begin + 1) % len(sums)]
        log_sum, peak = inputs.log_sums[utterance, frame], -np.inf
        for column in range(len(rows.columns)):
            emission = np.float64(inputs.scores[utterance, frame, rows.columns[column]]) - log_sum
            for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
                after[state] = emission + _sum_row(rows.entering, weights.entering, state, before, -np.inf)
                peak = max(peak, after[state])
        if peak > -np.inf:
            after[:num_reading] -= peak
            offset += peak
        for state in range(num_reading, len(rows.origin)):
            after[state] = _sum_row(rows.entering, weights.entering, state, after, -np.inf)
    return offset


@compiled
def _begin(rows: SharedRows, weights: LogWeights, sums: Floats) -> None:
    sums[:] = -np.inf
    sums[rows.start] = 0.0
    for state in range(rows.column_splits[-1], len(rows.origin)):
        sums[state] = _sum_row(rows.entering, weights.entering, state, sums, 0.0 if state == rows.start else -np.inf)


@compiled
def _final_sum(weights: LogWeights, sums: Floats) -> float:
    peak, total = np.max(sums + weights.final), 0.0
    if not -np.inf < peak < np.inf:
        return float(peak)
    for state in range(len(sums)):
        total += exp64(sums[state] + weights.final[state] - peak)
    return float(peak + math.log(total))


@compiled
def _retreat(rows: SharedRows, weights: LogWeights, is_end: bool, ahead: Floats, rest: Floats) -> None:
    """Backward sums of all states from what lies ahead: virtual ones into ``ahead`` itself, all into ``rest``."""
    for state in range(len(rows.origin) - 1, -1, -1):
        final = weights.final[state] if is_end else -np.inf
        rest[state] = _sum_row(rows.leaving, weights.leaving, state, ahead, final)
        if state >= rows.column_splits[-1]:
            ahead[state] = rest[state]


@compiled
def _share_out(rows: SharedRows, here: Floats, rest: Floats, shares: Floats) -> float:
    """Occupancies of the columns; returns the frame's log-sum."""
    peak, total = -np.inf, 0.0
    for state in range(rows.column_splits[-1]):
        peak = max(peak, here[state] + rest[state])
    for column in range(len(rows.columns)):
        share = 0.0
        for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
            share += exp64(here[state] + rest[state] - peak)
        shares[column] = share
        total += share
    shares /= total
    return float(peak + math.log(total))


@compiled
def _add_arcs(
    rows: SharedRows,
    weights: LogWeights,
    is_end: bool,
    here: Floats,
    ahead: Floats,
    total: float,
    occupancies: ArcOccupancies,
) -> None:
    entering = rows.entering
    for state in range(len(rows.origin)):
        for arc in range(entering.splits[state], entering.splits[state + 1]):
            score = here[entering.places[arc]] + weights.entering[arc] + ahead[state] - total
            occupancies.arcs[arc] += exp64(min(score, 0.0))
        if is_end:
            occupancies.finals[state] += exp64(min(here[state] + weights.final[state] - total, 0.0))


@compiled
def sums(
    rows: SharedRows,
    weights: LogWeights,
    inputs: Inputs,
    utterance: int,
    block: int,
    needs_occupancy: bool,
    arc_occupancies: ArcOccupancies,
    occupancy: Floats,
) -> float:
    """The log-sum of one utterance, nats, and its ``(T, V)`` occupancies."""
    num_frames, size = inputs.lengths[utterance], len(rows.origin)
    num_blocks = max(1, -(-num_frames // block)) if needs_occupancy else 1
    checkpoints = np.empty((num_blocks, size))
    kept = np.empty((min(block, num_frames) + 1 if needs_occupancy else 2, size))
    _begin(rows, weights, kept[0])
    total = 0.0
    for index in range(num_blocks):
        begin, end = index * block, min(num_frames, (index + 1) * block) if needs_occupancy else num_frames
        checkpoints[index] = kept[0]
        total += _forward(rows, weights, inputs, utterance, begin, end, kept)
        if index < num_blocks - 1:
            kept[0] = kept[end - begin]
    total += _final_sum(weights, kept[(end - begin) % len(kept)])
    if not needs_occupancy or total == -np.inf:
        return total
    ahead, rest, shares = np.full(size, -np.inf), np.empty(size), np.empty(len(rows.columns))
    for index in range(num_blocks - 1, -1, -1):
        begin, end = index * block, min(num_frames, (index + 1) * block)
        if index < num_blocks - 1:
            kept[0] = checkpoints[index]
            _forward(rows, weights, inputs, utterance, begin, end, kept)
        for frame in range(end - 1, begin - 1, -1):
            is_end, here = frame + 1 == num_frames, kept[frame - begin + 1]
            _retreat(rows, weights, is_end, ahead, rest)
            frame_sum = _share_out(rows, here, rest, shares)
            for column in range(len(rows.columns)):
                occupancy[frame, rows.columns[column]] = shares[column]
            if arc_occupancies.is_wanted:
                _add_arcs(rows, weights, is_end, here, ahead, frame_sum, arc_occupancies)
            _look_back(rows, inputs, utterance, frame, rest, ahead)
    if arc_occupancies.is_wanted:
        _begin(rows, weights, kept[0])
        _retreat(rows, weights, num_frames == 0, ahead, rest)
        _add_arcs(rows, weights, num_frames == 0, kept[0], ahead, rest[rows.start], arc_occupancies)
    return total


@compiled
def _look_back(rows: SharedRows, inputs: Inputs, utterance: int, frame: int, rest: Floats, ahead: Floats) -> None:
    """What lies ahead of the frame before, less its largest."""
    log_sum, peak = inputs.log_sums[utterance, frame], -np.inf
    for column in range(len(rows.columns)):
        emission = np.float64(inputs.scores[utterance, frame, rows.columns[column]]) - log_sum
        for state in range(rows.column_splits[column], rows.column_splits[column + 1]):
            ahead[state] = emission + rest[state]
            peak = max(peak, ahead[state])
    if peak > -np.inf:
        ahead[: rows.column_splits[-1]] -= peak
