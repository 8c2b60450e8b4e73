"""A small convolutional keyword spotter, and three losses to train it with."""

from __future__ import annotations

from typing import Any

import digits_path  # noqa: F401
import torch
from model import ConvBlock
from torch import Tensor, nn
from torch.nn import functional as F

from wfst_losses import smoothed_max_pooling_loss
from wfst_losses.integrations.lhotse import keyword_windows

SUBSAMPLING = 4
SIGMA_SECONDS, FILTER_SECONDS = 0.09, 0.21
"""The published filter: sigma 9 and 21 frames of 10 ms."""


class Spotter(nn.Module):
    """Stack frames to a quarter of their rate, then convolve; one sigmoid per keyword and frame."""

    def __init__(
        self,
        stats: dict[str, list[float]],
        num_keywords: int,
        *,
        channels: int = 64,
        num_blocks: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.register_buffer("means", torch.tensor(stats["norm_means"], dtype=torch.float32))
        self.register_buffer("stds", torch.tensor(stats["norm_stds"], dtype=torch.float32))
        self.stem = nn.Conv1d(len(self.means), channels, 2 * SUBSAMPLING + 1, SUBSAMPLING, padding=SUBSAMPLING)
        self.blocks = nn.ModuleList(ConvBlock(channels, 2, 9, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, num_keywords)
        nn.init.constant_(self.output.bias, -3.0)  # keywords are rare

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T', K)`` logits and their ``(B,)`` lengths from features ``(B, T, F)`` and lengths ``(B,)``."""
        index = torch.arange(features.shape[1])
        x = (features - self.means) / self.stds * (index < num_frames[:, None])[..., None]
        x = self.stem(x.transpose(1, 2)).transpose(1, 2)
        lengths = torch.div(num_frames + SUBSAMPLING - 1, SUBSAMPLING, rounding_mode="floor")
        mask = (index[: x.shape[1]] < lengths[:, None])[..., None].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x)), lengths


def output_frame_seconds(cut: Any) -> float:
    """Duration of one frame of the network's output."""
    return float(cut.frame_shift) * SUBSAMPLING


def filter_of(frame_seconds: float) -> dict[str, Any]:
    """The filter in output frames; its length the nearest odd number."""
    return {
        "sigma_frames": SIGMA_SECONDS / frame_seconds,
        "filter_frames": 2 * round((FILTER_SECONDS / frame_seconds - 1) / 2) + 1,
    }


def pooling_loss(
    logits: Tensor, lengths: Tensor, cuts: list[Any], keywords: list[str], *, is_smoothed: bool, negative_weight: float
) -> Tensor:
    """``(B,)`` max pooling over a window around each keyword's end, smoothed or plain."""
    found = keyword_windows(cuts, keywords, subsampling_factor=SUBSAMPLING)
    smoothing = filter_of(output_frame_seconds(cuts[0])) if is_smoothed else {"sigma_frames": 1.0, "filter_frames": 1}
    return smoothed_max_pooling_loss(
        logits=logits,
        windows=found.windows,
        labels=found.keywords,
        input_lengths=lengths,
        negative_weight=negative_weight,
        **smoothing,
    )


def frame_loss(
    logits: Tensor,
    lengths: Tensor,
    cuts: list[Any],
    keywords: list[str],
    *,
    label_seconds: float,
    negative_weight: float,
) -> Tensor:
    """``(B,)`` cross-entropy of every frame: the last ``label_seconds`` of a keyword are its own, all else is not."""
    found = keyword_windows(
        cuts, keywords, subsampling_factor=SUBSAMPLING, window_seconds=label_seconds, offset_seconds=0.0
    )
    frames = torch.arange(logits.shape[1])
    inside = (frames >= found.windows[:, :, :1]) & (frames < found.windows[:, :, 1:])  # (B, M, T)
    is_keyword = F.one_hot(found.keywords + 1, len(keywords) + 1)[:, :, 1:]  # (B, M, K)
    targets = torch.einsum("bmt,bmk->btk", inside.float(), is_keyword.float()).clamp(max=1.0)
    terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weights = torch.where(targets > 0, 1.0, negative_weight)
    return (terms * weights * (frames < lengths[:, None])[:, :, None]).sum((1, 2))
