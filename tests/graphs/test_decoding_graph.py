"""Decoding graphs have the paths that the definitions give, whichever engine determinises: no more, no fewer."""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.graphs.relations import Relation, relation
from tests.topologies.checks import random_log_probs, total_log_mass
from topologies import EPSILON, Graph, GraphBatch
from wfst_losses import LanguageModel
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.decoding_graph import decoding_graph
from wfst_losses.graphs.determinisation import ENGINES, choose_engine
from wfst_losses.graphs.lexicon import Lexicon, disambiguated
from wfst_losses.graphs.lossless_compact import FORMS

HAS_K2 = importlib.util.find_spec("k2") is not None
EVERY_ENGINE = [pytest.param(name, marks=[pytest.mark.k2] if name == "k2" else []) for name in ENGINES]
NAMES = list(topologies.TOPOLOGIES)[:4]
NUM_LABELS = 4
SILENCE = 3


def random_lexicon(seed: int, silence: int | None = None) -> Lexicon:
    """Homophones, words that begin others, words with several pronunciations."""
    random = np.random.default_rng(seed)
    spellings = [(1,), (1, 2), (1, 2), (2, 2), (3,), (1, 2, 1), (2,)]
    words = [1, 2, 3, 4, 5, 1 + int(random.integers(5))]
    entries = [(word, spellings[place]) for word, place in zip(words, random.permutation(7).tolist(), strict=False)]
    rows = tuple(disambiguated(dict.fromkeys(entries), silence))
    return Lexicon(("<blk>", "a", "b", "c"), ("<eps>", "A", "B", "C", "D", "E"), rows, silence, 0.3)


def random_model(seed: int) -> LanguageModel:
    random = np.random.default_rng(seed)
    texts = [(1 + random.integers(5, size=random.integers(1, 4))).tolist() for _ in range(4)]
    arcs = LanguageModel.from_counts(texts, 6, 1 + seed % 3).arcs
    # No two ways may be equally good, or engines would differ in the one they take for the best.
    score = arcs.score + random.normal(scale=0.1, size=arcs.num_arcs)
    return LanguageModel.from_arcs(arcs.source, arcs.destination, arcs.input_label, score, arcs.final_score, arcs.start)


def readings_of_words(lexicon: Lexicon, tokens: oracles.Tokens) -> list[tuple[oracles.Tokens, float]]:
    """Every sequence of words that is spelled so, silence between at will, and the log-probability of its silences."""
    found: list[tuple[oracles.Tokens, float]] = []
    without, with_it = math.log(1 - lexicon.silence_probability), math.log(lexicon.silence_probability)

    def after_word(rest: oracles.Tokens, words: oracles.Tokens, score: float) -> None:
        if lexicon.silence is None:
            between(rest, words, score)
            return
        between(rest, words, score + without)
        if rest[:1] == (lexicon.silence,):
            between(rest[1:], words, score + with_it)

    def between(rest: oracles.Tokens, words: oracles.Tokens, score: float) -> None:
        if not rest:
            found.append((words, score))
        for word, spelling, _ in lexicon.entries:
            if rest[: len(spelling)] == spelling:
                after_word(rest[len(spelling) :], (*words, word), score)

    after_word(tokens, (), 0.0)
    return found


def wanted_relation(
    name: str, lexicon: Lexicon, model: LanguageModel | None, num_frames: int, backoff: str = "epsilon"
) -> Relation:
    """By enumeration: readings of the topology, spelled by words, weighed by the model."""
    spelled = functools.cache(lambda tokens: readings_of_words(lexicon, tokens))
    score = functools.cache(lambda words: 0.0 if model is None else model.score(words, backoff))
    wanted: Relation = {}
    for (labelling, tokens), count in oracles.reading_counts(topologies.build(name, NUM_LABELS), num_frames).items():
        for words, silences in spelled(tokens):
            weight = count * math.exp(silences + score(words))
            if weight:
                wanted[labelling, words] = wanted.get((labelling, words), 0.0) + weight
    return wanted


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("silence", [None, SILENCE])
@pytest.mark.parametrize("seed", range(4))
def test_paths_by_enumeration(seed: int, silence: int | None, engine: str) -> None:
    lexicon, model = random_lexicon(seed, silence), random_model(seed)
    backoff = ("epsilon", "failure")[seed % 2]
    for name in NAMES:
        topology = topologies.build(name, NUM_LABELS)
        made = decoding_graph(topology, model, lexicon, engine=engine, backoff=backoff)
        assert made.writes_words
        wanted = wanted_relation(name, lexicon, model, 3, backoff)
        # Engines keep float32.
        assert relation(made.graph, 3) == pytest.approx(wanted, rel=3e-6)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_words_known_late_are_written_late(engine: str) -> None:
    # The word that is spelled as silence has no symbol: only what follows tells the two apart.
    entries = ((1, (3,), 0), (2, (1,), 1), (3, (1, 2), 0))
    lexicon = Lexicon(("<blk>", "a", "b", "c"), ("<eps>", "A", "B", "C"), entries, SILENCE, 0.3)
    model = LanguageModel.from_counts([[1, 2], [3, 1]], 4, 2)
    for name in NAMES:
        made = decoding_graph(topologies.build(name, NUM_LABELS), model, lexicon, engine=engine)
        assert relation(made.graph, 4) == pytest.approx(wanted_relation(name, lexicon, model, 4), rel=3e-6)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("form", FORMS)
