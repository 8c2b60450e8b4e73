"""Scales of a block of frames: each state's power of two, and the arcs' factors between them.

Arrays are flat, of rows with a margin on either side, and places are counted from a row's first state: a slice made in
a loop would be counted as a reference every time.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.backends.native.bands import Diagonals
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import exponent_of, power_of_two

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

MAX_STEP = 80
NOTHING = -(2**40)


class Plan(NamedTuple):
    """One graph's diagonals in one direction: offsets ``(D,)``, weights ``(D, num_states)`` flat."""

    offsets: Ints
    mantissas: Floats
    exponents: Ints


@compiled
def plan_of(diagonals: Diagonals, graph: int, num_states: int) -> Plan:
    """The diagonals of one graph."""
    first, last = diagonals.splits[graph], diagonals.splits[graph + 1]
    begin = diagonals.begins[first] if last > first else 0
    end = begin + (last - first) * num_states
    return Plan(diagonals.offsets[first:last], diagonals.mantissas[begin:end], diagonals.exponents[begin:end])


@compiled
def settle(
    reading: Plan,
    virtual: Plan,
    onwards: bool,
    margin: int,
    states: tuple[int, int],
    max_raise: int,
    sums: Floats,
    at: int,
    exponents: tuple[Ints, Ints],
) -> int:
    """Powers of two for the next block, and sums scaled to them, 0 for one that is raised too far.

    ``exponents`` are those that the sums have and, to be filled, those that they get.

    Returns the power of two that all sums so dropped are below. Only states ``states[0]..states[1] - 1`` are looked at:
    the sums of all others are 0.
    """
    here, there, begin, end = np.uint64(margin), np.uint64(at), np.uint64(states[0]), np.uint64(states[1])
    before, after = exponents
    after[:] = NOTHING
    for state in range(begin, end):
        value = sums[there + state]
        after[here + state] = before[here + state] + exponent_of(value) if value > 0.0 else NOTHING
    max_step = MAX_STEP if len(virtual.offsets) == 0 else MAX_STEP // 2
    # Once all states are reached, arcs are rarely steep; looking is vectorised, raising is one state after another.
    if _steepest(reading, margin, states, after) > max_step or _steepest(virtual, margin, states, after) > max_step:
        _raise(reading, virtual, onwards, max_step, margin, states, after)
    dropped = NOTHING
    for state in range(begin, end):
        value = sums[there + state]
        own = before[here + state] + exponent_of(value)
        is_kept = after[here + state] - own <= max_raise
        dropped = max(dropped, NOTHING if is_kept or value == 0.0 else own + 1)
        scaled = value * power_of_two(before[here + state] - after[here + state])
        sums[there + state] = scaled if is_kept and value > 0.0 else 0.0
    return dropped


@compiled
def _steepest(plan: Plan, margin: int, states: tuple[int, int], exponents: Ints) -> int:
    """The most that an arc multiplies by, as a power of two."""
    num_states, here = np.uint64(len(exponents) - 2 * margin), np.uint64(margin)
    begin, end = np.uint64(states[0]), np.uint64(states[1])
    offsets, weights, largest = plan.offsets, plan.exponents, 4 * NOTHING
    for diagonal in range(len(offsets)):
        origin, row = np.uint64(margin - offsets[diagonal]), np.uint64(diagonal) * num_states
        for state in range(begin, end):
            largest = max(largest, weights[row + state] + exponents[origin + state] - exponents[here + state])
    return largest


@compiled
def _raise(
    reading: Plan,
    virtual: Plan,
    onwards: bool,
    max_step: int,
    margin: int,
    states: tuple[int, int],
    exponents: Ints,
) -> None:
    """Raise exponents until no arc multiplies by more than ``2^max_step``."""
    num_states, (begin, end) = len(exponents) - 2 * margin, states
    for step in range(end - begin):
        state = begin + step if onwards else end - 1 - step
        exponent = exponents[margin + state]
        for diagonal in range(len(reading.offsets)):
            other = exponents[margin + state - reading.offsets[diagonal]]
            exponent = max(exponent, other + reading.exponents[diagonal * num_states + state] - max_step)
        for diagonal in range(len(virtual.offsets)):
            other = exponents[margin + state - virtual.offsets[diagonal]]
            exponent = max(exponent, other + virtual.exponents[diagonal * num_states + state] - max_step)
        exponents[margin + state] = exponent


@compiled
def find_factors(plan: Plan, margin: int, states: tuple[int, int], exponents: Ints, factors: Floats) -> None:
    """Weights between sums of the given powers of two, a row per diagonal, of the states that matter."""
    num_states, here = np.uint64(len(exponents) - 2 * margin), np.uint64(margin)
    begin, end = np.uint64(states[0]), np.uint64(states[1])
    offsets, weights, mantissas = plan.offsets, plan.exponents, plan.mantissas
    for diagonal in range(len(offsets)):
        origin, row = np.uint64(margin - offsets[diagonal]), np.uint64(diagonal) * num_states
        for state in range(begin, end):
            # An absent arc's exponent is below all others.
            power = weights[row + state] + exponents[origin + state] - exponents[here + state]
            factors[row + state] = mantissas[row + state] * power_of_two(power)


@compiled
def bits_per_frame(reading: Plan, virtual: Plan) -> float:
    """The most that weights and the number of ways add to a state's sum in a frame, emissions aside, in bits."""
    return math.log2(max(_total_weight(reading), 1e-300) * (1.0 + _total_weight(virtual)))


@compiled
def _total_weight(plan: Plan) -> float:
    """The largest weights of all diagonals together: no state has more than one arc on each."""
    total, num_diagonals = 0.0, max(1, len(plan.offsets))
    num_states = len(plan.mantissas) // num_diagonals
    for diagonal in range(len(plan.offsets)):
        largest = 0.0
        for place in range(diagonal * num_states, (diagonal + 1) * num_states):
            largest = max(largest, plan.mantissas[place] * power_of_two(min(plan.exponents[place], 1023)))
        total += largest
    return total
