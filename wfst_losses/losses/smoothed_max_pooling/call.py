"""A checked call: everything an autograd function takes, made apart from what torch.compile traces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.losses.reduction import reduce
from wfst_losses.losses.smoothed_max_pooling.domains import working_dtype
from wfst_losses.losses.smoothed_max_pooling.peaks import Smoothing, gaussian_weights
from wfst_losses.losses.smoothed_max_pooling.pooling import BackgroundPooling, ComplementPooling, Options
from wfst_losses.losses.smoothed_max_pooling.scores import Scores
from wfst_losses.losses.smoothed_max_pooling.windows import IntegerArray, Windows
from wfst_losses.memory_formulas import pooling_work
from wfst_losses.memory_limit import MemoryBudget
from wfst_losses.validation import check_choice, check_number

Integers = Any
"""A tensor, array or nested sequence of integers."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Call(NamedTuple):
    """What `ComplementPooling` and `BackgroundPooling` take, and ``impossible`` ``(B,)``."""

    scores: torch.Tensor
    log_sums: torch.Tensor | None
    lengths: torch.Tensor
    table: torch.Tensor
    padding: torch.Tensor
    impossible: torch.Tensor
    options: Options


def untraced(function: _Function) -> _Function:
    """``function`` kept out of torch.compile's traces, in one piece.

    Checks look at values and raise, so they break the graph anyway; traced, they would break it at every look.
    """
    if not hasattr(torch, "compiler"):
        return function

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        # Asked at the call: torch.compiler.disable imports the whole compiler.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **options)  # type: ignore[no-untyped-call]
        return function(*args, **options)

    return run  # type: ignore[return-value]


def prepare(
    given: torch.Tensor,
    read: Callable[[], Scores],
    windows: Windows,
    lengths: IntegerArray,
    *,
    background: int | None,
    max_memory: int | None,
    sigma_frames: float,
    filter_frames: int,
    smooth_in: str,
    negative_weight: float,
) -> Call:
    """The call for scores, read once it is known that all will fit, and windows; no ``background``: the complement."""
    check_choice("smooth_in", smooth_in, ("prob", "log"))
    check_number("negative_weight", negative_weight, low=0.0)
    smoothing = Smoothing(gaussian_weights(sigma_frames, filter_frames), smooth_in == "log")
    work = pooling_work(
        num_scores=given.numel(),
        num_frames=given.shape[0] * given.shape[1],
        num_taps=len(windows.labels) * (windows.longest + 2 * smoothing.reach),
        item_bytes=given.element_size(),
        is_background=background is not None,
        needs_gradient=given.requires_grad and torch.is_grad_enabled(),
    )
    MemoryBudget.of(max_memory).take("smoothed max pooling", work)
    scores = read()
    windows = windows.without(scores.dropped)
    # An impossible utterance has no frame that counts, so its gradient is 0 whatever it holds.
    padding = np.arange(scores.values.shape[1]) >= np.where(windows.impossible, 0, lengths)[:, None]
    device = scores.values.device
    return Call(
        scores.values,
        scores.log_sums,
        _to(lengths, device),
        windows.table(device),
        _to(np.stack(np.nonzero(padding)), device),
        _to(windows.impossible, device),
        Options(windows.longest, smoothing, scores.domain, float(negative_weight), background),
    )


def pool(call: Call, reduction: str) -> torch.Tensor:
    """The reduced loss."""
    scores, log_sums, lengths, table, padding, impossible, options = call
    losses: torch.Tensor
    if options.background is None:
        losses = ComplementPooling.apply(scores, lengths, table, padding, options)  # type: ignore[no-untyped-call]
    else:
        losses = BackgroundPooling.apply(  # type: ignore[no-untyped-call]
            scores, log_sums, lengths, table, padding, options
        )
    return reduce(losses.to(working_dtype(scores)).masked_fill(impossible, torch.inf), reduction)


def _to(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
