"""Batches of any size to measure with, torch's losses of them, and what the process has taken."""

from __future__ import annotations

import resource

import numpy as np
import torch

MIB = 1 << 20


def emissions(num_utterances: int, num_frames: int, num_labels: int, seed: int = 0) -> torch.Tensor:
    """Log-probs that require grad."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator)
    return logits.log_softmax(2).requires_grad_()


def targets_of(num_utterances: int, num_tokens: int, num_labels: int) -> list[list[int]]:
    """Random targets."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, num_labels, num_tokens).tolist() for _ in range(num_utterances)]


def torch_ctc(log_probs: torch.Tensor, targets: list[list[int]]) -> torch.Tensor:
    """The same losses by torch, in float64."""
    num_utterances, num_frames, _ = log_probs.shape
    flat = torch.tensor([label for row in targets for label in row])
    lengths = torch.tensor([len(row) for row in targets])
    frames = torch.full((num_utterances,), num_frames)
    scores = log_probs.double().transpose(0, 1)
    return torch.nn.functional.ctc_loss(scores, flat, frames, lengths, reduction="none")


def peak_bytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
