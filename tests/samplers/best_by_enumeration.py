"""The best distinct sequences by the definition: every path, one score per sequence, sorted."""

from __future__ import annotations

import numpy as np
import torch

from tests import oracles
from tests.lattices.small_lattices import all_paths
from topologies import AbstractTopology
from wfst_losses import LanguageModel
from wfst_losses.lattices import ArcLattice

Ranked = list[tuple[tuple[int, ...], float]]


def ranked(best: dict[tuple[int, ...], float], num_paths: int) -> Ranked:
    """By score, then length, then lexicographically."""
    possible = [(tokens, score) for tokens, score in best.items() if score > -np.inf]
    return sorted(possible, key=lambda item: (-item[1], len(item[0]), item[0]))[:num_paths]


def of_topology(
    topology: AbstractTopology, log_probs: torch.Tensor, num_paths: int, model: LanguageModel | None = None
) -> Ranked:
    """Of all readings of a topology, with the model's score where there is one."""
    found = oracles.readings(topology, len(log_probs))
    scores = oracles.reading_scores(topology, log_probs).tolist()
    best: dict[tuple[int, ...], float] = {}
    for output, score in zip(found.outputs, scores, strict=True):
        best[output] = max(best.get(output, -np.inf), score)
    if model is not None:
        best = {output: score + model.score(output) for output, score in best.items()}
    return ranked(best, num_paths)


def of_lattice(lattice: ArcLattice, utterance: int, num_paths: int) -> Ranked:
    """Of all paths of an utterance."""
    best: dict[tuple[int, ...], float] = {}
    for arcs, tokens in all_paths(lattice, utterance):
        score = sum((float(lattice.arc_scores[arc]) for arc in arcs), 0.0)
        best[tokens] = max(best.get(tokens, -np.inf), score)
    return ranked(best, num_paths)
