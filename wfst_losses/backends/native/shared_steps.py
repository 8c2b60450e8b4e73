"""Steps over the arcs of one graph for several utterances at once, one per lane: a row of lanes per state or column."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.shared_rows import SharedRows, Weights
from wfst_losses.compiled import compiled, compiled_inline
from wfst_losses.compiled.lanes import NUM_LANES, add, larger, load, multiply, multiply_add, spread, store, weighted_sum

Floats: TypeAlias = npt.NDArray[Any]


class Work(NamedTuple):
    """Room for one tile; rows of lanes unless said otherwise.

    Attributes:
        previous, current: ``(Q,)`` sums of two frames; backwards, what lies ahead and the states' sums.
        emissions: ``(C,)`` of one frame.
        shares: ``(C,)`` occupancies of one frame.
        arrivals: ``(frames kept, R)`` forward sums of the states that are entered by reading.
        peaks: ``(T,)`` the largest score of each frame.
        scale: ``(1,)`` sums of the last frame.
        row: ``(C,)`` numbers.
    """

    previous: Floats
    current: Floats
    emissions: Floats
    shares: Floats
    arrivals: Floats
    peaks: Floats
    scale: Floats
    row: Floats


class ArcWork(NamedTuple):
    """Occupancies of arcs (as they enter) and of final states, rows of lanes; ``is_wanted`` tells whether to sum them.

    ``closed`` has room for the forward sums of one frame.
    """

    is_wanted: bool
    arcs: Floats
    finals: Floats
    closed: Floats


@compiled_inline
def _columns_and_entering(rows: SharedRows, weights: Weights) -> tuple[Floats, Floats, Floats, Floats]:
    """Columns of their own: taken out of a tuple inside a loop, each would be counted as a reference every time."""
    return rows.column_splits, rows.entering.splits, rows.entering.places, weights.entering


@compiled
def begin(rows: SharedRows, weights: Weights, floor: float, sums: Floats) -> None:
    """Forward sums before the first frame."""
    column_splits, splits, places, factors = _columns_and_entering(rows, weights)
    start = rows.start
    sums[:] = floor
    sums[start * NUM_LANES : (start + 1) * NUM_LANES] = 1.0
    least, one = spread(sums.dtype.type(floor)), spread(sums.dtype.type(1))
    for state in range(column_splits[-1], len(splits) - 1):
        value = weighted_sum(splits[state], splits[state + 1], places, factors, sums)
        if state == start:
            value = add(value, one)
        store(sums, state, larger(value, least))


@compiled
def advance(rows: SharedRows, weights: Weights, floor: float, work: Work, keep_at: int) -> None:
    """One frame: ``current`` from ``previous``; at ``keep_at``, if not negative, the states entered by reading."""
    column_splits, splits, places, factors = _columns_and_entering(rows, weights)
    previous, current, arrivals, emissions = work.previous, work.current, work.arrivals, work.emissions
    total, least = spread(current.dtype.type(0)), spread(current.dtype.type(floor))
    for column in range(len(column_splits) - 1):
        emission = load(emissions, column)
        for state in range(column_splits[column], column_splits[column + 1]):
            arrived = weighted_sum(splits[state], splits[state + 1], places, factors, previous)
            value = larger(multiply(arrived, emission), least)
            store(current, state, value)
            if keep_at >= 0:
                store(arrivals, keep_at + state, value)
            total = add(total, value)
    store(work.scale, 0, total)
    close(rows, weights, floor, current)


@compiled
def close(rows: SharedRows, weights: Weights, floor: float, sums: Floats) -> None:
    """Forward sums of the states entered by virtual arcs."""
    column_splits, splits, places, factors = _columns_and_entering(rows, weights)
    least = spread(sums.dtype.type(floor))
    for state in range(column_splits[-1], len(splits) - 1):
        value = weighted_sum(splits[state], splits[state + 1], places, factors, sums)
        store(sums, state, larger(value, least))


@compiled
def retreat(rows: SharedRows, weights: Weights, is_end: Floats, any_end: bool, work: Work) -> None:
    """Backward sums of all states from what lies ahead: virtual ones into ``previous`` itself, others to ``current``.

    ``is_end`` has a one in each lane that may end here.
    """
    splits, places, factors, finals = rows.leaving.splits, rows.leaving.places, weights.leaving, weights.final
    num_reading, ahead, current = rows.column_splits[-1], work.previous, work.current
    total, ends = spread(current.dtype.type(0)), load(is_end, 0)
    for state in range(len(splits) - 2, -1, -1):
        value = weighted_sum(splits[state], splits[state + 1], places, factors, ahead)
        if any_end:
            value = multiply_add(finals[state], ends, value)
        if state >= num_reading:
            store(ahead, state, value)
        else:
            store(current, state, value)
            total = add(total, value)
    store(work.scale, 0, total)


@compiled
def share_out(rows: SharedRows, keep_at: int, work: Work, factors: Floats) -> None:
    """Occupancies of columns into ``shares``, and into ``factors`` what makes each lane's sum to 1."""
    column_splits, arrivals, current, shares = rows.column_splits, work.arrivals, work.current, work.shares
    frame_total = spread(current.dtype.type(0))
    for column in range(len(column_splits) - 1):
        share = spread(current.dtype.type(0))
        for state in range(column_splits[column], column_splits[column + 1]):
            share = multiply_add(load(arrivals, keep_at + state), load(current, state), share)
        store(shares, column, share)
        frame_total = add(frame_total, share)
    store(factors, 0, frame_total)
    for lane in range(NUM_LANES):
        factors[lane] = 1.0 / factors[lane] if factors[lane] > 0.0 else 0.0


