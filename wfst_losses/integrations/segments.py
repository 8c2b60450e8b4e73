"""Stretches of a network's output, one per supervision, as lhotse and icefall have them: sequence, start, frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.validation import check_count, check_scores, to_numpy


def cut_segments(
    nnet_output: torch.Tensor, supervision_segments: torch.Tensor, *, allow_truncate: int = 0
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """The frames of each supervision as an utterance of its own: ``(S, T', V)`` scores and ``(S,)`` lengths.

    Order and autograd graph are the caller's. Where the segments are whole sequences in their order, nothing is copied.

    Args:
        nnet_output: ``(N, T, V)``.
        supervision_segments: ``(S, 3)`` integers: index of the sequence, first frame, frames; in any order.
        allow_truncate: so many frames may a segment reach beyond T; they are left out, as ``k2.DenseFsaVec`` does.

    Raises:
        ValueError: naming the segment, what was expected and what came.
    """
    nnet_output = check_scores("nnet_output", nnet_output)
    check_count("allow_truncate", allow_truncate, low=0)
    num_sequences, num_frames = nnet_output.shape[:2]
    segments = _check_segments(supervision_segments)
    sequence, start, frames = segments.T
    for wrong, expected in (
        ((sequence < 0) | (sequence >= num_sequences), f"a sequence in 0..{num_sequences - 1}"),
        ((start < 0) | (frames < 0), "no negative frames"),
        (start + frames > num_frames + allow_truncate, f"an end of at most {num_frames} + {allow_truncate} frames"),
    ):
        if wrong.any():
            index = int(np.argmax(wrong))
            raise ValueError(f"supervision_segments[{index}] is {segments[index].tolist()}, expected {expected}")
    lengths = np.clip(num_frames - start, 0, frames)
    if len(segments) == num_sequences and not start.any() and np.array_equal(sequence, np.arange(num_sequences)):
        return nnet_output, lengths
    longest = int(lengths.max(initial=0))
    index = np.minimum(start[:, None] + np.arange(longest), max(0, num_frames - 1))
    rows = torch.from_numpy(sequence[:, None]).to(nnet_output.device)
    return nnet_output[rows, torch.from_numpy(index).to(nnet_output.device)], lengths


def _check_segments(segments: object) -> npt.NDArray[np.int64]:
    if isinstance(segments, torch.Tensor) and segments.dtype not in (torch.bool, torch.float16, torch.bfloat16):
        columns = to_numpy("supervision_segments", segments)
    else:
        try:
            columns = np.asarray(segments)
        except ValueError:  # ragged
            columns = np.asarray(None)
    if columns.ndim != 2 or columns.shape[1] != 3 or columns.dtype.kind not in "iu":
        raise ValueError(
            f"supervision_segments has shape {columns.shape} and dtype {columns.dtype}, expected (S, 3) integers: "
            "sequence, start frame, frames"
        )
    return columns.astype(np.int64)
