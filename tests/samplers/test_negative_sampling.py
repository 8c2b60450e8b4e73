"""Negative sampling: the best path around what is hidden by enumeration, whole tokens hidden, pruning, draws."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.lattices.small_lattices import all_paths, lattice_of, lattices
from tests.losses.engines import EVERY_BACKEND
from tests.losses.test_mmi import model_of_order
from tests.topologies.checks import random_log_probs
from wfst_losses import LanguageModel, NegativeSampling, mwer_loss
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.paths import Segments
from wfst_losses.lattices import ArcLattice

CPU = torch.device("cpu")
LENGTHS = [4, 0, 2, 3]


def lattice_over(
    name: str, log_probs: torch.Tensor, lengths: list[int], backend: str = "native", model: LanguageModel | None = None
) -> EmissionLattice:
    emissions = read_emissions(log_probs, lengths, check_normalised=False)
    return EmissionLattice(topologies.build(name, log_probs.shape[2]), emissions, get_backend(backend, CPU), 0, model)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("order", [None, 2])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", list(topologies.TOPOLOGIES))
def test_the_best_path_around_what_is_hidden(name: str, backend: str, order: int | None) -> None:
    log_probs = random_log_probs(1, 4, 4, 3)
    log_probs[3, 1, :2] = -math.inf
    model = None if order is None else model_of_order(order)
    lattice = lattice_over(name, log_probs, LENGTHS, backend, model)
    best = lattice.best_segments().paths
    masks = torch.rand(4, 6, 4, generator=generator()).numpy() < 0.5
    masks[0, 0] = True
    found = lattice.best_paths_around(best, masks)
    wanted = []
    for utterance, length in enumerate(LENGTHS):
        readings = oracles.readings(lattice.topology, length)
        scores = oracles.reading_scores(lattice.topology, log_probs[utterance, :length]).numpy().copy()
        if model is not None:
            scores += [model.score(output) for output in readings.outputs]
        for mask in masks[utterance]:
            hidden = (readings.labellings == best.steps[utterance, :length]) & mask[:length]
            left = scores[~hidden.any(axis=1)]
            if left.max(initial=-np.inf) > -np.inf:
                wanted.append((utterance, float(left.max())))
    assert len(wanted) < 24, "some mask leaves nothing"
    assert found.utterances.tolist() == [utterance for utterance, _ in wanted]
    assert lattice.path_scores(found).tolist() == pytest.approx([score for _, score in wanted], abs=1e-9)
    for row, utterance in enumerate(found.utterances.tolist()):
        length = LENGTHS[utterance]
        reading = tuple(found.steps[row, :length].tolist()), tuple(found.tokens[row].tolist())
        assert reading in oracles.reading_counts(lattice.topology, length)


@hypothesis.given(lattice=lattices(max_utterances=2), seed=st.integers(0, 100))
@hypothesis.settings(max_examples=150)
def test_the_best_path_around_hidden_arcs(lattice: ArcLattice, seed: int) -> None:
    best = lattice.best_segments().paths
    masks = np.random.default_rng(seed).random((best.num_paths, 3, best.steps.shape[1])) < 0.5
    before = lattice.arc_scores.clone()
    found = lattice.best_paths_around(best, masks)
    assert torch.equal(lattice.arc_scores, before)
    wanted = []
    for row, utterance in enumerate(best.utterances.tolist()):
        for mask in masks[row]:
            hidden = set(best.steps[row][mask].tolist())
            scores = [
                float(lattice.arc_scores[list(arcs)].sum())
                for arcs, _ in all_paths(lattice, utterance)
                if not hidden & set(arcs)
            ]
            if max(scores, default=-math.inf) > -math.inf:
                wanted.append((utterance, max(scores)))
    assert found.utterances.tolist() == [utterance for utterance, _ in wanted]
    assert lattice.path_scores(found).tolist() == pytest.approx([score for _, score in wanted], abs=1e-9)


def segments_of(name: str, labels: list[int], num_labels: int = 4) -> Segments:
    """Of a best path that reads these labels."""
    log_probs = torch.full((1, len(labels), num_labels), -5.0, dtype=torch.float64)
    log_probs[0, torch.arange(len(labels)), labels] = 0.0
    return lattice_over(name, log_probs, [len(labels)]).best_segments()


@pytest.mark.parametrize("name", ["correct", "minimal"])
def test_segments_are_whole_tokens_and_runs_of_blank(name: str) -> None:
    found = segments_of(name, [0, 0, 1, 1, 2, 0, 2, 2, 2, 3, 0])
    wanted = {
        "correct": [0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 6],
        "minimal": [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    }
    assert found.number[0].tolist() == wanted[name]
    assert found.is_blank[0].tolist() == [label == 0 for label in [0, 0, 1, 1, 2, 0, 2, 2, 2, 3, 0]]


def test_segments_of_a_lattice_follow_labels_and_what_is_written() -> None:
    rows = [(state, state + 1, tokens, 0.0) for state, tokens in enumerate([[1], [], [], [1], [], [2, 3]])]
    plain = lattice_of(rows, [0, 7])
    labels = np.array([1, 1, 0, 1, 2, 2])
    lattice = dataclasses.replace(plain, labels=labels)
    found = lattice.best_segments()
    assert found.number.tolist() == [[0, 0, 1, 2, 3, 4]]
    assert found.is_blank.tolist() == [[False, False, True, False, False, False]]
    assert plain.best_segments().number.tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("unit", ["segment", "frame"])
def test_masks_have_their_probabilities(unit: str) -> None:
    best = segments_of("correct", [0, 1, 1, 0, 2, 2, 2, 0])
    sampler = NegativeSampling(num_paths=20_001, mask_probability=0.3, p_blank=0.1, unit=unit)
    masks = sampler.masks(best, generator())[0]
    assert masks.shape == (20_000, 8)
    probabilities = [0.1 if unit == "segment" and blank else 0.3 for blank in best.is_blank[0]]
    for frame, probability in enumerate(probabilities):
        error = (probability * (1 - probability) / 20_000) ** 0.5
        assert abs(masks[:, frame].mean() - probability) < 5 * error
    together = (masks[:, 1] == masks[:, 2]).mean()
    assert together == 1.0 if unit == "segment" else together < 0.7
    # Tokens are hidden independently of each other.
    both = (masks[:, 1] & masks[:, 4]).mean()
    assert abs(both - 0.09) < 5 * (0.09 * 0.91 / 20_000) ** 0.5


def test_masks_are_small() -> None:
    # B = 32, N = 4, T = 500, V = 5000: the draws never have a column per label.
    numbers = np.tile(np.arange(500) // 5, (32, 1))
    best = segments_of("correct", [1, 0])
    wide = Segments(best.paths, numbers, np.zeros(numbers.shape, dtype=bool))
    masks = NegativeSampling(4).masks(wide, generator())
    assert masks.shape == (32, 3, 500)
    assert masks.nbytes + 4 * masks.size <= 2**20


def test_a_hidden_token_is_replaced_or_left_out() -> None:
    log_probs = random_log_probs(3, 1, 12, 4)
    lattice = lattice_over("correct", log_probs, [12])
    best = lattice.best_segments()
    paths = NegativeSampling(num_paths=2, mask_probability=1.0, p_blank=0.0).draw(lattice, 1.0, generator())
    assert paths.num_paths == 2
    assert np.array_equal(paths.steps[0], best.paths.steps[0])
    assert not (paths.steps[1] == paths.steps[0])[~best.is_blank[0]].any()
    assert (paths.steps[1] == paths.steps[0])[best.is_blank[0]].all()


@pytest.mark.parametrize("beam", [math.inf, 3.0, 0.0])
def test_what_is_pruned(beam: float) -> None:
    lattice = lattice_over("correct", random_log_probs(4, 3, 8, 4), [8, 5, 8])
    sampler = NegativeSampling(num_paths=40, beam=beam)
    paths = sampler.draw(lattice, 1.0, generator(1))
    scores = lattice.path_scores(paths).tolist()
    found = [(owner, tokens.tobytes()) for owner, tokens in zip(paths.utterances.tolist(), paths.tokens, strict=True)]
    assert len(set(found)) == len(found)
    # Without a beam the same draws, duplicates and all.
    segments = lattice.best_segments()
    others = lattice.best_paths_around(segments.paths, sampler.masks(segments, generator(1)))
    every = segments.paths.joined(others)
    assert every.num_paths == 120
    best: dict[tuple[int, bytes], float] = {}
    for row, score in enumerate(lattice.path_scores(every).tolist()):
        key = (int(every.utterances[row]), every.tokens[row].tobytes())
        best[key] = max(best.get(key, -math.inf), score)
    peak = {utterance: max(score for key, score in best.items() if key[0] == utterance) for utterance in range(3)}
    wanted = {key: score for key, score in best.items() if score >= peak[key[0]] - beam}
    assert dict(zip(found, scores, strict=True)) == pytest.approx(wanted)
    assert scores == [score for _, score in sorted(zip(paths.utterances.tolist(), scores, strict=True),
                                                   key=lambda pair: (pair[0], -pair[1]))]  # fmt: skip
    assert Counter(paths.utterances.tolist()).keys() == {0, 1, 2}


def test_survivors_are_reported() -> None:
    log_probs = random_log_probs(5, 2, 8, 4)
    log_probs[1] = torch.log_softmax(torch.tensor([0.0, 900.0, 0.0, 0.0], dtype=torch.float64), 0)
    sampler = NegativeSampling(num_paths=6, beam=50.0)
    losses, diagnostics = mwer_loss(
        log_probs, [[1], [1]], [8, 8], sampler=sampler, generator=generator(), return_diagnostics=True
    )
    survivors = Counter(sampler.draw(lattice_over("correct", log_probs, [8, 8]), 1.0, generator()).utterances.tolist())
    assert diagnostics.num_distinct.tolist() == [survivors[0], survivors[1]]
    assert 1 < survivors[0] <= 6
    assert survivors[1] == 1, "all others lie beyond the beam"
    assert diagnostics.single == (1,)
    assert float(losses[1]) == 0.0


def test_draws_come_from_the_generator() -> None:
    lattice = lattice_over("correct", random_log_probs(6, 2, 9, 4), [9, 7])
    drawn = [NegativeSampling(8).draw(lattice, 1.0, generator(seed)).steps for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or not np.array_equal(drawn[0], drawn[2])


def test_no_path_and_one_path() -> None:
    log_probs = random_log_probs(7, 2, 2, 3)
    log_probs[0] = torch.tensor([-math.inf, 0.0, -math.inf], dtype=torch.float64)
    losses, diagnostics = mwer_loss(
        log_probs, [[1], [2]], [2, 2], topology="selfless", sampler=NegativeSampling(3), return_diagnostics=True
    )
    assert losses[0] == math.inf
    assert diagnostics.empty == (0,)
    assert mwer_loss(log_probs[1:], [[1]], [2], sampler=NegativeSampling(1)).tolist() == [0.0]
    only_blank = torch.zeros(1, 3, 1, dtype=torch.float64)
    assert mwer_loss(only_blank, [[]], [3], sampler=NegativeSampling(4, p_blank=1.0)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_paths": 0}, "num_paths is 0, expected >= 1"),
        ({"mask_probability": 1.5}, r"mask_probability is 1\.5, expected a probability, at most 1"),
        ({"mask_probability": -0.5}, r"mask_probability is -0\.5, expected"),
        ({"p_blank": math.nan}, "p_blank is nan, expected"),
        ({"unit": "word"}, "unit is 'word', expected one of 'segment', 'frame'"),
        ({"beam": -1.0}, r"beam is -1\.0, expected a finite number >= 0"),
        ({"beam": math.nan}, "beam is nan"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeSampling(**options)
