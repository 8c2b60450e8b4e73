"""Pairs of a lattice's state and a prefix, and the arcs between them: found by their key, grown as they come."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled, compiled_inline

Ints: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[np.floating[Any]]


class Pairs(NamedTuple):
    """Composed states in the order in which they were met, the first at the start.

    Attributes:
        state, node: of each.
        link: the pair met before it at its state, -1 for none.
        mantissas, exponents: the sum over all paths to the pair.
    """

    state: Numbers
    node: Numbers
    link: Numbers
    mantissas: Floats
    exponents: Ints


class Steps(NamedTuple):
    """Composed arcs in an order in which every pair comes to be final before it is left."""

    origin: Numbers
    target: Numbers
    arc: Numbers
    scores: Scores


class Composition(NamedTuple):
    """What the forward pass leaves for the backward one.

    Attributes:
        head: the pair met last at each state, -1 for none.
        table: finds a pair.
        filled: how many pairs there are, and how many steps; and where they are not all, for want of room, how many
            bytes were wanted, else 0.
    """

    pairs: Pairs
    steps: Steps
    head: Numbers
    table: Numbers
    filled: Ints


@compiled_inline
def slot_of(state: int, node: int, pairs: Pairs, table: Numbers) -> int:
    """Where the table holds the pair, or could."""
    mask = np.uint64(len(table) - 1)
    mixed = np.uint64(state) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(node) * np.uint64(0xC2B2AE3D27D4EB4F)
    place = (mixed ^ (mixed >> np.uint64(32))) & mask
    while table[place] >= 0 and (pairs.state[table[place]] != state or pairs.node[table[place]] != node):
        place = (place + np.uint64(1)) & mask
    return np.int64(place)  # type: ignore[return-value]


@compiled
def _longer(column: npt.NDArray[Any], filled: int, capacity: int) -> npt.NDArray[Any]:
    larger = np.empty(capacity, column.dtype)
    larger[:filled] = column[:filled]
    return larger


@compiled
def wanted_bytes(made: Composition, more: int) -> int:
    """What pairs and composed arcs take while `with_room` makes room for so many more."""
    pairs, steps, _, table, filled = made
    num_pairs, num_steps = len(pairs.node), len(steps.arc)
    if filled[0] + more > num_pairs:
        num_pairs = 2 * (filled[0] + more)
    if filled[1] + more > num_steps:
        num_steps = 2 * (filled[1] + more)
    # The table is a power of two, at most four times the pairs.
    return int(28 * (num_pairs + len(pairs.node)) + 20 * (num_steps + len(steps.arc)) + 16 * num_pairs + 4 * len(table))


@compiled
def with_room(made: Composition, more: int) -> Composition:
    """The same with room for so many more pairs and composed arcs."""
    pairs, steps, head, table, filled = made
    num_pairs, num_steps = filled[0], filled[1]
    if num_steps + more > len(steps.arc):
        capacity = 2 * (num_steps + more)
        steps = Steps(
            _longer(steps.origin, num_steps, capacity),
            _longer(steps.target, num_steps, capacity),
            _longer(steps.arc, num_steps, capacity),
            _longer(steps.scores, num_steps, capacity),
        )
    if num_pairs + more > len(pairs.node):
        capacity = 2 * (num_pairs + more)
        pairs = Pairs(
            _longer(pairs.state, num_pairs, capacity),
            _longer(pairs.node, num_pairs, capacity),
            _longer(pairs.link, num_pairs, capacity),
            _longer(pairs.mantissas, num_pairs, capacity),
            _longer(pairs.exponents, num_pairs, capacity),
        )
    if 2 * len(pairs.node) > len(table):
        size = len(table)
        while size < 2 * len(pairs.node):
            size *= 2
        table = np.full(size, np.int32(-1))
        for pair in range(num_pairs):
            table[slot_of(pairs.state[pair], pairs.node[pair], pairs, table)] = pair
    return Composition(pairs, steps, head, table, filled)


@compiled
def new_composition(num_states: int, capacity: int, like: Scores) -> Composition:
    """The pair at the start, with sum 1, and room for others; scores are held in the type of ``like``."""
    none, nothing = np.full(capacity, np.int32(-1)), np.empty(capacity, np.float64)
    pairs = Pairs(none, none.copy(), none.copy(), nothing, np.zeros(capacity, np.int64))
    steps = Steps(none.copy(), none.copy(), none.copy(), np.empty(capacity, like.dtype))
    head, size = np.full(num_states, np.int32(-1)), 4
    while size < 2 * capacity:
        size *= 2
    table = np.full(size, np.int32(-1))
    pairs.state[0], pairs.node[0], pairs.mantissas[0], head[0] = 0, 0, 1.0, 0
    table[slot_of(0, 0, pairs, table)] = 0
    return Composition(pairs, steps, head, table, np.array([1, 0, 0]))
