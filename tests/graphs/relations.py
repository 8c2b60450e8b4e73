"""Weighted relations of graphs, by walking every path."""

from __future__ import annotations

import math

from tests import oracles
from topologies import Graph

Relation = dict[tuple[oracles.Tokens, oracles.Tokens], float]


def relation(graph: Graph, num_frames: int) -> Relation:
    """Probability of every labelling and output, summed over the paths."""
    found: Relation = {}
    for labelling, written, score in oracles.walk(graph, num_frames):
        found[labelling, written] = found.get((labelling, written), 0.0) + math.exp(score)
    return found
