"""Steps over a graph's states times an automaton's, forwards and backwards: a row of sums per state of the graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from topologies import EPSILON
from wfst_losses.backends.native.automaton_layout import Floats, Ints, Steps
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled, compiled_reduction
from wfst_losses.compiled.floats import exp64, exponent_of, power_of_two

_NONE = EPSILON


class Product(NamedTuple):
    """One utterance: a graph, an automaton and emissions.

    Attributes:
        moves: ``(C, Q)`` where each class of tokens leads from each state of the automaton; 0 is the start.
        class_of: ``(V,)`` the class of each token.
        cost: ``(Q,)`` of ending in each state.
        emissions: ``(T, P)`` of each port, over the frame's largest: what all paths share makes no difference.
    """

    steps: Steps
    moves: Ints
    class_of: Ints
    cost: Floats
    emissions: Floats


@compiled_reduction
def dot(left: Floats, right: Floats) -> float:
    """``sum_q left[q] * right[q]``."""
    total = 0.0
    for place in range(np.uint64(len(left))):
        total += left[place] * right[place]
    return total


@compiled_reduction
def _largest(row: Scores) -> float:
    largest = row[0]
    for place in range(np.uint64(len(row))):
        if row[place] > largest:  # noqa: PLR1730 (max() is compiled to calls, this to one instruction)
            largest = row[place]
    return float(largest)


@compiled
def height(sums: Floats, highest: Floats) -> int:
    """The binary exponent of the largest sum; 0 where all are 0. A row at a time, which vectorises."""
    highest[:] = 0.0
    for state in range(len(sums)):
        row = sums[state]
        for place in range(np.uint64(len(highest))):
            if row[place] > highest[place]:  # noqa: PLR1730 (max() is compiled to calls, this to one instruction)
                highest[place] = row[place]
    largest = 0.0
    for place in range(len(highest)):
        largest = max(largest, highest[place])
    return exponent_of(largest) if largest > 0.0 else 0


@compiled
def add(target: Floats, row: Floats, weight: float) -> None:
    """``target[q] += weight * row[q]``."""
    for place in range(np.uint64(len(target))):
        target[place] += weight * row[place]


@compiled
def _move(target: Floats, row: Floats, weight: float, to: Ints) -> None:
    """``target[to[q]] += weight * row[q]``."""
    for place in range(np.uint64(len(row))):
        target[np.uint64(to[place])] += weight * row[place]


@compiled
def _fetch(target: Floats, row: Floats, to: Ints) -> None:
    """``target[q] = row[to[q]]``: `_move` backwards."""
    for place in range(np.uint64(len(target))):
        target[place] = row[np.uint64(to[place])]


@compiled
def read_emissions(steps: Steps, inputs: Inputs, utterance: int) -> Floats:
    """``(T, P)`` as in `Product`."""
    labels, num_frames = steps.port_label, inputs.lengths[utterance]
    emissions = np.empty((num_frames, len(labels)))
    for frame in range(num_frames):
        row, out = inputs.scores[utterance, frame], emissions[frame]
        peak = _largest(row)
        for port in range(np.uint64(len(labels))):
            score = np.float64(row[np.uint64(labels[port])])
            out[port] = exp64(score - peak) if score > -np.inf else 0.0
    return emissions


@compiled
def read(product: Product, frame: int, shift: int, factors: Floats) -> None:
    """Each port's emission over ``2^shift``."""
    emissions, factor = product.emissions[frame], power_of_two(min(-shift, 1023))
    for port in range(np.uint64(len(factors))):
        factors[port] = factor * emissions[port]


@compiled
def close(product: Product, sums: Floats) -> None:
    """Follow virtual arcs."""
    steps = product.steps
    for arc in range(len(steps.virtual_source)):
        row, target = sums[steps.virtual_source[arc]], sums[steps.virtual_destination[arc]]
        weight, output = steps.virtual_weight[arc], steps.virtual_output[arc]
        if output == _NONE:
            add(target, row, weight)
        else:
            _move(target, row, weight, product.moves[product.class_of[output]])


@compiled
def close_back(product: Product, sums: Floats, fetched: Floats) -> None:
    """Follow virtual arcs backwards."""
    steps = product.steps
    for arc in range(len(steps.virtual_source) - 1, -1, -1):
        row, target = sums[steps.virtual_destination[arc]], sums[steps.virtual_source[arc]]
        weight, output = steps.virtual_weight[arc], steps.virtual_output[arc]
        if output == _NONE:
            add(target, row, weight)
        else:
            _fetch(fetched, row, product.moves[product.class_of[output]])
            add(target, fetched, weight)


@compiled
def arrive(product: Product, arrivals: Floats, sums: Floats) -> None:
    """The sums of states, from what arrived at their ports."""
    sums[:] = 0.0
    for port in range(len(product.steps.port_state)):
        add(sums[product.steps.port_state[port]], arrivals[port], 1.0)
    close(product, sums)


@compiled
def advance(product: Product, sums: Floats, factors: Floats, arrivals: Floats, met: Floats) -> None:
    """What arrives at each port when a frame is read."""
    steps = product.steps
    for port in range(len(steps.port_state)):
        arriving = arrivals[port]
        arriving[:] = 0.0
        for group in range(steps.group_splits[port], steps.group_splits[port + 1]):
            begin, end = steps.arc_splits[group], steps.arc_splits[group + 1]
            output = steps.group_output[group]
            if output == _NONE:
                for arc in range(begin, end):
                    add(arriving, sums[steps.arc_source[arc]], factors[port] * steps.arc_weight[arc])
                continue
            met[:] = 0.0
            for arc in range(begin, end):
                add(met, sums[steps.arc_source[arc]], steps.arc_weight[arc])
            _move(arriving, met, factors[port], product.moves[product.class_of[output]])


@compiled
def retreat(product: Product, sums: Floats, factors: Floats, before: Floats, fetched: Floats) -> None:
    """`advance` and `arrive` backwards: the sums behind a frame, from those behind the next one."""
    steps = product.steps
    before[:] = 0.0
    for port in range(len(steps.port_state)):
        behind = sums[steps.port_state[port]]
        for group in range(steps.group_splits[port], steps.group_splits[port + 1]):
            begin, end = steps.arc_splits[group], steps.arc_splits[group + 1]
            output = steps.group_output[group]
            if output == _NONE:
                for arc in range(begin, end):
                    add(before[steps.arc_source[arc]], behind, factors[port] * steps.arc_weight[arc])
                continue
            _fetch(fetched, behind, product.moves[product.class_of[output]])
            for arc in range(begin, end):
                add(before[steps.arc_source[arc]], fetched, factors[port] * steps.arc_weight[arc])
    close_back(product, before, fetched)
