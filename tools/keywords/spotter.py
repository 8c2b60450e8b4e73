"""A small convolutional keyword spotter: 40 filter-bank bins in, a logit per keyword at a quarter of the frame rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
import torch
from model import ConvBlock
from torch import Tensor, nn

SUBSAMPLING = 4


class Spotter(nn.Module):
    """Stack frames to a quarter of their rate, then convolve; one sigmoid per keyword and frame.

    Args:
        num_features: filter-bank bins.
        num_keywords: columns of the output.
        feature_stats: ``norm_means`` and ``norm_stds`` of the training features; kept in the checkpoint.
    """

    def __init__(
        self,
        num_features: int,
        num_keywords: int,
        feature_stats: dict[str, list[float]] | None = None,
        *,
        channels: int = 64,
        num_blocks: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        stats = feature_stats or {"norm_means": [0.0] * num_features, "norm_stds": [1.0] * num_features}
        self.register_buffer("means", torch.tensor(stats["norm_means"], dtype=torch.float32))
        self.register_buffer("stds", torch.tensor(stats["norm_stds"], dtype=torch.float32))
        self.stem = nn.Conv1d(num_features, channels, 2 * SUBSAMPLING + 1, SUBSAMPLING, padding=SUBSAMPLING)
        self.blocks = nn.ModuleList(ConvBlock(channels, 2, 9, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, num_keywords)
        nn.init.constant_(self.output.bias, -3.0)  # keywords are rare

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T', K)`` logits and their ``(B,)`` lengths from features ``(B, T, F)`` and lengths ``(B,)``."""
        index = torch.arange(features.shape[1], device=features.device)
        x = (features - self.means) / self.stds * (index < num_frames[:, None])[..., None]
        x = self.stem(x.transpose(1, 2)).transpose(1, 2)
        lengths = torch.div(num_frames + SUBSAMPLING - 1, SUBSAMPLING, rounding_mode="floor")
        mask = (index[: x.shape[1]] < lengths[:, None])[..., None].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x)), lengths


def load_spotter(path: Path) -> tuple[Spotter, dict[str, Any]]:
    """Return the spotter of a checkpoint, ready to detect, and its facts (``keywords``, ``loss``, ``params``)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    facts: dict[str, Any] = json.loads(state["facts"])
    model = Spotter(facts["num_features"], len(facts["keywords"]), **facts["model_options"])
    model.load_state_dict(state["model"])
    return model.eval(), facts
