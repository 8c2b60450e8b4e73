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

from wfst_losses.backends.native.automaton_layout import Automata, Floats, Ints, Steps
from wfst_losses.backends.native.automaton_steps import (
    Product,
    add,
    advance,
    arrive,
    close,
    close_back,
    dot,
    height,
    read,
    read_emissions,
    retreat,
)
from wfst_losses.backends.native.inputs import Inputs, Scores
from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import exponent_of, power_of_two

_SAFE_BITS = 850
"""How far above the total, in bits, the largest sums before and behind a frame may multiply to: of the 1022 bits down
to where products vanish, 64 are for accuracy and the others for how many of them there are."""


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


@compiled
def _scale_back(product: Product, scales: Scales) -> None:
    """The scales of the sums behind each frame: sums over the graph alone, as the automaton changes nothing in all."""
    steps, num_frames = product.steps, len(product.emissions)
    moves = np.zeros((1, 1), np.int64)
    alone = Product(steps, moves, np.zeros_like(product.class_of), product.cost[:1], product.emissions)
    sums, before = np.empty((len(steps.final_weight), 1)), np.empty((len(steps.final_weight), 1))
    factors, fetched = np.empty(len(steps.port_state)), np.empty(1)
    sums[:, 0] = steps.final_weight
    close_back(alone, sums, fetched)
    scales.exponents[num_frames] = 0
    scales.heights[num_frames] = height(sums, fetched) + 1
    for frame in range(num_frames - 1, -1, -1):
        shift = scales.heights[frame + 1] - 1
        read(alone, frame, shift, factors)
        retreat(alone, sums, factors, before, fetched)
        sums, before = before, sums
        scales.exponents[frame] = scales.exponents[frame + 1] + shift
        scales.heights[frame] = height(sums, fetched) + 1


@compiled
def _forward(product: Product, begin: int, end: int, sums: Floats, kept: Floats, scales: Scales) -> None:
    """The sums before frame ``begin`` become those before ``end``; arrivals on the way go to ``kept``, in turn."""
    factors, met = np.empty(len(product.steps.port_state)), np.empty(sums.shape[1])
    for frame in range(begin, end):
        shift = height(sums, met)
        scales.heights[frame] = shift + 1
        scales.exponents[frame + 1] = scales.exponents[frame] + shift
        read(product, frame, shift, factors)
        arrivals = kept[(frame - begin) % len(kept)]
        advance(product, sums, factors, arrivals, met)
        arrive(product, arrivals, sums)
    scales.heights[end] = height(sums, met) + 1


@compiled
def _is_safe(ahead: Scales, behind: Scales, total: float) -> bool:
    """Whether all that vanished is nothing beside the total."""
    last = len(ahead.exponents) - 1
    limit = ahead.exponents[last] + exponent_of(total) + _SAFE_BITS
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
    shares: Floats,
) -> Floats:  # fmt: skip
    """The sums behind frame ``end`` become those behind ``begin``; each port's share in the gradient on the way."""
    steps, last = product.steps, len(ahead.exponents) - 1
    factors, fetched, before = np.empty(len(steps.port_state)), np.empty(sums.shape[1]), np.empty_like(sums)
    for frame in range(end - 1, begin - 1, -1):
        exponent = ahead.exponents[frame + 1] + behind.exponents[frame + 1] - ahead.exponents[last]
        scale = factor * power_of_two(min(exponent, 1023))
        for port in range(len(steps.port_state)):
            shares[frame, port] = scale * dot(kept[frame - begin, port], sums[steps.port_state[port]])
        read(product, frame, behind.exponents[frame] - behind.exponents[frame + 1], factors)
        retreat(product, sums, factors, before, fetched)
        sums, before = before, sums
    return sums


@compiled
def _begin(product: Product, begun: Floats, block: int, sums: Floats) -> None:
    """The sums where a block begins."""
    if block:
        arrive(product, begun[block], sums)
        return
    sums[:] = 0.0
    sums[product.steps.start, 0] = 1.0
    close(product, sums)


@compiled
def _one(product: Product, room: Floats, shares: Floats, probabilities: Floats) -> bool:
    """One utterance, in blocks of as many frames as fit into ``room``; all but the last are summed once more.

    ``shares`` are ``(T, P)``, or empty where no gradient is needed.
    """
    steps, num_frames, needs_gradient = product.steps, len(product.emissions), len(shares) > 0
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
        if block and needs_gradient:
            begun[block] = kept[-1]
        _forward(product, block * frames_kept, min((block + 1) * frames_kept, num_frames), sums, kept, ahead)
    masses = np.zeros(width)
    for state in range(num_states):
        add(masses, sums[state], steps.final_weight[state])
    total = masses.sum()
    if not _is_safe(ahead, behind, total):
        return False
    masses /= total
    for place in range(width):
        probabilities[int(product.cost[place])] += masses[place]
    if not needs_gradient:
        return True
    # Costs less their mean: what is left of the gradient of a quotient, without a difference of large numbers.
    mean, again = dot(masses, product.cost), np.empty_like(sums)
    for state in range(num_states):
        sums[state] = steps.final_weight[state] * (product.cost - mean)
    close_back(product, sums, np.empty(width))
    for block in range(num_blocks - 1, -1, -1):
        begin, end = block * frames_kept, min((block + 1) * frames_kept, num_frames)
        if block < num_blocks - 1:
            _begin(product, begun, block, again)
            _forward(product, begin, end, again, kept, ahead)
        sums = _backward(product, begin, end, sums, kept, ahead, behind, 1.0 / total, shares)
    return True


@compiled
def _write(steps: Steps, shares: Floats, gradient: Scores) -> None:
    """Into the gradient's rows of an utterance: the shares of all ports of each label."""
    total = np.zeros(gradient.shape[1])
    for frame in range(len(shares)):
        total[:] = 0.0
        for port in range(shares.shape[1]):
            total[steps.port_label[port]] += shares[frame, port]
        gradient[frame] = total


@compiled
def expect(
    begin: int, end: int, steps: Steps, automata: Automata, inputs: Inputs, room: Floats, results: Results
) -> None:
    """Costs of utterances ``begin..end-1``: their probabilities and the gradient of their mean.

    ``room`` is for the sums of at least one frame; the more, the fewer are summed twice.
    """
    for utterance in range(begin, end):
        low, high = automata.state_splits[utterance], automata.state_splits[utterance + 1]
        first = automata.table_begins[utterance]
        size = automata.num_classes[utterance] * (high - low)
        moves = automata.next_state[first : first + size].reshape((-1, high - low))
        emissions = read_emissions(steps, inputs, utterance)
        product = Product(steps, moves, automata.class_of[utterance], automata.cost[low:high], emissions)
        shares = np.empty((len(emissions) * (len(results.gradient) > 0), len(steps.port_label)))
        is_exact = _one(product, room, shares, results.probabilities[utterance])
        results.is_exact[utterance] = is_exact
        if is_exact and len(shares) > 0:
            _write(steps, shares, results.gradient[utterance])
