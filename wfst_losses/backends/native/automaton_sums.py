"""Expected costs: forward and backward over a graph's states times an automaton's, never composed.

A state of the graph holds a row of sums, one per state of the automaton. An arc that writes nothing adds one row to
another; one that writes a token moves each entry to where the automaton goes. The automaton is deterministic and
complete, so the graph's paths stay as they are, and the sums behind a frame are those of the graph alone.

Sums are plain float64 with a power of two per frame. What that loses is bounded: products below 2^-1022 of what the
frame is scaled to, each of which could at best have met the largest sum on the other side. Where that bound does not
vanish beside the total, the result says so and is not to be used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from topologies import EPSILON
from wfst_losses.backends.native.automaton_layout import Automata, Floats, Ints, Steps
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled, compiled_inline, compiled_reduction
from wfst_losses.compiled.floats import exp64, exponent_of, power_of_two

_SAFE_BITS = 850
"""How far above the total, in bits, the largest sums before and behind a frame may multiply to: of the 1022 bits down
to where products vanish, 64 are for accuracy and the others for how many of them there are."""
_NONE = EPSILON


class Product(NamedTuple):
    """One utterance: a graph, an automaton and emissions.

    Attributes:
        moves: ``(C, Q)`` where each class of tokens leads from each state of the automaton; 0 is the start.
        class_of: ``(V,)`` the class of each token.
        cost: ``(Q,)`` of ending in each state.
    """

    steps: Steps
    moves: Ints
    class_of: Ints
    cost: Floats
    inputs: Inputs
    utterance: int


class Scales(NamedTuple):
    """Of the sums at each of ``T + 1`` frames: stored in units of 2^exponents, the largest below 2^heights of them."""

    exponents: Ints
    heights: Ints


class Results(NamedTuple):
    """What is computed, by utterance.

    Attributes:
        gradient: ``(B, T, V)`` of the expected cost with respect to log-probs; empty where it is not needed.
        probabilities: ``(B, K)`` of each cost.
        is_exact: False where float64 may not have sufficed, or no path was found.
    """

    gradient: Scores
    probabilities: Floats
    is_exact: npt.NDArray[np.bool_]


@compiled_reduction
def _dot(left: Floats, right: Floats) -> float:
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
def _height(sums: Floats, highest: Floats) -> int:
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
def _add(target: Floats, row: Floats, weight: float) -> None:
    for place in range(np.uint64(len(target))):
        target[place] += weight * row[place]


@compiled
def _move(target: Floats, row: Floats, weight: float, to: Ints) -> None:
    for place in range(np.uint64(len(row))):
        target[np.uint64(to[place])] += weight * row[place]


@compiled
def _fetch(target: Floats, row: Floats, to: Ints) -> None:
    """`_move` backwards."""
    for place in range(np.uint64(len(target))):
        target[place] = row[np.uint64(to[place])]


@compiled_inline
def _bits(value: float) -> int:
    """The binary exponent of a sum; 0 for an empty one."""
    return exponent_of(value) if value > 0.0 else 0


@compiled
def _read(product: Product, frame: int, shift: int, factors: Floats) -> None:
    """Each port's emission over the frame's largest and over ``2^shift``: what all paths share makes no difference."""
    row = product.inputs.scores[product.utterance, frame]
    labels, peak = product.steps.port_label, _largest(row)
    factor = power_of_two(min(-shift, 1023)) if peak > -np.inf else 0.0
    for port in range(np.uint64(len(factors))):
        score = np.float64(row[np.uint64(labels[port])])
        factors[port] = factor * exp64(score - peak) if score > -np.inf else 0.0


@compiled
def _close(product: Product, sums: Floats) -> None:
    """Follow virtual arcs."""
    steps = product.steps
    for arc in range(len(steps.virtual_source)):
        row, target = sums[steps.virtual_source[arc]], sums[steps.virtual_destination[arc]]
        weight, output = steps.virtual_weight[arc], steps.virtual_output[arc]
        if output == _NONE:
            _add(target, row, weight)
        else:
            _move(target, row, weight, product.moves[product.class_of[output]])


@compiled
def _close_back(product: Product, sums: Floats, fetched: Floats) -> None:
    """Follow virtual arcs backwards."""
    steps = product.steps
    for arc in range(len(steps.virtual_source) - 1, -1, -1):
        row, target = sums[steps.virtual_destination[arc]], sums[steps.virtual_source[arc]]
        weight, output = steps.virtual_weight[arc], steps.virtual_output[arc]
        if output == _NONE:
            _add(target, row, weight)
        else:
            _fetch(fetched, row, product.moves[product.class_of[output]])
            _add(target, fetched, weight)


@compiled
def _arrive(product: Product, arrivals: Floats, sums: Floats) -> None:
    """The sums of states, from what arrived at their ports."""
    sums[:] = 0.0
    for port in range(len(product.steps.port_state)):
        _add(sums[product.steps.port_state[port]], arrivals[port], 1.0)
    _close(product, sums)


@compiled
def _advance(product: Product, sums: Floats, factors: Floats, arrivals: Floats, met: Floats) -> None:
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
                    _add(arriving, sums[steps.arc_source[arc]], factors[port] * steps.arc_weight[arc])
                continue
            met[:] = 0.0
            for arc in range(begin, end):
                _add(met, sums[steps.arc_source[arc]], steps.arc_weight[arc])
            _move(arriving, met, factors[port], product.moves[product.class_of[output]])


@compiled
def _retreat(product: Product, sums: Floats, factors: Floats, before: Floats, fetched: Floats) -> None:
    """`_advance` and `_arrive` backwards: the sums behind a frame, from those behind the next one."""
    steps = product.steps
    before[:] = 0.0
    for port in range(len(steps.port_state)):
        behind = sums[steps.port_state[port]]
        for group in range(steps.group_splits[port], steps.group_splits[port + 1]):
            begin, end = steps.arc_splits[group], steps.arc_splits[group + 1]
            output = steps.group_output[group]
            if output == _NONE:
                for arc in range(begin, end):
                    _add(before[steps.arc_source[arc]], behind, factors[port] * steps.arc_weight[arc])
                continue
            _fetch(fetched, behind, product.moves[product.class_of[output]])
            for arc in range(begin, end):
                _add(before[steps.arc_source[arc]], fetched, factors[port] * steps.arc_weight[arc])
    _close_back(product, before, fetched)


@compiled
def _scale_back(product: Product, scales: Scales) -> None:
    """The scales of the sums behind each frame: sums over the graph alone, as the automaton changes nothing in all."""
    steps, num_frames = product.steps, product.inputs.lengths[product.utterance]
    alone = Product(
        steps, np.zeros((1, 1), np.int64), np.zeros_like(product.class_of), product.cost[:1], product.inputs,
        product.utterance,
    )  # fmt: skip
    sums, before = np.empty((len(steps.final_weight), 1)), np.empty((len(steps.final_weight), 1))
    factors, fetched = np.empty(len(steps.port_state)), np.empty(1)
    sums[:, 0] = steps.final_weight
    _close_back(alone, sums, fetched)
    scales.exponents[num_frames] = 0
    scales.heights[num_frames] = _height(sums, fetched) + 1
    for frame in range(num_frames - 1, -1, -1):
        shift = scales.heights[frame + 1] - 1
        _read(alone, frame, shift, factors)
        _retreat(alone, sums, factors, before, fetched)
        sums, before = before, sums
        scales.exponents[frame] = scales.exponents[frame + 1] + shift
        scales.heights[frame] = _height(sums, fetched) + 1


@compiled
def _forward(product: Product, begin: int, end: int, sums: Floats, kept: Floats, scales: Scales) -> None:
    """The sums before frame ``begin`` become those before ``end``; arrivals on the way go to ``kept``, in turn."""
    factors, met = np.empty(len(product.steps.port_state)), np.empty(sums.shape[1])
    for frame in range(begin, end):
        shift = _height(sums, met)
        scales.heights[frame] = shift + 1
        scales.exponents[frame + 1] = scales.exponents[frame] + shift
        _read(product, frame, shift, factors)
        arrivals = kept[(frame - begin) % len(kept)]
        _advance(product, sums, factors, arrivals, met)
        _arrive(product, arrivals, sums)
    scales.heights[end] = _height(sums, met) + 1


@compiled
def _is_safe(ahead: Scales, behind: Scales, total: float) -> bool:
    """Whether all that vanished is nothing beside the total."""
    last = len(ahead.exponents) - 1
    limit = ahead.exponents[last] + _bits(total) + _SAFE_BITS
    for frame in range(last + 1):
        here = ahead.exponents[frame] + max(ahead.heights[frame], 0)
        there = behind.exponents[frame] + max(behind.heights[frame], 0)
        after = min(frame + 1, last)
        there = max(there, behind.exponents[after] + max(behind.heights[after], 0))
        if here + there > limit:
            return False
    return 0.0 < total < np.inf


@compiled
def _backward(
    product: Product, begin: int, end: int, sums: Floats, kept: Floats, ahead: Scales, behind: Scales, factor: float,
    gradient: Scores,
) -> Floats:  # fmt: skip
    """The sums behind frame ``end`` become those behind ``begin``; the gradient's rows of these frames."""
    steps = product.steps
    factors, fetched, before = np.empty(len(steps.port_state)), np.empty(sums.shape[1]), np.empty_like(sums)
    row, last = np.empty(gradient.shape[1]), len(ahead.exponents) - 1
    for frame in range(end - 1, begin - 1, -1):
        exponent = ahead.exponents[frame + 1] + behind.exponents[frame + 1] - ahead.exponents[last]
        share = factor * power_of_two(min(exponent, 1023))
        row[:] = 0.0
        for port in range(len(steps.port_state)):
            occupancy = _dot(kept[frame - begin, port], sums[steps.port_state[port]])
            row[steps.port_label[port]] += share * occupancy
        gradient[frame] = row
        _read(product, frame, behind.exponents[frame] - behind.exponents[frame + 1], factors)
        _retreat(product, sums, factors, before, fetched)
        sums, before = before, sums
    return sums


