"""Random paths through an acyclic lattice."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled
from wfst_losses.compiled.floats import LOG2_E, exponent_of, power_of_two
from wfst_losses.compiled.random import next_uniform
from wfst_losses.lattices.weights import NOTHING, weigh

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Rests(NamedTuple):
    """Sums over the rest of all paths from each state of one utterance, and what each arc adds to its source's.

    Attributes:
        mantissas, exponents: ``(num_states,)``.
        shares: ``(A,)`` each arc's part of the sum at its source, 0..1.
    """

    mantissas: Floats
    exponents: Ints
    shares: Floats


@compiled
def rests(destination: Ints, scores: Floats, out_splits: Ints) -> Rests:
    """Of one utterance with states from 0 to the last, its end; arcs in ascending order of source."""
    num_states = len(out_splits) - 1
    factors, powers = weigh(scores)
    mantissas, exponents = np.zeros(num_states, np.float64), np.full(num_states, np.int64(NOTHING))
    mantissas[num_states - 1 :], exponents[num_states - 1 :] = 1.0, 0
    for state in range(num_states - 2, -1, -1):
        peak = np.int64(NOTHING)
        for arc in range(out_splits[state], out_splits[state + 1]):
            there = destination[arc]
            factors[arc] *= mantissas[there]
            powers[arc] += exponents[there]
            if factors[arc] > 0.0:
                peak = max(peak, powers[arc])
        total = 0.0
        for arc in range(out_splits[state], out_splits[state + 1]):
            # An impossible arc may lie above the peak: 0 times anything finite.
            factors[arc] *= power_of_two(min(powers[arc] - peak, 0))
            total += factors[arc]
        if total > 0.0:
            for arc in range(out_splits[state], out_splits[state + 1]):
                factors[arc] /= total
            excess = exponent_of(total)
            mantissas[state], exponents[state] = total * power_of_two(-excess), peak + excess
    return Rests(mantissas, exponents, factors)


@compiled
def log_sum(sums: Rests) -> float:
    """Over all paths, -inf if there is none."""
    if len(sums.mantissas) == 0 or sums.mantissas[0] == 0.0:
        return -np.inf
    return float(math.log(sums.mantissas[0]) + sums.exponents[0] / LOG2_E)


@compiled
def walk(destination: Ints, out_splits: Ints, sums: Rests, seeds: Ints, steps: Ints) -> None:
    """Into the rows of ``steps`` one path per seed: the arcs taken, -1 as given beyond its end.

    ``sums.shares`` becomes cumulative in the rows of the states that are passed.
    """
    end, shares = len(out_splits) - 2, sums.shares
    is_cumulative = np.zeros(len(out_splits), np.bool_)
    for path in range(len(seeds)):
        state, stream, length = 0, np.uint64(seeds[path]), 0
        while state != end:
            low, high = out_splits[state], out_splits[state + 1]
            if not is_cumulative[state]:
                is_cumulative[state] = True
                for arc in range(low + 1, high):
                    shares[arc] += shares[arc - 1]
            stream, uniform = next_uniform(stream)
            # Rounding leaves the sum of the shares beside 1; the first above the point is one whose own is not 0.
            point = uniform * shares[high - 1]
            while high - low > 1:
                middle = (low + high - 1) // 2
                if shares[middle] > point:
                    high = middle + 1
                else:
                    low = middle + 1
            steps[path, length] = low
            length += 1
            state = destination[low]


@compiled
def longest_path(source: Ints, destination: Ints, num_states: int) -> int:
    """The most arcs on any path; arcs in ascending order of source."""
    depth = np.zeros(num_states, np.int64)
    for arc in range(len(source)):
        depth[destination[arc]] = max(depth[destination[arc]], depth[source[arc]] + 1)
    return int(depth.max()) if num_states else 0
