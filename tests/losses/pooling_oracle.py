"""Smoothed max pooling as its definition reads: one frame, one label and one window at a time, differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

Window = tuple[int, int, int]
"""Label, first frame, one past the last."""


def smooth(values: torch.Tensor, sigma: float, width: int) -> torch.Tensor:
    """``(T,)`` weighted sums over the frames there are, weights renormalised to them."""
    half = (width - 1) // 2
    rows = []
    for frame in range(len(values)):
        total, mass = 0.0, 0.0
        for k in range(-half, half + 1):
            if 0 <= frame + k < len(values):
                weight = math.exp(-(k**2) / (2 * sigma**2))
                total = total + weight * values[frame + k]
                mass += weight
        rows.append(total / mass)
    return torch.stack(rows)


def utterance_loss(
    posteriors: torch.Tensor,
    windows: Sequence[Window],
    *,
    background: int | None,
    sigma_frames: float,
    filter_frames: int,
    smooth_in: str = "prob",
    negative_weight: float = 1.0,
) -> torch.Tensor:
    """The loss of one utterance ``(T, K)`` without padding."""
    num_frames, num_labels = posteriors.shape
    loss = posteriors.new_zeros(())
    inside: dict[int, set[int]] = {label: set() for label in range(num_labels)}
    for label, start, stop in windows:
        frames = [frame for frame in range(start, stop) if 0 <= frame < num_frames]
        if not frames:
            return torch.tensor(math.inf, dtype=posteriors.dtype)
        inside[label].update(frames)
        column = posteriors[:, label]
        if smooth_in == "log":
            best = max(smooth(column.log(), sigma_frames, filter_frames)[frame] for frame in frames)
        else:
            best = max(smooth(column, sigma_frames, filter_frames)[frame] for frame in frames).log()
        loss = loss - best
    everywhere = set().union(*inside.values())
    for frame in range(num_frames):
        if background is None:
            for label in range(num_labels):
                if frame not in inside[label]:
                    loss = loss - negative_weight * torch.log1p(-posteriors[frame, label])
        elif frame not in everywhere:
            loss = loss - negative_weight * posteriors[frame, background].log()
    return loss


def batch_loss(
    posteriors: torch.Tensor, lengths: Sequence[int], windows: Sequence[Sequence[Window]], **options: Any
) -> torch.Tensor:
    """``(B,)``, one utterance after the other."""
    return torch.stack(
        [
            utterance_loss(row[:length], places, **options)
            for row, length, places in zip(posteriors, lengths, windows, strict=True)
        ]
    )
