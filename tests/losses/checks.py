"""What the losses must keep under every member of TOPOLOGIES: one function per claim, called with a name in the table.

Every backend that is installed is held to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

import topologies
from tests import oracles
from tests.losses.engines import INSTALLED_BACKENDS, tolerance
from wfst_losses import Exhaustive, RandomPaths, ctc_loss, mwer_loss

Batch = tuple[torch.Tensor, list[list[int]], list[int]]


def random_batch(seed: int, num_labels: int, max_frames: int, num_utterances: int, blank: int = 0) -> Batch:
    """Normalised float64 log-probs, targets and lengths: ragged, some impossible, in no order of length."""
    random = np.random.default_rng(seed)
    log_probs = torch.log_softmax(
        torch.from_numpy(2 * random.standard_normal((num_utterances, max_frames, num_labels))), 2
    )
    lengths = random.integers(0, max_frames + 1, size=num_utterances)
    lengths[random.integers(num_utterances)] = max_frames
    tokens = [label for label in range(num_labels) if label != blank]
    targets = [
        random.choice(tokens, size=random.integers(0, length + 2)).tolist() if tokens else [] for length in lengths
    ]
    return log_probs, targets, lengths.tolist()


def blank_first(
    log_probs: torch.Tensor, targets: Sequence[Sequence[int]], blank: int
) -> tuple[torch.Tensor, list[list[int]]]:
    """The same batch with the blank's column first, as the oracles want it."""
    columns = [blank, *(label for label in range(log_probs.shape[-1]) if label != blank)]
    number = {label: index for index, label in enumerate(columns)}
    return log_probs[..., columns], [[number[token] for token in target] for target in targets]


def enumerated_ctc(name: str, batch: Batch, blank: int = 0) -> torch.Tensor:
    """``(B,)`` -Z(y) of each utterance by enumeration, differentiable."""
    log_probs, targets, lengths = batch
    topology = topologies.build(name, log_probs.shape[2])
    scores, tokens = blank_first(log_probs, targets, blank)
    return torch.stack(
        [
            -oracles.log_mass(topology, row[:length], target)
            for row, length, target in zip(scores, lengths, tokens, strict=True)
        ]
    )


def enumerated_errors(name: str, batch: Batch, temperature: float = 1.0, blank: int = 0) -> torch.Tensor:
    """``(B,)`` expected token errors of each utterance by enumeration, differentiable."""
    log_probs, targets, lengths = batch
    topology = topologies.build(name, log_probs.shape[2])
    scores, tokens = blank_first(log_probs, targets, blank)
    return torch.stack(
        [
            oracles.expected_errors(topology, row[:length], target, temperature)
            if oracles.readings(topology, length).outputs
            else torch.tensor(torch.inf, dtype=torch.float64)
            for row, length, target in zip(scores, lengths, tokens, strict=True)
        ]
    )


def gradient(value: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Gradient of the sum of the finite values; zeros where nothing leads to the leaf."""
    finite = value[value.detach().isfinite()]
    if not finite.requires_grad or len(finite) == 0:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(finite.sum(), leaf, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found


def assert_ctc(name: str, batch: Batch, *, backend: str, atol: float, blank: int = 0) -> None:
    """Value and gradient of `ctc_loss` are those of enumeration; an impossible target is +inf with gradient 0."""
    log_probs, targets, lengths = batch
    leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    found = ctc_loss(leaf, targets, lengths, topology=name, backend=backend, blank=blank)
    wanted = enumerated_ctc(name, (oracle_leaf, targets, lengths), blank)
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)
    torch.testing.assert_close(gradient(found, leaf), gradient(wanted, oracle_leaf), rtol=0, atol=atol)


def check_ctc_by_enumeration(name: str) -> None:
    """CTC by enumeration over random ragged batches, with every backend that is installed."""
    for seed in range(24):
        batch = random_batch(seed, 1 + seed % 4, 5, 4)
        for backend in INSTALLED_BACKENDS:
            assert_ctc(name, batch, backend=backend, atol=tolerance(backend))


def check_impossible_targets(name: str) -> None:
    """A target is impossible, +inf with gradient exactly 0, where `min_frames` says so."""
    targets = [[1, 1, 1], [1], [2, 1, 2, 1], [2, 2], [], [1], [2]]
    lengths = [4, 1, 3, 2, 0, 0, 4]
    least = topologies.build(name, 3).min_frames(targets)
    impossible = torch.from_numpy((least < 0) | (least > np.array(lengths)))
    assert impossible.any()
    for backend in INSTALLED_BACKENDS:
        log_probs = random_batch(4, 3, 4, len(targets))[0].requires_grad_()
        losses = ctc_loss(log_probs, targets, lengths, topology=name, backend=backend)
        assert torch.equal(losses == torch.inf, impossible), backend
        (found,) = torch.autograd.grad(losses.sum(), log_probs)
        assert bool(found.isfinite().all()), backend
        assert not found[impossible].any(), backend


def assert_exhaustive_mwer(name: str, batch: Batch, *, backend: str, atol: float, blank: int = 0) -> None:
    """MWER over all hypotheses is the expected number of errors, in value and gradient."""
    log_probs, targets, lengths = batch
    leaf, oracle_leaf = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    found = mwer_loss(
        leaf, targets, lengths, topology=name, sampler=Exhaustive(), baseline="none", backend=backend, blank=blank
    )
    wanted = enumerated_errors(name, (oracle_leaf, targets, lengths), blank=blank)
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)
    torch.testing.assert_close(gradient(found, leaf), gradient(wanted, oracle_leaf), rtol=0, atol=atol)


def check_exhaustive_mwer(name: str) -> None:
    """MWER by enumeration over random ragged batches, with every backend that is installed."""
    for seed in range(6):
        batch = random_batch(seed, 2 + seed % 2, 4, 3)
        for backend in INSTALLED_BACKENDS:
            assert_exhaustive_mwer(name, batch, backend=backend, atol=5 * tolerance(backend))


def check_sampling(name: str) -> None:
    """Sampled paths have the frequencies of the posterior over outputs, in an utterance shorter than its batch too."""
    num_paths, num_frames = 4000, 3
    log_probs, _, _ = random_batch(5, 3, num_frames + 2, 2)
    topology = topologies.build(name, 3)
    generator = torch.Generator().manual_seed(1)
    wanted = oracles.expected_errors(topology, log_probs[0, :num_frames], [1, 2])
    _, diagnostics = mwer_loss(
        log_probs,
        [[1, 2], []],
        [num_frames, num_frames + 2],
        topology=name,
        sampler=RandomPaths(num_paths),
        estimator="sampled",
        generator=generator,
        return_diagnostics=True,
    )
    # Errors lie in 0..3: a standard error is at most 1.5 / sqrt(num_paths).
    assert abs(float(diagnostics.expected_errors[0]) - float(wanted)) < 5 * 1.5 / num_paths**0.5


CHECKS: list[Callable[[str], None]] = [
    check_ctc_by_enumeration,
    check_impossible_targets,
    check_exhaustive_mwer,
    check_sampling,
]
