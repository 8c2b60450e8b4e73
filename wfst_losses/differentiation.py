"""Gradients that are computed, not recorded: a second derivative through them is refused, not dropped.

Autograd takes a gradient without history for a constant, and its own ``once_differentiable`` does so too wherever the
incoming gradient is one: a penalty on the gradient would lose its effect without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def differentiated_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A Function's ``backward`` run without history, its results tied to a node that cannot be differentiated."""

    @functools.wraps(backward)
    def refusing(ctx: Any, *gradients: torch.Tensor) -> Any:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return results
        marked = torch.zeros((), requires_grad=True)
        return tuple(
            _Once.apply(result, marked) if isinstance(result, torch.Tensor) else result  # type: ignore[no-untyped-call]
            for result in results
        )

    return refusing


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, gradient: torch.Tensor, _marked: torch.Tensor) -> torch.Tensor:
        return gradient.clone()

    @staticmethod
    def backward(_ctx: Any, *_gradients: torch.Tensor) -> None:
        raise RuntimeError(
            "this loss can be differentiated once only; ctc_loss, mmi_loss and mwer_loss have a second derivative "
            "with backend='reference'"
        )
