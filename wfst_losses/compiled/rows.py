"""Rows of network outputs: their log-sums, and the softmax share of gradients, one read and one write each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import exponential

Scores = npt.NDArray[Any]


@compiled_reduction
def row_peak(row: Scores) -> float:
    """The largest number of a row that is not empty."""
    peak = row[0]
    for label in range(len(row)):
        if row[label] > peak:  # noqa: PLR1730 (max() is compiled to calls, this to one instruction)
            peak = row[label]
    return float(peak)


@compiled_reduction
def _sum_exp(row: Scores, peak: float) -> float:
    total = row.dtype.type(0.0)
    for label in range(len(row)):
        total += exponential(row[label] - peak)
    return float(total)


@compiled
def row_log_sums(begin: int, end: int, scores: Scores, lengths: npt.NDArray[np.int64], log_sums: Scores) -> None:
    """Into ``log_sums[b, t]`` the log-sum of each live row of utterances ``begin..end-1``; NaN for NaN or +inf."""
    for utterance in range(begin, end):
        for frame in range(lengths[utterance]):
            row = scores[utterance, frame]
            peak = row_peak(row)
            log_sums[utterance, frame] = peak if peak == -np.inf else peak + math.log(_sum_exp(row, peak))


@compiled
def write_softmax(row: Scores, log_sum: float, coefficient: float, out: Scores) -> None:
    """``out = coefficient * softmax(row)``."""
    shift, factor = row.dtype.type(log_sum), row.dtype.type(coefficient)
    for label in range(len(row)):
        out[label] = factor * exponential(row[label] - shift)
