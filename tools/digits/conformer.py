"""A small Conformer (Gulati et al. 2020, arXiv 2005.08100): feed-forward, self-attention, convolution, feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeedForward(nn.Sequential):
    """Half a step: layer norm, two layers."""

    def __init__(self, channels: int, expansion: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(channels),
            nn.Linear(channels, expansion * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(expansion * channels, channels),
            nn.Dropout(dropout),
        )


class Convolution(nn.Module):
    """Gated pointwise layer, depthwise convolution, pointwise layer; layer norm, so that batches do not mix."""

    def __init__(self, channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gated = nn.Linear(channels, 2 * channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.inner_norm = nn.LayerNorm(channels)
        self.pointwise = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map ``(B, T, C)`` to the same shape; frames where ``mask`` is 0 are never read."""
        y = nn.functional.glu(self.gated(self.norm(x)), dim=-1) * mask
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.pointwise(nn.functional.silu(self.inner_norm(y))))


class ConformerBlock(nn.Module):
    """One block; positions are known by the convolutions alone, which digits need no better."""

    def __init__(self, channels: int, expansion: int, kernel_size: int, dropout: float, num_heads: int = 4) -> None:
        super().__init__()
        self.first = FeedForward(channels, expansion, dropout)
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, dropout=dropout, batch_first=True)
        self.convolution = Convolution(channels, kernel_size, dropout)
        self.second = FeedForward(channels, expansion, dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map ``(B, T, C)`` to the same shape; frames where ``mask`` is 0 are never read."""
        x = x + 0.5 * self.first(x)
        y = self.attention_norm(x)
        # An utterance of no frames would attend to nothing: it attends to its padding, which nobody reads.
        hidden = (mask[..., 0] == 0) & (mask[..., 0].sum(1, keepdim=True) > 0)
        x = x + self.attention(y, y, y, key_padding_mask=hidden, need_weights=False)[0]
        x = x + self.convolution(x, mask)
        x = x + 0.5 * self.second(x)
        return torch.as_tensor(self.norm(x))
