"""Prefixes of sequences as the nodes of one growing tree: equal prefixes are the same number."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from wfst_losses.compiled import compiled

Ints: TypeAlias = npt.NDArray[np.int64]


class Prefixes(NamedTuple):
    """Prefixes: node 0 is empty; ``table`` finds a node by its parent and its token; ``filled`` holds one number."""

    parent: Ints
    token: Ints
    depth: Ints
    table: Ints
    filled: Ints


@compiled
def new_prefixes(capacity: int) -> Prefixes:
    """The empty prefix, and room for others."""
    table = np.full(4 * capacity, -1, np.int64)
    zeros = np.zeros(capacity, np.int64)
    nothing = np.full(capacity, np.int64(-1))
    return Prefixes(nothing, nothing.copy(), zeros, table, np.ones(1, np.int64))


@compiled
def _place(tree: Prefixes, parent: int, token: int) -> int:
    """Where the table holds the node, or could."""
    mask = np.uint64(len(tree.table) - 1)
    mixed = np.uint64(parent) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(token) * np.uint64(0xC2B2AE3D27D4EB4F)
    place = ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(20) & mask
    while True:
        node = tree.table[place]
        if node < 0 or (tree.parent[node] == parent and tree.token[node] == token):
            return np.int64(place)  # type: ignore[return-value]
        place = (place + np.uint64(1)) & mask


@compiled
def grown_prefixes(tree: Prefixes) -> Prefixes:
    """The same prefixes with twice the room."""
    filled = tree.filled[0]
    larger = new_prefixes(2 * len(tree.parent))
    larger.parent[:filled], larger.token[:filled] = tree.parent[:filled], tree.token[:filled]
    larger.depth[:filled] = tree.depth[:filled]
    larger.filled[0] = filled
    for node in range(1, filled):
        larger.table[_place(larger, larger.parent[node], larger.token[node])] = node
    return larger


@compiled
def child(tree: Prefixes, parent: int, token: int) -> int:
    """The node of a prefix and one more token, made if it is new; there must be room for it."""
    place = _place(tree, parent, token)
    if tree.table[place] < 0:
        node = tree.filled[0]
        tree.parent[node], tree.token[node], tree.depth[node] = parent, token, tree.depth[parent] + 1
        tree.table[place] = node
        tree.filled[0] = node + 1
    return int(tree.table[place])


@compiled
def precedes(tree: Prefixes, node: int, score: float, other: int, other_score: float) -> bool:
    """Rank: by score, then the shorter, then the first in lexicographic order."""
    if score != other_score:
        return score > other_score
    if tree.depth[node] != tree.depth[other]:
        return bool(tree.depth[node] < tree.depth[other])
    is_first = False
    while node != other:
        is_first = tree.token[node] < tree.token[other]
        node, other = tree.parent[node], tree.parent[other]
    return is_first
