"""The one reduction every loss passes its values through."""

from __future__ import annotations

import torch

from wfst_losses.validation import check_reduction


def reduce(losses: torch.Tensor, reduction: str) -> torch.Tensor:
    """``(B,)`` values to what the caller asked for.

    "none": the B values, in the caller's order, impossible utterances (+inf) included. "sum" and "mean": over the
    finite ones only, not divided by lengths; 0 where none is finite, still attached to the graph of ``losses``, so
    that a process whose whole batch is impossible takes part in a distributed backward pass.

    A NaN (possible with ``nonfinite="pass"`` only) is passed on, never dropped.
    """
    check_reduction(reduction)
    if reduction == "none":
        return losses
    counted = losses.detach().abs() != torch.inf
    total = torch.where(counted, losses, torch.zeros_like(losses)).sum()
    if reduction == "sum":
        return total
    return total / counted.sum().clamp(min=1)
