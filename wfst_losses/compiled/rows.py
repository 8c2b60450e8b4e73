"""Rows of network outputs: their log-sums, and the softmax share of gradients, one read and one write each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import exponential
from wfst_losses.compiled.lanes import NUM_LANES, larger, largest, load_from

Scores = npt.NDArray[Any]
_SMALL = 1 << 16
"""So many numbers are read in less than a hundredth of what a call takes anyway."""


@compiled
def row_peak(row: Scores) -> float:
    """The largest number of a row that is not empty and has no gaps."""
    peak, size = row[0], len(row)
    if size < 2 * NUM_LANES:
        for label in range(size):
            if row[label] > peak:  # noqa: PLR1730 (max() is compiled to calls, this to one instruction)
                peak = row[label]
        return float(peak)
    # Two maxima, neither of which waits for the other; the last steps overlap.
    even, odd = load_from(row, size - 2 * NUM_LANES), load_from(row, size - NUM_LANES)
    for label in range(0, size - 2 * NUM_LANES, 2 * NUM_LANES):
        even, odd = larger(load_from(row, label), even), larger(load_from(row, label + NUM_LANES), odd)
    return float(largest(larger(even, odd)))


@compiled_reduction
def _sum_exp(row: Scores, peak: float) -> float:
    shift, total = row.dtype.type(peak), 0.0
    for label in range(len(row)):
        total += exponential(row[label] - shift)
    return total


@compiled
def row_log_sums(begin: int, end: int, scores: Scores, lengths: npt.NDArray[np.int64], log_sums: Scores) -> None:
    """Into ``log_sums[b, t]`` the log-sum of each live row of utterances ``begin..end-1``; NaN for NaN or +inf."""
    for utterance in range(begin, end):
        for frame in range(lengths[utterance]):
            row = scores[utterance, frame]
            peak = row_peak(row)
            # With no number above -inf, a plain sum tells -inf from NaN.
            log_sum = peak + math.log(_sum_exp(row, peak)) if peak > -np.inf else float(row.sum())
            log_sums[utterance, frame] = log_sum


@compiled
def is_plausible(row: Scores, tolerance: float) -> bool:
    """Whether the row's log-sum lies within ``tolerance`` of 0, which no row does that holds NaN or +inf."""
    peak = row_peak(row)
    return abs(peak + math.log(_sum_exp(row, peak))) <= tolerance


@compiled
def num_looked_at(scores: Scores, num_frames: int) -> int:
    """How many rows of an utterance are looked at whole: all in a small call, 4 in others.

    Of the other rows sums see what they read, and nothing else matters; who takes logits for log-probs does so
    everywhere, and who takes padding for frames does so in the last.
    """
    return num_frames if scores.size <= _SMALL else min(num_frames, 4)


@compiled
def looked_at(count: int, num_frames: int, num_looked_at: int) -> int:
    """The frame of the ``count``-th of so many rows: the first and the last among them."""
    return count * (num_frames - 1) // max(1, num_looked_at - 1)


@compiled
def are_plausible(rows: Scores, num_frames: int, num_looked_at: int, tolerance: float) -> bool:
    """Whether so many rows of an utterance all are."""
    count = 0
    while count < num_looked_at and is_plausible(rows[looked_at(count, num_frames, num_looked_at)], tolerance):
        count += 1
    return count == num_looked_at


@compiled
def write_softmax(row: Scores, log_sum: float, coefficient: float, out: Scores) -> None:
    """``out = coefficient * softmax(row)``."""
    shift, factor = row.dtype.type(log_sum), row.dtype.type(coefficient)
    for label in range(len(row)):
        out[label] = factor * exponential(row[label] - shift)
