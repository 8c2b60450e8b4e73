"""Forced alignment against enumeration, and what it says of frames, blanks and impossible targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import topologies
from tests import oracles
from tests.losses.checks import blank_first, random_batch
from tests.losses.engines import EVERY_BACKEND, FLOAT64_BACKENDS
from tests.topologies.checks import random_log_probs
from wfst_losses import ctc_loss, forced_alignment

NAMES = list(topologies.TOPOLOGIES)


def best_readings(name: str, log_probs: torch.Tensor, target: list[int]) -> tuple[float, list[list[int]]]:
    """The best score of a target, and every labelling that reaches it."""
    topology = topologies.build(name, log_probs.shape[1])
    rows = oracles.readings(topology, len(log_probs)).by_output.get(tuple(target))
    if rows is None:
        return -np.inf, []
    scores = oracles.reading_scores(topology, log_probs).numpy()[rows]
    labellings = oracles.readings(topology, len(log_probs)).labellings[rows]
    return float(scores.max()), labellings[scores >= scores.max() - 1e-12].tolist()


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_it_is_the_best_alignment(backend: str, name: str, blank: int) -> None:
    seen_impossible = False
    for seed in range(12):
        log_probs, targets, lengths = random_batch(seed, 3, 5, 4, blank)
        found = forced_alignment(log_probs, targets, lengths, topology=name, backend=backend, blank=blank)
        inside, tokens = blank_first(log_probs, targets, blank)
        columns = [blank, *(label for label in range(3) if label != blank)]
        for row, length in enumerate(lengths):
            best, labellings = best_readings(name, inside[row, :length], tokens[row])
            assert float(found.scores[row]) == pytest.approx(best, abs=1e-9)
            assert (found.labels[row, length:] == -1).all()
            if best == -np.inf:
                seen_impossible = True
                assert (found.labels[row] == -1).all()
                assert (found.start_frames[row] == -1).all()
                assert (found.end_frames[row] == -1).all()
                continue
            assert found.labels[row, :length].tolist() in [[columns[label] for label in one] for one in labellings]
            check_frames(found.labels[row], found.start_frames[row], found.end_frames[row], targets[row], blank)
    assert seen_impossible


def check_frames(labels: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, target: list[int], blank: int) -> None:
    """Tokens cover exactly the frames that are not blank, in order, each with frames of its own label."""
    covered = [-1 if label < 0 else blank for label in labels.tolist()]
    before = 0
    for token, start, end in zip(target, starts.tolist(), ends.tolist(), strict=False):
        assert before <= start < end
        covered[start:end] = [token] * (end - start)
        before = end
    assert covered == labels.tolist()
    assert (starts[len(target) :] == -1).all()
    assert (ends[len(target) :] == -1).all()


def test_known_frames() -> None:
    labelling = [0, 3, 3, 0, 0, 3, 1, 1, 1, 2]
    log_probs = torch.full((1, 12, 4), -9.0)
    log_probs[0, range(10), labelling] = 0.0
    found = forced_alignment(log_probs, torch.tensor([[3, 3, 1, 2, 0]]), [10], [4], check_normalised=False)
    assert found.labels.tolist() == [[*labelling, -1, -1]]
    assert found.start_frames.tolist() == [[1, 5, 6, 9]]
    assert found.end_frames.tolist() == [[3, 6, 9, 10]]
    assert float(found.scores) == 0.0


def test_compact_and_minimal_part_a_run_into_tokens() -> None:
    log_probs = torch.full((1, 4, 3), -9.0)
    log_probs[0, :, 1] = 0.0
    minimal = forced_alignment(log_probs, [[1, 1, 1, 1]], [4], topology="minimal", check_normalised=False)
    assert minimal.start_frames.tolist() == [[0, 1, 2, 3]]
    assert minimal.end_frames.tolist() == [[1, 2, 3, 4]]
    compact = forced_alignment(log_probs, [[1, 1]], [4], topology="compact", check_normalised=False)
    assert compact.labels.tolist() == [[1, 1, 1, 1]]
    assert int(compact.start_frames[0, 0]) == 0
    assert int(compact.end_frames[0, 0]) == int(compact.start_frames[0, 1]) in (1, 2, 3)
    assert int(compact.end_frames[0, 1]) == 4


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_scores_are_differentiable_and_below_the_sum_over_alignments(backend: str) -> None:
    log_probs, targets, lengths = random_batch(3, 4, 6, 5)
    logits = (3 * log_probs).requires_grad_()
    found = forced_alignment(logits, targets, lengths, from_logits=True, backend=backend)
    losses = ctc_loss(logits, targets, lengths, from_logits=True, backend=backend)
    possible = found.scores > -torch.inf
    assert torch.equal(possible, losses < torch.inf)
    assert bool((found.scores[possible] <= -losses[possible] + 1e-12).all())
    (gradient,) = torch.autograd.grad(found.scores[possible].sum(), logits)
    rows = torch.softmax(logits.detach(), 2)
    onehot = torch.nn.functional.one_hot(found.labels.clamp(min=0), 4)
    wanted = (onehot - rows) * (found.labels >= 0)[:, :, None]
    torch.testing.assert_close(gradient, wanted)


def test_dropped_utterances_are_aligned_to_nothing() -> None:
    log_probs, _, _ = random_batch(3, 3, 4, 2)
    log_probs[1, 2, 0] = torch.nan
    found = forced_alignment(log_probs, [[1], [1]], [4, 4], nonfinite="drop")
    assert float(found.scores[1]) == -np.inf
    assert (found.labels[1] == -1).all()
    assert (found.labels[0] >= 0).all()
    with pytest.raises(ValueError, match="utterance 1, frame 2"):
        forced_alignment(log_probs, [[1], [1]], [4, 4])


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_labels_that_are_let_pass_are_read_by_no_path(backend: str, value: float) -> None:
    scores = random_log_probs(3, 2, 5, 3)
    label = int(forced_alignment(scores, [[1, 2], [2]], [5, 4]).labels[0, 2])
    passed, without = scores.clone(), scores.clone()
    passed[0, 2, label], without[0, 2, label] = value, -torch.inf
    passed.requires_grad_()
    found = forced_alignment(passed, [[1, 2], [2]], [5, 4], backend=backend, nonfinite="pass")
    wanted = forced_alignment(without, [[1, 2], [2]], [5, 4], check_normalised=False)
    assert torch.equal(found.labels, wanted.labels)
    assert found.labels[0, 2] != label
    torch.testing.assert_close(found.scores.detach(), wanted.scores)
    (gradient,) = torch.autograd.grad(found.scores.sum(), passed)
    assert gradient.sum(2).tolist() == [[1] * 5, [1] * 4 + [0]]
    # A frame of logits that holds one has no log-softmax.
    of_logits = forced_alignment(passed, [[1, 2], [2]], [5, 4], backend=backend, nonfinite="pass", from_logits=True)
    assert of_logits.scores.isfinite().tolist() == [False, True]
    assert torch.autograd.grad(of_logits.scores[1], passed)[0].isfinite().all()


def test_nothing_to_align() -> None:
    empty = forced_alignment(torch.zeros(0, 3, 2), [], [])
    assert empty.labels.shape == (0, 3)
    assert empty.scores.shape == (0,)
    found = forced_alignment(torch.zeros(2, 0, 2), [[], [1]], [0, 0])
    assert found.scores.tolist() == [0.0, -np.inf]
    assert found.start_frames.tolist() == [[-1], [-1]]


def test_long_utterances_need_no_more_than_their_graph() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.log_softmax(4 * torch.randn(2, 1500, 40, generator=generator), 2)
    target = torch.randint(1, 40, (2, 150), generator=generator)
    found = forced_alignment(log_probs, target, [1500, 1200], [150, 90])
    assert (found.end_frames > found.start_frames)[0].all()
    for row, length in enumerate([1500, 1200]):
        labels = found.labels[row, :length].tolist()
        collapsed = oracles.correct(tuple(labels))[0]
        assert list(collapsed) == target[row, : [150, 90][row]].tolist()
