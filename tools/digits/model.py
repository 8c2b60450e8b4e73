"""Small CTC models, convolutions or a Conformer: 40 filter-bank bins in, log-probs of a quarter of the frames out."""

from __future__ import annotations

import torch
from conformer import ConformerBlock
from torch import Tensor, nn

BLOCKS = ("conv", "conformer")


class ConvBlock(nn.Module):
    """Residual block: depthwise convolution over time, layer norm, two pointwise layers."""

    def __init__(self, channels: int, expansion: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, expansion * channels)
        self.contract = nn.Linear(expansion * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map ``(B, T, C)`` to the same shape; frames where ``mask`` is 0 are never read."""
        y = self.depthwise((x * mask).transpose(1, 2)).transpose(1, 2)
        y = self.contract(nn.functional.gelu(self.expand(self.norm(y))))
        return x + self.dropout(y)


class DigitModel(nn.Module):
    """Stack ``subsampling`` frames into one, then convolve; an utterance's output never depends on its batch.

    Args:
        num_features: filter-bank bins.
        num_labels: blank included.
        feature_stats: ``norm_means`` and ``norm_stds`` of the training features; kept in the checkpoint.
        block: what the model is a stack of, a name in `BLOCKS`.
        intermediate_layers: after which blocks, counted from 1, there is one more output, for losses of training alone.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        feature_stats: dict[str, list[float]] | None = None,
        *,
        subsampling: int = 4,
        channels: int = 96,
        num_blocks: int = 6,
        expansion: int = 2,
        kernel_size: int = 9,
        dropout: float = 0.1,
        block: str = "conv",
        intermediate_layers: tuple[int, ...] | list[int] = (),
    ) -> None:
        super().__init__()
        if not all(0 < layer < num_blocks for layer in intermediate_layers):
            raise ValueError(f"intermediate_layers is {intermediate_layers}, expected 1..{num_blocks - 1}")
        stats = feature_stats or {"norm_means": [0.0] * num_features, "norm_stds": [1.0] * num_features}
        self.register_buffer("means", torch.tensor(stats["norm_means"], dtype=torch.float32))
        self.register_buffer("stds", torch.tensor(stats["norm_stds"], dtype=torch.float32))
        self.subsampling = subsampling
        self.stem = nn.Conv1d(num_features, channels, 2 * subsampling + 1, stride=subsampling, padding=subsampling)
        kind = {"conv": ConvBlock, "conformer": ConformerBlock}[block]
        self.blocks = nn.ModuleList(kind(channels, expansion, kernel_size, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, num_labels)
        self.intermediate_layers = tuple(intermediate_layers)
        self.intermediate = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, num_labels)) for _ in intermediate_layers
        )

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(B, T', V)`` log-probs and their ``(B,)`` lengths, ``ceil(num_frames / subsampling)``.

        ``features`` is ``(B, T, num_features)``, ``num_frames`` ``(B,)``.
        """
        outputs, lengths = self.outputs(features, num_frames)
        return outputs[0], lengths

    def outputs(self, features: Tensor, num_frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the log-probs of the last layer and then of each intermediate one, and their lengths."""
        index = torch.arange(features.shape[1], device=features.device)
        inside = (index < num_frames[:, None])[..., None]
        x = ((features - self.means) / self.stds) * inside
        x = self.stem(x.transpose(1, 2)).transpose(1, 2)
        lengths = torch.div(num_frames + self.subsampling - 1, self.subsampling, rounding_mode="floor")
        mask = (index[: x.shape[1]] < lengths[:, None])[..., None].to(x.dtype)
        inner = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, mask)
            if number in self.intermediate_layers:
                head = self.intermediate[self.intermediate_layers.index(number)]
                inner.append(head(x).log_softmax(-1))
        return [self.output(self.norm(x)).log_softmax(-1), *inner], lengths


class AllOutputs(nn.Module):
    """A model as training sees it: every output of one forward pass, which is what DDP wants to wrap."""

    def __init__(self, model: DigitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return `DigitModel.outputs`."""
        return self.model.outputs(features, num_frames)


def num_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
