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
def write_softmax(row: Scores, log_sum: float, coefficient: float, out: Scores) -> None:
    """``out = coefficient * softmax(row)``."""
    shift, factor = row.dtype.type(log_sum), row.dtype.type(coefficient)
    for label in range(len(row)):
        out[label] = factor * exponential(row[label] - shift)
