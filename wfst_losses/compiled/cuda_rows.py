"""Log-sums of the rows a network gave, by Triton: each row is read once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def row_log_sums(scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """``(B, T)`` in the dtype of ``scores``, 0 for frames at and after ``lengths``, which are not read.

    Args:
        scores: ``(B, T, V)`` of any strides.
        lengths: ``(B,)`` int32 on the same device.
    """
    num_utterances, num_frames, num_labels = scores.shape
    sums = torch.empty(num_utterances, num_frames, dtype=scores.dtype, device=scores.device)
    if sums.numel():
        block = min(4096, triton.next_power_of_2(num_labels))
        with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
            _write_log_sums[(sums.numel(),)](
                sums, scores, lengths, *scores.stride(), num_frames, num_labels, LABELS=block
            )
    return sums


@triton.jit(do_not_specialize=["num_frames", "num_labels"])
def _write_log_sums(
    sums: tl.tensor,
    scores: tl.tensor,
    lengths: tl.tensor,
    stride_b: tl.tensor,
    stride_t: tl.tensor,
    stride_v: tl.tensor,
    num_frames: tl.tensor,
    num_labels: tl.tensor,
    LABELS: tl.constexpr,
) -> None:
    """One program per row, running maxima and sums over blocks of labels; NaN and +inf pass into the sum."""
    utterance, frame = tl.program_id(0) // num_frames, tl.program_id(0) % num_frames
    row = scores + utterance.to(tl.int64) * stride_b + frame.to(tl.int64) * stride_t
    is_live = tl.load(lengths + utterance) > frame
    peak = tl.full([1], float("-inf"), sums.dtype.element_ty)
    mass = tl.zeros([1], sums.dtype.element_ty)
    for first in range(0, tl.where(is_live, num_labels, 0), LABELS):
        labels = first + tl.arange(0, LABELS)
        values = tl.load(row + labels.to(tl.int64) * stride_v, mask=labels < num_labels, other=float("-inf"))
        highest = tl.maximum(peak, tl.max(values, axis=0))
        # A row may be all -inf so far; maxima pass over NaN, sums do not.
        shift = tl.where(highest > float("-inf"), highest, 0.0)
        mass = mass * tl.exp(peak - shift) + tl.sum(tl.exp(values - shift), axis=0)
        peak = highest
    shift = tl.where(peak > float("-inf"), peak, 0.0)
    total = tl.sum(shift + tl.log(mass), axis=0)
    tl.store(sums + tl.program_id(0), tl.where(is_live, total, 0.0))
