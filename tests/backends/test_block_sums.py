"""Sums over blocks of frames: right where nearly no state is in play, and where sums are dropped or must not be."""

from __future__ import annotations

import pytest
import torch

from topologies import TOPOLOGIES
from wfst_losses import ctc_loss, recorded_runs

NUM_LABELS = 12


def value_and_gradient(backend: str, logits: torch.Tensor, targets: torch.Tensor, topology: str):
    """CTC's values, its gradient, and how many graphs were summed in which way."""
    leaf = logits.clone().requires_grad_()
    with recorded_runs() as runs:
        losses = ctc_loss(
            leaf,
            targets.tolist(),
            [logits.shape[1]] * len(logits),
            topology=topology,
            backend=backend,
            from_logits=True,
        )
        losses.sum().backward()
    return losses.detach(), leaf.grad, runs[0].num_by_path


def labels_without_repeats(num_utterances: int, num_tokens: int, generator: torch.Generator) -> torch.Tensor:
    """Neighbours differ, so that every topology has room for them."""
    steps = torch.randint(1, NUM_LABELS - 1, (num_utterances, num_tokens), generator=generator)
    return steps.cumsum(1) % (NUM_LABELS - 1) + 1


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("spare_frames", [0, 1, 5])
def test_targets_nearly_as_long_as_their_frames_stay_in_blocks(topology: str, spare_frames: int) -> None:
    generator = torch.Generator().manual_seed(spare_frames)
    num_frames, num_utterances = 80, 4
    targets = labels_without_repeats(num_utterances, num_frames - spare_frames, generator)
    logits = 4 * torch.randn(num_utterances, num_frames, NUM_LABELS, generator=generator, dtype=torch.float64)
    # Right on the whole, a frame late after every spare one: what runs ahead is worth nothing, but is never impossible.
    place = torch.arange(num_frames) * targets.shape[1] // num_frames
    logits.scatter_add_(2, targets[:, place, None], torch.full((num_utterances, num_frames, 1), 25.0).double())
    found, gradient, ways = value_and_gradient("native", logits, targets, topology)
    wanted, wanted_gradient, _ = value_and_gradient("reference", logits, targets, topology)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-10)
    assert ways == {"float64, a power of two per state and block of frames": num_utterances}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("gap", [5.0, 20.0, 50.0])
def test_what_looks_hopeless_may_be_all_that_is_left(topology: str, gap: float) -> None:
    generator = torch.Generator().manual_seed(int(gap))
    num_frames = 120
    targets = labels_without_repeats(2, num_frames - 1, generator)
    logits = torch.zeros(2, num_frames, NUM_LABELS, dtype=torch.float64)
    # At first the frames speak for the path one token behind, and twice as long then for the one that was never late.
    times = torch.arange(num_frames)
    place = torch.where(times < 40, times - 1, times).clamp(0, targets.shape[1] - 1)
    logits.scatter_(2, targets[:, place, None], gap)
    found, gradient, _ = value_and_gradient("native", logits, targets, topology)
    wanted, wanted_gradient, _ = value_and_gradient("reference", logits, targets, topology)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-10)
    # Without a gradient there is no second pass that would notice what is missing.
    with torch.no_grad():
        lengths = [num_frames] * 2
        value = ctc_loss(logits, targets.tolist(), lengths, topology=topology, backend="native", from_logits=True)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-10)
