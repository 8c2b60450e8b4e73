"""Denominator graphs: their sizes in closed form, their paths, and that they are kept between calls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from wfst_losses import LanguageModel
from wfst_losses.graphs.denominator import denominator, scored_denominator

NAMES = list(topologies.TOPOLOGIES)[:4]
Rows = list[tuple[int, int]]


def dense(num_tokens: int) -> Rows:
    return [(history, token) for history in range(num_tokens + 1) for token in range(1, num_tokens + 1)]


def sparse(num_tokens: int, num_successors: int, seed: int) -> Rows:
    """Each history has a few tokens after it, one of them the next, so that every history is met."""
    random = np.random.default_rng(seed)
    return [
        (history, token)
        for history in range(num_tokens + 1)
        for token in sorted({history % num_tokens + 1, *(1 + random.permutation(num_tokens)[:num_successors]).tolist()})
    ]


def bigram(rows: Rows, finals: set[int]) -> LanguageModel:
    history, token = np.array(rows).T
    num_states = 1 + int(max(history.max(), token.max()))
    final_score = [math.log(0.1) if state in finals else -math.inf for state in range(num_states)]
    return LanguageModel.from_arcs(history, token, token, np.log(np.full(len(rows), 0.2)), final_score)


def wanted_arcs(name: str, rows: Rows) -> int:
    """Closed forms for a bigram without k2's super-final arcs."""
    num_arcs, num_states = len(rows), 1 + max(history for history, _ in rows)
    from_start = sum(history == 0 for history, _ in rows)
    repeats = sum(history == token for history, token in rows)
    correct = 2 * num_arcs - from_start - repeats + (2 * num_states - 1) + (num_states - 1)
    return {
        "minimal": num_arcs + num_states,
        "compact": num_arcs + num_states + 2 * (num_states - 1),
        "modified": 2 * num_arcs + num_states + 2 * (num_states - 1),
        "correct": correct,
        "selfless": correct - (num_states - 1),
    }[name]


BIGRAMS = {
    "dense 3": dense(3),
    "dense 20": dense(20),
    "sparse 40": sparse(40, 5, 0),
    "sparse 12 of one": sparse(12, 1, 1),
    "one token": dense(1),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", BIGRAMS.values(), ids=BIGRAMS)
def test_sizes_over_bigrams(rows: Rows, name: str) -> None:
    num_tokens = max(token for _, token in rows)
    topology = topologies.build(name, num_tokens + 1)
    batch = denominator(topology, bigram(rows, set(range(num_tokens + 1))))
    assert batch.num_graphs == 1
    assert batch.num_arcs == wanted_arcs(name, rows)
    if name == "compact":
        modified = denominator(topology, bigram(rows, set(range(num_tokens + 1))), epsilon_free=True)
        assert modified.num_arcs == wanted_arcs("modified", rows)


@pytest.mark.parametrize("num_tokens", [2, 7, 30])
def test_sizes_over_dense_bigrams_as_k2_counts_them(num_tokens: int) -> None:
    every = num_tokens + 1
    model = bigram(dense(num_tokens), set(range(every)))

    def size(name: str, epsilon_free: bool = False) -> int:
        batch = denominator(topologies.build(name, every), model, epsilon_free=epsilon_free)
        return batch.num_arcs + int(np.count_nonzero(batch.final_score > -np.inf))

    assert size("correct") == (2 * num_tokens + 1) * (num_tokens + 2)
    assert size("compact", epsilon_free=True) == 2 * num_tokens**2 + 6 * num_tokens + 2
    assert size("minimal") == num_tokens**2 + 3 * num_tokens + 2
    assert size("compact") == num_tokens**2 + 5 * num_tokens + 2


@pytest.mark.parametrize("backoff", ["failure", "epsilon"])
@pytest.mark.parametrize("name", NAMES)
def test_paths(name: str, backoff: str) -> None:
    model = LanguageModel.from_counts([[1, 2], [2, 2, 1], [1]], 3, 3)
    topology = topologies.build(name, 3)
    batch = denominator(topology, model, backoff=backoff)
    found: dict[tuple[oracles.Tokens, oracles.Tokens], float] = {}
    for labelling, written, score in oracles.walk(batch.graph(0), 4):
        found[labelling, written] = found.get((labelling, written), 0.0) + math.exp(score)
    wanted = {
        reading: count * math.exp(model.score(reading[1], backoff))
        for reading, count in oracles.reading_counts(topology, 4).items()
    }
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_the_graph_is_kept_and_scores_can_be_changed(blank: int) -> None:
    tokens = [label for label in range(4) if label != blank]
    model = LanguageModel.from_counts([[tokens[0], tokens[2]], [tokens[1]]], 4, 3, blank=blank)
    topology = topologies.build("correct", 4)
    kept = denominator(topology, model, blank=blank)
    assert denominator(topologies.build("correct", 4), model, blank=blank) is kept
    scores = model.scores
    for _ in range(2):
        batch, arc_scores, final_scores = scored_denominator(topology, model, scores, blank=blank)
        again = denominator(
            topology,
            LanguageModel.from_arcs(
                model.arcs.source, model.arcs.destination, model.arcs.input_label, scores, model.arcs.final_score,
                model.arcs.start,
            ),
            blank=blank,
        )  # fmt: skip
        assert batch.input_label.tolist() == again.input_label.tolist()
        assert arc_scores.tolist() == pytest.approx(again.score.tolist(), abs=1e-14)
        assert final_scores.tolist() == pytest.approx(again.final_score.tolist(), abs=1e-14)
        scores = scores - 0.01 * torch.arange(len(scores))


def test_a_model_that_reads_the_blank_is_refused() -> None:
    with pytest.raises(ValueError, match="language_model reads label 2, the blank; expected tokens only"):
        denominator(topologies.build("correct", 3), LanguageModel.uniform(3), blank=2)