@compiled
def look_back(rows: SharedRows, work: Work) -> None:
    """What lies ahead of the frame before: the states' sums times their emissions."""
    column_splits, emissions, current, ahead = rows.column_splits, work.emissions, work.current, work.previous
    for column in range(len(column_splits) - 1):
        emission = load(emissions, column)
        for state in range(column_splits[column], column_splits[column + 1]):
            store(ahead, state, multiply(load(current, state), emission))


@compiled
def add_arcs(
    rows: SharedRows, weights: Weights, is_end: Floats, factors: Floats, work: Work, arc_work: ArcWork
) -> None:
    """Occupancies of arcs that leave the states of ``closed``, and of ends there."""
    splits, places, entering, finals = rows.entering.splits, rows.entering.places, weights.entering, weights.final
    closed, ahead, of_arcs, of_finals = arc_work.closed, work.previous, arc_work.arcs, arc_work.finals
    factor, ends = load(factors, 0), load(is_end, 0)
    for state in range(len(splits) - 1):
        rest = multiply(load(ahead, state), factor)
        for arc in range(splits[state], splits[state + 1]):
            passed = multiply(load(closed, places[arc]), rest)
            store(of_arcs, arc, multiply_add(entering[arc], passed, load(of_arcs, arc)))
        ended = multiply(multiply(load(closed, state), factor), ends)
        store(of_finals, state, multiply_add(finals[state], ended, load(of_finals, state)))


@compiled
def growth(rows: SharedRows, weights: Weights) -> float:
    """The most by which a sum can exceed the largest of the frame before, forwards, backwards or at an end."""
    num_states, num_reading = len(rows.origin), rows.column_splits[-1]
    most, sums = 0.0, np.ones(num_states)
    for state in range(num_reading, num_states):
        total = 1.0 if state == rows.start else 0.0
        for arc in range(rows.entering.splits[state], rows.entering.splits[state + 1]):
            total += weights.entering[arc] * sums[rows.entering.places[arc]]
        sums[state] = total
        most = max(most, total)
    for state in range(num_reading):
        total = 0.0
        for arc in range(rows.entering.splits[state], rows.entering.splits[state + 1]):
            total += weights.entering[arc] * sums[rows.entering.places[arc]]
        most = max(most, total)
    for state in range(num_states - 1, -1, -1):
        total = np.float64(weights.final[state])
        for arc in range(rows.leaving.splits[state], rows.leaving.splits[state + 1]):
            place = rows.leaving.places[arc]
            total += weights.leaving[arc] * (1.0 if place < num_reading else sums[place])
        sums[state] = total
        most = max(most, total)
    return most
