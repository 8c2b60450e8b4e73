"""Best paths against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import search
from lexicon import WORDS, labels_to_words, make_tokens, read_tokens, spell, text_to_labels, write_tokens

import topologies
from wfst_losses import LanguageModel


def collapse(labels, topology):
    """Tokens a label sequence is read as; None where the topology has no such path."""
    if topology == "minimal":
        return tuple(label for label in labels if label)
    if topology == "selfless" and any(a == b != 0 for a, b in itertools.pairwise(labels)):
        return None
    return tuple(label for before, label in zip((0, *labels), labels, strict=False) if label and label != before)


@pytest.mark.parametrize("topology", ["correct", "compact", "minimal", "selfless"])
def test_greedy_is_the_best_label_sequence_the_topology_allows(topology):
    rng = np.random.default_rng(0)
    graph = search.search_graph(topology, ["<blk>", "a", "b", "c"], lexicon=False)
    lengths = np.array([5, 3, 4, 1, 5, 5, 2, 5])
    log_probs = np.log(rng.dirichlet(np.ones(4), size=(len(lengths), 5))).astype(np.float32)
    found = search.best_paths(graph, log_probs, lengths)
    for row, length, written in zip(log_probs, lengths, found, strict=True):
        best = max(
            (
                labels
                for labels in itertools.product(range(4), repeat=int(length))
                if collapse(labels, topology) is not None
            ),
            key=lambda labels: sum(row[t, label] for t, label in enumerate(labels)),
        )
        assert tuple(written) == collapse(best, topology)


def forced_score(log_probs, labels):
    """Best alignment of a token sequence in the correct topology, by the textbook recursion."""
    extended = [0]
    for label in labels:
        extended += [label, 0]
    score = np.full(len(extended), -np.inf)
    score[: min(2, len(extended))] = log_probs[0, extended[:2]]
    for row in log_probs[1:]:
        before = score.copy()
        for state, label in enumerate(extended):
            choices = [before[state]]
            if state:
                choices.append(before[state - 1])
            if state > 1 and label and label != extended[state - 2]:
                choices.append(before[state - 2])
            score[state] = max(choices) + row[label]
    return score[-2:].max()


def test_lexicon_search_is_the_best_word_sequence():
    tokens = make_tokens()
    rng = np.random.default_rng(1)
    graph = search.search_graph("correct", tokens, lexicon=True)
    log_probs = np.log(rng.dirichlet(np.full(len(tokens), 0.3), size=(6, 9)) + 1e-9).astype(np.float32)
    found = search.best_paths(graph, log_probs, np.full(6, 9))
    sequences = [
        s for n in range(4) for s in itertools.product(range(10), repeat=n) if sum(len(WORDS[d]) for d in s) <= 9
    ]
    for row, written in zip(log_probs, found, strict=True):
        scores = [forced_score(row, text_to_labels(" ".join(WORDS[d] for d in s), tokens)) for s in sequences]
        assert tuple(written) == sequences[int(np.argmax(scores))]


@pytest.mark.parametrize("topology", list(topologies.TOPOLOGIES))
def test_every_word_is_found_through_every_topology(topology):
    tokens = make_tokens()
    graph = search.search_graph(topology, tokens, lexicon=True)
    for digit, word in enumerate(WORDS):
        labels = [step for label in text_to_labels(word, tokens) for step in (label, 0)]
        log_probs = np.full((1, len(labels), len(tokens)), -9.0, dtype=np.float32)
        log_probs[0, np.arange(len(labels)), labels] = 0.0
        assert search.best_paths(graph, log_probs, np.array([len(labels)])) == [[digit]]


def test_an_utterance_no_path_fits_writes_nothing():
    graph = search.search_graph("correct", ["<blk>", "a"], lexicon=False)
    assert search.best_paths(graph, np.full((1, 3, 2), -np.inf, dtype=np.float32), np.array([3])) == [[]]


def test_tokens_and_spellings_go_there_and_back(tmp_path):
    tokens = make_tokens()
    assert tokens[0] == "<blk>"
    assert spell("zero") == ["\u2581z", "e", "r", "o"]
    write_tokens(tmp_path / "tokens.txt", tokens)
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8").startswith("<blk> 0\n")
    assert read_tokens(tmp_path / "tokens.txt") == tokens
    text = " ".join(WORDS)
    assert labels_to_words(text_to_labels(text, tokens), tokens) == list(WORDS)
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the labels 0 to 1"):
        read_tokens(tmp_path / "tokens.txt")


@pytest.mark.parametrize("topology", ["correct", "minimal"])
@pytest.mark.parametrize("scale", [0.0, 0.7, 3.0])
def test_a_token_language_model_weighs_the_best_path(topology, scale):
    tokens = ["<blk>", "a", "b", "c"]
    model = LanguageModel.from_counts([[1, 1, 2], [1], [3, 1, 1]], num_labels=4, order=1)
    graph = search.language_model_graph(topology, tokens, model, scale)
    rng = np.random.default_rng(1)
    log_probs = np.log(rng.dirichlet(np.ones(4), size=(6, 4))).astype(np.float32)
    found = search.best_paths(graph, log_probs, np.full(6, 4))
    sequences = list(itertools.product(range(4), repeat=4))
    written_by = [collapse(labels, topology) for labels in sequences]
    of_model = scale * model.sequence_scores([np.array(w, dtype=np.int64) for w in written_by]).numpy()
    for row, written in zip(log_probs, found, strict=True):
        scores = row[np.arange(4), np.array(sequences)].sum(axis=1) + of_model
        assert tuple(written) == written_by[int(scores.argmax())]
