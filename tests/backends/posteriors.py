"""Exact probabilities of whole paths, by walking graphs, and how far frequencies lie from them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from tests import oracles
from topologies import Graph
from wfst_losses.graphs.paths import Paths

Key = tuple[oracles.Tokens, oracles.Tokens]


def path_probabilities(graph: Graph, log_probs: torch.Tensor, scale: float = 1.0) -> dict[Key, float]:
    """Of each labelling and output together, ``softmax(scale * score)`` over the paths; empty where there is none."""
    frames = torch.arange(len(log_probs))
    keys, scores = [], []
    for labelling, output, score in oracles.walk(graph, len(log_probs)):
        total = scale * (score + float(log_probs[frames, list(labelling)].double().sum()))
        if total > -np.inf:
            keys.append((labelling, output))
            scores.append(total)
    probabilities: dict[Key, float] = {}
    if scores:
        for key, score in zip(keys, np.exp(np.array(scores) - np.logaddexp.reduce(scores)), strict=True):
            probabilities[key] = probabilities.get(key, 0.0) + float(score)
    return probabilities


def assert_frequencies(paths: Paths, utterance: int, num_frames: int, wanted: dict[Key, float], num_paths: int) -> None:
    """The paths of an utterance occur as often as they should, each within 5 standard errors; no others do."""
    rows = np.flatnonzero(paths.utterances == utterance)
    assert len(rows) == (num_paths if wanted else 0)
    assert (paths.steps[rows, num_frames:] == -1).all()
    counts = Counter((tuple(paths.steps[row, :num_frames].tolist()), tuple(paths.tokens[row].tolist())) for row in rows)
    assert counts.keys() <= wanted.keys()
    for key, probability in wanted.items():
        error = np.sqrt(max(num_paths * probability * (1 - probability), 1.0))
        assert abs(counts[key] - num_paths * probability) < 5 * error, key