def test_lossless_compact_has_the_paths_of_correct(form: str, engine: str) -> None:
    for seed in range(3):
        lexicon, model = random_lexicon(seed), random_model(seed)
        topology = topologies.build("correct", NUM_LABELS)
        made = decoding_graph(topology, model, lexicon, engine=engine, lossless=form)
        assert relation(made.graph, 4) == pytest.approx(wanted_relation("correct", lexicon, model, 4), rel=3e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_lexicon_alone_lets_any_words_follow(name: str) -> None:
    lexicon = random_lexicon(5)
    made = decoding_graph(topologies.build(name, NUM_LABELS), lexicon=lexicon, engine="openfst")
    assert relation(made.graph, 3) == pytest.approx(wanted_relation(name, lexicon, None, 3))


@pytest.mark.parametrize("name", NAMES)
def test_without_a_lexicon_tokens_are_written(name: str) -> None:
    topology = topologies.build(name, 3)
    model = LanguageModel.from_counts([[1, 2], [2, 2, 1]], 3, 2)
    made = decoding_graph(topology, model)
    wanted = {
        reading: count * math.exp(model.score(reading[1], "epsilon"))
        for reading, count in oracles.reading_counts(topology, 4).items()
    }
    assert not made.writes_words
    assert relation(made.graph, 4) == pytest.approx(wanted)
    assert relation(decoding_graph(topology).graph, 4) == pytest.approx(
        {reading: float(count) for reading, count in oracles.reading_counts(topology, 4).items()}
    )


def best_score(graph: Graph, log_probs: torch.Tensor) -> tuple[list[list[int]], list[float]]:
    emissions = read_emissions(log_probs, [log_probs.shape[1]] * len(log_probs), check_normalised=False)
    best = ReferenceBackend().best_paths(GraphBatch.from_graphs([graph]), emissions, torch.arange(len(log_probs)))
    return [tokens.tolist() for tokens in best.tokens], best.scores.tolist()


@pytest.mark.k2
@pytest.mark.parametrize("seed", range(8))
def test_engines_agree_on_best_paths_and_totals(seed: int) -> None:
    lexicon, model = random_lexicon(seed, (None, SILENCE)[seed % 2]), random_model(seed)
    log_probs = random_log_probs(seed, 4, 9, NUM_LABELS)
    for name in NAMES:
        topology = topologies.build(name, NUM_LABELS)
        graphs = [decoding_graph(topology, model, lexicon, engine=engine).graph for engine in ("k2", "openfst")]
        totals = [total_log_mass(graph, log_probs) for graph in graphs]
        assert torch.allclose(*totals, rtol=0, atol=1e-5)
        (words, score), (other_words, other_score) = (best_score(graph, log_probs) for graph in graphs)
        assert words == other_words
        assert score == pytest.approx(other_score, abs=1e-5)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_what_is_left_reads_labels_is_sorted_and_leads_somewhere(engine: str) -> None:
    stages: dict[str, Graph] = {}
    made = decoding_graph(
        topologies.build("compact", NUM_LABELS), random_model(1), random_lexicon(1), engine=engine,
        on_stage=stages.__setitem__,
    ).graph  # fmt: skip
    assert list(stages) == ["lexicon", "grammar", "lexicon o grammar"]
    for graph, first in ((stages["lexicon o grammar"], 1), (made, 0)):
        assert set(graph.input_label.tolist()) <= {EPSILON, *range(first, NUM_LABELS)}
        assert set(graph.output_label.tolist()) <= {EPSILON, *range(1, 6)}
    assert np.all(np.diff(made.source) >= 0)
    assert {made.start, *made.destination.tolist()} == set(range(made.num_states))
    assert {*made.source.tolist(), *np.flatnonzero(made.final_score > -np.inf).tolist()} == set(range(made.num_states))


def test_auto_is_k2_where_it_is_installed() -> None:
    assert choose_engine("auto") == ("k2" if HAS_K2 else "openfst")
    with pytest.raises(ValueError, match="engine is 'fst', expected one of 'auto', 'k2', 'openfst'"):
        choose_engine("fst")


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    lexicon, model = random_lexicon(0), random_model(0)
    correct = topologies.build("correct", NUM_LABELS)
    with pytest.raises(ValueError, match="lexicon has 4 tokens, blank included, but topology has 5 labels"):
        decoding_graph(topologies.build("correct", 5), model, lexicon)
    with pytest.raises(ValueError, match=r"language_model has 7 labels but lexicon \(<eps> included\) has 6"):
        decoding_graph(correct, LanguageModel.uniform(7), lexicon)
    with pytest.raises(ValueError, match="language_model has 7 labels but topology has 4"):
        decoding_graph(correct, LanguageModel.uniform(7))
    with pytest.raises(ValueError, match="reads label 0"):
        decoding_graph(correct, LanguageModel.uniform(4, blank=3))
    with pytest.raises(ValueError, match="lossless is 'shared' with topology 'minimal', expected 'correct'"):
        decoding_graph(topologies.build("minimal", NUM_LABELS), model, lexicon, lossless="shared")
    shorter = Lexicon(lexicon.tokens, lexicon.words, ((1, (1,), 0),))
    with pytest.raises(ValueError, match="reads word 'E', which has no pronunciation in lexicon"):
        decoding_graph(correct, LanguageModel.from_arcs([0], [0], [5], [0.0], [0.0]), shorter)


def test_a_model_without_any_path_makes_a_graph_without_any() -> None:
    nothing = LanguageModel.from_arcs([0], [0], [5], [0.0], [-math.inf])
    made = decoding_graph(topologies.build("correct", NUM_LABELS), nothing, random_lexicon(0), engine="openfst")
    assert made.graph.num_arcs == 0
