"""Lossless compact has correct's paths, each with its weight, and about compact's arcs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import topologies
from tests.graphs.relations import relation
from tests.graphs.test_language_model_denominator import bigram, dense, sparse, wanted_arcs
from tests.topologies.checks import random_log_probs, total_log_mass
from topologies import EPSILON, Graph, compose_graph
from wfst_losses import LanguageModel
from wfst_losses.graphs.lossless_compact import FORMS, lossless_compact


def correct(grammar: Graph, num_labels: int) -> Graph:
    return compose_graph(topologies.build("correct", num_labels).graph(), grammar).batch.graph(0)


def random_grammar(seed: int) -> tuple[Graph, int]:
    """States that read a label several times, write something else, and back off in more than one way."""
    random = np.random.default_rng(seed)
    num_states, num_labels = int(random.integers(1, 5)), int(random.integers(2, 5))
    num_arcs = int(random.integers(2, 12))
    source, destination = random.integers(num_states, size=(2, num_arcs))
    label = random.integers(1, num_labels, size=num_arcs)
    back = (source < destination) & (random.random(num_arcs) < 0.5)
    label[back] = EPSILON
    final_score = np.where(random.random(num_states) < 0.6, random.normal(size=num_states), -np.inf)
    output = np.where(random.random(num_arcs) < 0.7, random.integers(1, 4, size=num_arcs), EPSILON)
    return Graph(source, destination, label, output, random.normal(size=num_arcs), final_score), num_labels


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(40))
def test_paths_of_random_grammars(seed: int, form: str) -> None:
    grammar, num_labels = random_grammar(seed)
    for num_frames in range(4):
        wanted = relation(correct(grammar, num_labels), num_frames)
        assert relation(lossless_compact(grammar, form=form), num_frames) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backoff", ["failure", "epsilon"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_total_mass_over_language_models(order: int, backoff: str, form: str) -> None:
    random = np.random.default_rng(order)
    sequences = [random.integers(1, 12, size=6).tolist() for _ in range(15)]
    grammar = LanguageModel.from_counts(sequences, 12, order).graph(backoff)
    log_probs = random_log_probs(order, 2, 9, 12)
    wanted = total_log_mass(correct(grammar, 12), log_probs)
    found = total_log_mass(lossless_compact(grammar, form=form), log_probs)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    # And not compact's, which counts more.
    compact = compose_graph(topologies.build("compact", 12).graph(), grammar).batch.graph(0)
    assert (total_log_mass(compact, log_probs) > wanted + 1e-3).all()


@pytest.mark.parametrize(
    ("num_tokens", "num_successors", "seed"),
    [(300, 9, 0), (40, 5, 1), (30, 1, 2)],
)
def test_arcs_over_sparse_bigrams(num_tokens: int, num_successors: int, seed: int) -> None:
    rows = sparse(num_tokens, num_successors, seed)
    model = bigram(rows, set(range(num_tokens + 1))).graph()
    repeating = [history for history, token in rows if history == token]
    arcs = sum(history in repeating for history, _ in rows)
    # An expanded state has blank in place of its return, its own arcs but one, and here is final too.
    expanded = lossless_compact(model)
    assert expanded.num_arcs == wanted_arcs("compact", rows) + arcs - len(repeating)
    assert np.count_nonzero(expanded.final_score > -np.inf) == num_tokens + 1 + len(repeating)
    shared = lossless_compact(model, form="shared")
    assert shared.num_arcs == wanted_arcs("compact", rows) + 2 * len(repeating)
    assert shared.num_arcs < wanted_arcs("correct", rows)


def test_dense_bigrams_are_where_only_sharing_helps() -> None:
    rows = dense(300)
    model = bigram(rows, set(range(301))).graph()
    assert lossless_compact(model).num_arcs == wanted_arcs("correct", rows) == 180_901
    assert lossless_compact(model, form="shared").num_arcs == wanted_arcs("compact", rows) + 600


def test_a_state_that_every_token_enters_takes_trees() -> None:
    grammar = LanguageModel.uniform(500).graph()
    assert lossless_compact(grammar).num_arcs == 500**2
    assert lossless_compact(grammar, form="shared").num_arcs < 11 * 500


def test_bad_grammars_are_refused() -> None:
    with pytest.raises(ValueError, match="grammar reads 0, the blank"):
        lossless_compact(topologies.build("minimal", 3).graph())
    cycle = Graph([0, 1, 0], [1, 0, 0], [EPSILON, EPSILON, 1], [EPSILON, EPSILON, 1], [0.0] * 3, [0.0, 0.0])
    with pytest.raises(ValueError, match="form a cycle"):
        lossless_compact(cycle)
    with pytest.raises(ValueError, match="form is 'small', expected one of 'expanded', 'shared'"):
        lossless_compact(LanguageModel.uniform(3).graph(), form="small")


def test_a_grammar_without_any_path_is_an_empty_graph() -> None:
    nothing = Graph([0], [0], [1], [1], [0.0], [-math.inf])
    assert lossless_compact(nothing).num_arcs == 0