@compiled
def _one(product: Product, room: Floats, needs_gradient: bool, gradient: Scores, probabilities: Floats) -> bool:
    """One utterance, in blocks of as many frames as fit into ``room``; all but the last are summed once more."""
    steps, num_frames = product.steps, product.inputs.lengths[product.utterance]
    num_states, num_ports, width = len(steps.final_weight), len(steps.port_state), len(product.cost)
    ahead = Scales(np.zeros(num_frames + 1, np.int64), np.zeros(num_frames + 1, np.int64))
    behind = Scales(np.zeros(num_frames + 1, np.int64), np.zeros(num_frames + 1, np.int64))
    _scale_back(product, behind)
    frames_kept = max(1, min(num_frames, len(room) // max(1, num_ports * width)))
    num_blocks = max(1, -(-num_frames // frames_kept))
    kept = room[: frames_kept * num_ports * width].reshape((frames_kept, num_ports, width))
    begun = np.empty((num_blocks * needs_gradient, num_ports, width))
    sums = np.empty((num_states, width))
    _begin(product, begun, 0, sums)
    for block in range(num_blocks):
        begin, end = block * frames_kept, min((block + 1) * frames_kept, num_frames)
        if block and needs_gradient:
            begun[block] = kept[-1]
        _forward(product, begin, end, sums, kept, ahead)
    masses = np.zeros(width)
    for state in range(num_states):
        _add(masses, sums[state], steps.final_weight[state])
    total = masses.sum()
    if not _is_safe(ahead, behind, total):
        return False
    masses /= total
    for place in range(width):
        probabilities[int(product.cost[place])] += masses[place]
    if not needs_gradient:
        return True
    # Costs less their mean: what is left of the gradient of a quotient, without a difference of large numbers.
    mean = _dot(masses, product.cost)
    for state in range(num_states):
        sums[state] = steps.final_weight[state] * (product.cost - mean)
    _close_back(product, sums, np.empty(width))
    again = np.empty_like(sums)
    for block in range(num_blocks - 1, -1, -1):
        begin, end = block * frames_kept, min((block + 1) * frames_kept, num_frames)
        if block < num_blocks - 1:
            _begin(product, begun, block, again)
            _forward(product, begin, end, again, kept, ahead)
        sums = _backward(product, begin, end, sums, kept, ahead, behind, 1.0 / total, gradient)
    return True


@compiled
def _begin(product: Product, begun: Floats, block: int, sums: Floats) -> None:
    """The sums where a block begins."""
    if block:
        _arrive(product, begun[block], sums)
        return
    sums[:] = 0.0
    sums[product.steps.start, 0] = 1.0
    _close(product, sums)


@compiled
def expect(
    begin: int, end: int, steps: Steps, automata: Automata, inputs: Inputs, room: Floats, results: Results
) -> None:
    """Costs of utterances ``begin..end-1``: their probabilities and the gradient of their mean.

    ``room`` is for the sums of at least one frame; the more, the fewer are summed twice.
    """
    needs_gradient = len(results.gradient) > 0
    for utterance in range(begin, end):
        low, high = automata.state_splits[utterance], automata.state_splits[utterance + 1]
        first = automata.table_begins[utterance]
        size = automata.num_classes[utterance] * (high - low)
        moves = automata.next_state[first : first + size].reshape((-1, high - low))
        product = Product(steps, moves, automata.class_of[utterance], automata.cost[low:high], inputs, utterance)
        gradient = results.gradient[utterance] if needs_gradient else np.empty_like(inputs.scores[0])[:0]
        results.is_exact[utterance] = _one(product, room, needs_gradient, gradient, results.probabilities[utterance])
