"""Occupancies by column: summed from states, and written as the gradient of the network's output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Bands
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import exponent_of, power_of_two
from wfst_losses.compiled.rows import write_softmax

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@compiled
def add_up(bands: Bands, graph: int, shares: Floats, factor: float, occupancy: Scores, frame: int) -> None:
    """The states' shares, summed by column, into row ``frame``."""
    first, last = np.uint64(bands.column_splits[graph]), np.uint64(bands.column_splits[graph + 1])
    begins, by_column = bands.column_begins, bands.by_column
    # Most columns have one state; what the others have beyond it comes after.
    for column in range(last - first):
        occupancy[frame, column] = factor * shares[np.uint64(by_column[np.uint64(begins[first + column])])]
    several, several_begin, several_end = bands.several, bands.several_splits[graph], bands.several_splits[graph + 1]
    for index in range(several_begin, several_end):
        crowded = np.uint64(several[index])
        begin, end = np.uint64(begins[crowded]), np.uint64(begins[crowded + np.uint64(1)])
        # Four sums at a time: one alone would wait for itself, blank's has half the states.
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        num_whole = (end - begin) // np.uint64(4)
        for step in range(num_whole):
            place = begin + np.uint64(4) * step
            a += shares[np.uint64(by_column[place])]
            b += shares[np.uint64(by_column[place + np.uint64(1)])]
            c += shares[np.uint64(by_column[place + np.uint64(2)])]
            d += shares[np.uint64(by_column[place + np.uint64(3)])]
        for rest in range(begin + np.uint64(4) * num_whole, end):
            a += shares[np.uint64(by_column[rest])]
        occupancy[frame, crowded - first] = factor * ((a + b) + (c + d))


@compiled
def add_up_within(
    bands: Bands, graph: int, shares: Floats, window: tuple[int, int], factor: float, occupancy: Scores, frame: int
) -> None:
    """As `add_up`, where all states but those of a window have no share."""
    first, low = bands.column_splits[graph], bands.state_splits[graph]
    if 2 * (window[1] - window[0]) > bands.column_splits[graph + 1] - first:
        add_up(bands, graph, shares, factor, occupancy, frame)
        return
    occupancy[frame] = 0.0
    for state in range(window[0], window[1]):
        occupancy[frame, np.uint64(bands.column_of_state[low + state])] += factor * shares[state]


@compiled
def final_sum(bands: Bands, low: int, row: Floats, exponents: Ints) -> tuple[float, int]:
    """The sum over final states as a number and a power of two; ``low`` is the graph's first state."""
    peak = -(2**60)
    for state in range(len(row)):
        if row[state] * bands.final_mantissas[low + state] > 0.0:
            peak = max(peak, exponents[state] + exponent_of(row[state]) + bands.final_exponents[low + state])
    total = 0.0
    for state in range(len(row)):
        product = row[state] * bands.final_mantissas[low + state]
        if product > 0.0:
            total += product * power_of_two(exponents[state] + bands.final_exponents[low + state] - peak)
    return total, peak


@compiled
def write_gradient(
    begin: int,
    end: int,
    bands: Bands,
    inputs: Inputs,
    graph_splits: Ints,
    occupancies: tuple[Ints, Scores],
    coefficients: Floats,
    is_logits: bool,
    gradient: Scores,
) -> None:
    """The whole ``gradient[b]`` of utterances ``begin..end-1``: ``sum_g coefficient_g (occupancy_g - softmax)``.

    Graphs of utterance b are ``graph_splits[b]..graph_splits[b + 1] - 1``; the softmax is there for logits only.
    ``occupancies`` are where each graph's ``(frames, columns)`` block begins, and the blocks.
    """
    (begins, blocks), columns = occupancies, bands.columns
    for utterance in range(begin, end):
        total = 0.0
        for graph in range(graph_splits[utterance], graph_splits[utterance + 1]):
            total += coefficients[graph]
        for frame in range(inputs.scores.shape[1]):
            row, is_live = gradient[utterance, frame], frame < inputs.lengths[utterance]
            if is_logits and total != 0.0 and is_live:
                write_softmax(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], -total, row)
            else:
                row[:] = 0.0
            if not is_live:
                continue
            for graph in range(graph_splits[utterance], graph_splits[utterance + 1]):
                if coefficients[graph] != 0.0:
                    first, coefficient = np.uint64(bands.column_splits[graph]), gradient.dtype.type(coefficients[graph])
                    num_columns = np.uint64(bands.column_splits[graph + 1]) - first
                    place = np.uint64(begins[graph]) + np.uint64(frame) * num_columns
                    for column in range(num_columns):
                        row[np.uint64(columns[first + column])] += coefficient * blocks[place + column]


@compiled
def write_shared_gradient(
    begin: int,
    end: int,
    inputs: Inputs,
    occupancies: Scores,
    coefficients: Floats,
    is_logits: bool,
    gradient: Scores,
) -> None:
    """The whole ``gradient[b]`` of utterances ``begin..end-1``: ``coefficient (occupancy - softmax)``.

    ``occupancies`` are ``(B, T, V)``, 0 in frames that are not live; the softmax is there for logits only.
    """
    for utterance in range(begin, end):
        coefficient = gradient.dtype.type(coefficients[utterance])
        for frame in range(inputs.scores.shape[1]):
            row = gradient[utterance, frame]
            if coefficient == 0.0 or frame >= inputs.lengths[utterance]:
                row[:] = 0.0
                continue
            occupancy = occupancies[utterance, frame]
            if is_logits:
                write_softmax(inputs.scores[utterance, frame], inputs.log_sums[utterance, frame], -coefficient, row)
                for label in range(len(row)):
                    row[label] += coefficient * occupancy[label]
            else:
                for label in range(len(row)):
                    row[label] = coefficient * occupancy[label]
