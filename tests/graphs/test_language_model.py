"""Language models: every sequence has the score of the definition, in every form of the model."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.graphs.random_ngrams import NAMES, arpa_text, failure_score, random_entries
from topologies import EPSILON, Graph
from wfst_losses import LanguageModel

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "language_models.json").read_text())
BACKOFFS = ["failure", "epsilon"]


def all_sequences(num_labels: int, longest: int) -> list[tuple[int, ...]]:
    tokens = range(1, num_labels)
    return [row for length in range(longest + 1) for row in itertools.product(tokens, repeat=length)]


def walked(graph: Graph, sequence: tuple[int, ...]) -> float:
    """Log-sum over the paths of an acceptor that read a sequence."""
    scores = [score for read, written, score in oracles.walk(graph, len(sequence)) if read == written == sequence]
    return float(np.logaddexp.reduce(scores)) if scores else -math.inf


def from_text(text: str, folder: Path, tokens: list[str] | None = None) -> LanguageModel:
    path = folder / "model.arpa"
    path.write_text(text, encoding="utf-8")
    return LanguageModel.from_arpa(path, tokens or NAMES)


@pytest.mark.parametrize("backoff", BACKOFFS)
@pytest.mark.parametrize("case", VECTORS, ids=[f"order {case['order']}" for case in VECTORS])
def test_published_scores(case: dict, backoff: str, tmp_path: Path) -> None:
    model = from_text(case["arpa"], tmp_path, case["tokens"])
    for row in case["sequences"]:
        sequence = tuple(case["tokens"].index(word) for word in row["words"])
        assert model.score(sequence, backoff) == pytest.approx(row[backoff], abs=1e-12)
        assert walked(model.graph(backoff), sequence) == pytest.approx(row[backoff], abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_failure_is_the_textbooks_recursion(seed: int, order: int, tmp_path: Path) -> None:
    entries = random_entries(seed, order)
    model = from_text(arpa_text(entries, order), tmp_path)
    graph = model.graph()
    for sequence in all_sequences(4, 4):
        wanted = failure_score(entries, order, tuple(NAMES[token] for token in sequence))
        assert model.score(sequence) == pytest.approx(wanted, abs=1e-11)
        assert walked(graph, sequence) == pytest.approx(wanted, abs=1e-11)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_epsilon_sums_all_ways_of_backing_off(seed: int, order: int, tmp_path: Path) -> None:
    model = from_text(arpa_text(random_entries(seed, order), order), tmp_path)
    differs = False
    for sequence in all_sequences(4, 3):
        wanted = walked(model.arcs, sequence)
        assert model.score(sequence, "epsilon") == pytest.approx(wanted, abs=1e-11)
        differs = differs or abs(wanted - model.score(sequence)) > 1e-3
    assert differs


def test_both_ways_of_making_failure_are_met(tmp_path: Path) -> None:
    counts: Counter[bool] = Counter()
    for seed in range(6):
        model = from_text(arpa_text(random_entries(seed, 2), 2), tmp_path)
        expanded = model.realised().expanded
        counts.update(expanded[model.arcs.source[model.arcs.input_label == EPSILON]].tolist())
        left = model.graph().source[model.graph().input_label == EPSILON]
        assert not expanded[left].any()
    assert min(counts[True], counts[False]) > 3


def test_explicit_weights_and_expansion_by_hand() -> None:
    # State 1 lists token 1 with 1/2, state 0 behind it with 1/3; the back-off weighs 1/4, then 3.
    for backoff, expanded in ((1 / 4, False), (3.0, True)):
        model = LanguageModel.from_arcs(
            [1, 1, 0, 0], [0, 0, 0, 0], [1, EPSILON, 1, 2], np.log([1 / 2, backoff, 1 / 3, 1 / 5]), [-0.5, -np.inf], 1
        )
        assert model.score([1]) == pytest.approx(math.log(1 / 2) - 0.5, abs=1e-15)
        assert model.score([2]) == pytest.approx(math.log(backoff / 5) - 0.5, abs=1e-15)
        assert model.score([1], "epsilon") == pytest.approx(math.log(1 / 2 + backoff / 3) - 0.5, abs=1e-15)
        graph = model.graph()
        assert (graph.num_epsilon_arcs == 0) == expanded
        if not expanded:
            arc = int(np.flatnonzero((graph.source == 1) & (graph.input_label == 1))[0])
            assert graph.score[arc] == pytest.approx(math.log(1 / 2 - 1 / 12), abs=1e-15)


@pytest.mark.parametrize("backoff", BACKOFFS)
def test_scores_have_gradients(backoff: str, tmp_path: Path) -> None:
    model = from_text(arpa_text(random_entries(3, 3), 3), tmp_path)
    sequences = [np.array(row, dtype=np.int64) for row in all_sequences(4, 3)]
    possible = model.sequence_scores(sequences, backoff=backoff) > -torch.inf
    leaf = model.scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: model.sequence_scores(sequences, s, backoff=backoff)[possible], leaf)
    found = model.realised(leaf, backoff=backoff)
    assert found.graph.score.tolist() == model.graph(backoff).score.tolist() == found.arc_scores.tolist()
    finite = found.final_scores > -torch.inf

    def graph_scores(scores: torch.Tensor) -> torch.Tensor:
        found = model.realised(scores, backoff=backoff)
        return torch.cat([found.arc_scores, found.final_scores[finite]])

    assert torch.autograd.gradcheck(graph_scores, leaf)


def test_uniform() -> None:
    model = LanguageModel.uniform(5)
    assert model.num_labels == 5
    assert model.score([]) == pytest.approx(-math.log(5))
    assert model.score([4, 1, 1]) == pytest.approx(-4 * math.log(5))
    assert model.score([0]) == -math.inf
    assert model.score([5]) == -math.inf
    assert LanguageModel.uniform(3, blank=2).score([0, 1]) == pytest.approx(-3 * math.log(3))


def from_counts_by_definition(sequences: list[list[int]], num_labels: int, order: int, discounting: str):
    """``log p(sequence)`` by the formulas, n-grams counted anew each time."""
    end = "end"
    counts = [
        Counter(
            tuple(row[place - length + 1 : place + 1])
            for row in [["start", *sequence, end] for sequence in sequences]
            for place in range(max(1, length - 1), len(row))
        )
        for length in range(1, order + 1)
    ]

    def prob(history: tuple, token: object) -> float:
        lower = prob(history[1:], token) if history else 1 / num_labels
        table = counts[len(history)]
        after = {ngram[-1]: count for ngram, count in table.items() if ngram[:-1] == history}
        if not after:
            return lower
        if discounting == "witten_bell":
            return (after.get(token, 0) + len(after) * lower) / (sum(after.values()) + len(after))
        once, twice = (list(table.values()).count(number) for number in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        kept = max(after.get(token, 0) - discount, 0) / sum(after.values())
        return kept + discount * len(after) / sum(after.values()) * lower

    def log_prob(sequence: tuple[int, ...]) -> float:
        row = ("start", *sequence, end)
        return sum(math.log(prob(row[max(0, i - order + 1) : i], row[i])) for i in range(1, len(row)))

    return log_prob


@pytest.mark.parametrize("discounting", ["absolute", "witten_bell"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_from_counts_is_the_formula(order: int, discounting: str) -> None:
    random = np.random.default_rng(order)
    sequences = [random.integers(1, 4, size=random.integers(0, 6)).tolist() for _ in range(12)]
    model = LanguageModel.from_counts(sequences, 5, order, discounting)
    wanted = from_counts_by_definition(sequences, 5, order, discounting)
    for sequence in all_sequences(5, 3):
        assert model.score(sequence) == pytest.approx(wanted(sequence), abs=1e-12)
        assert walked(model.graph(), sequence) == pytest.approx(wanted(sequence), abs=1e-11)


@pytest.mark.parametrize("sequences", [[], [[]], [[1], [1], [1]], [[1, 2]] * 3])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_state_of_a_counted_model_is_a_distribution(sequences: list[list[int]], order: int) -> None:
    model = LanguageModel.from_counts(sequences, 4, order)
    graph = model.graph()
    sums = np.zeros(graph.num_states)
    np.add.at(sums, graph.source, np.exp(graph.score))
    sums += np.exp(graph.final_score)
    # Explicit weights leave room for what the back-off arc brings back.
    assert sums[model.realised().expanded].tolist() == pytest.approx([1] * int(model.realised().expanded.sum()))
    mass = sum(math.exp(model.score(row)) for row in all_sequences(4, 6))
    assert 0.5 < mass < 1 + 1e-12
    if not sequences:
        assert model.score([3, 2]) == pytest.approx(-3 * math.log(4))


def test_tokens_by_number_and_the_end_are_kept_apart() -> None:
    # One token of number 1: the end's own number, 2 inside, is no token.
    model = LanguageModel.from_arcs([0], [0], [1], [-1.0], [-0.5])
    assert model.num_labels == 2
    assert model.score([1, 1]) == -2.5
    assert model.score([2]) == model.score([1, 2, 1]) == -math.inf


def test_a_sum_through_a_topology_is_that_of_its_sequences(tmp_path: Path) -> None:
    model = from_text(arpa_text(random_entries(1, 3), 3), tmp_path)
    batch = topologies.compose_graph(topologies.build("minimal", 4).graph(), model.graph()).batch
    total = np.logaddexp.reduce([score for _, _, score in oracles.walk(batch.graph(0), 2)])
    # Minimal: one labelling with two tokens, two with one, one with none.
    ways = [(row, math.comb(2, len(row))) for row in all_sequences(4, 2)]
    wanted = math.log(sum(count * math.exp(model.score(row)) for row, count in ways))
    assert float(total) == pytest.approx(wanted, abs=1e-12)
