"""Smoothed max pooling over the parts of keywords."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wfst_losses.losses.smoothed_max_pooling.call import Call, Integers, pool, prepare, untraced
from wfst_losses.losses.smoothed_max_pooling.scores import (
    Scores,
    check_pooled_scores,
    read_log_probs,
    read_softmax_logits,
)
from wfst_losses.losses.smoothed_max_pooling.windows import (
    IntegerArray,
    Windows,
    check_frames,
    check_labels,
    check_places,
    cut_windows,
    read_integers,
)
from wfst_losses.validation import Lengths, check_blank, check_count, check_flag, check_integer, shown


def encoder_smoothed_max_pooling_loss(
    log_probs: torch.Tensor,
    parts: Integers,
    end_frames: Integers,
    input_lengths: Lengths,
    part_lengths: Integers | None = None,
    *,
    background: int = 0,
    window_frames: int = 20,
    offset_frames: int = 40,
    sigma_frames: float = 4.0,
    filter_frames: int = 9,
    smooth_in: str = "prob",
    negative_weight: float = 1.0,
    reduction: str = "none",
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor:
    """Cost, per utterance, of keyword parts that do not peak one after another, or of frames that are no background.

    ``- sum_i log max_{t in window i} smooth(p_{c_i})[t] - sum_{t outside all windows} log p_background[t]``

    for parts ``c_1..c_n`` of a keyword, with p the softmax posteriors and window i the frames
    ``[start, start + length)``, ``start = end + offset - length * (n - i + 1)``, cut to the utterance. An utterance
    without parts is negative and pays ``- sum_t log p_background[t]``.

    The last part's window ends ``offset`` frames after the keyword, as the decoder's; the windows follow one another
    whatever the true lengths of the parts. A window that the utterance's ends leave nothing of is impossible data:
    +inf with zero gradient. Everything else is as in `smoothed_max_pooling_loss`, patents included.

    Args:
        log_probs: ``(B, T, V)``, half, bfloat16, float32 or float64, nats; or logits with ``from_logits``.
        parts: ``(B, N)`` labels padded with anything, or a list of B lists; ``(B, M, N)`` for M keywords each.
        end_frames: ``(B,)`` or ``(B, M)``, frames; anything where there are no parts.
        input_lengths: ``(B,)`` frames, 1 or more; frames beyond are never read and get gradient 0.
        part_lengths: ``(B,)`` or ``(B, M)`` parts, 0 for none; may be left out for a list of lists.
        background: the background's label.
        window_frames: a part's window's length.
        offset_frames: how far the last window reaches beyond the keyword's end.
        sigma_frames, filter_frames, smooth_in, negative_weight, reduction, nonfinite, max_memory: as in
            `smoothed_max_pooling_loss`.
        from_logits: normalise rows first, in the same pass.
        check_normalised: refuse rows whose probabilities do not sum to 1.

    Returns:
        ``(B,)`` or a scalar, nats; float64 for float64, else float32.

    Raises:
        ValueError: naming the argument, the utterance, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Park et al. 2020, arXiv 2001.09246. Patents US 11,056,101, US 11,682,385 and US 11,929,064.

    >>> import torch
    >>> log_probs = torch.full((1, 50, 4), 0.25).log()
    >>> loss = encoder_smoothed_max_pooling_loss(log_probs, [[2, 3]], [10], [50])
    >>> round(float(loss / torch.log(torch.tensor(4.0))), 4)  # two maxima and 10 frames outside [10, 50)
    12.0
    """
    call = _read_call(
        log_probs,
        parts,
        end_frames,
        input_lengths,
        part_lengths,
        background,
        window_frames,
        offset_frames,
        nonfinite,
        from_logits=from_logits,
        check_normalised=check_normalised,
        sigma_frames=sigma_frames,
        filter_frames=filter_frames,
        smooth_in=smooth_in,
        negative_weight=negative_weight,
        max_memory=max_memory,
    )
    return pool(call, reduction)


@untraced
def _read_call(
    log_probs: object,
    parts: Integers,
    end_frames: Integers,
    input_lengths: Lengths,
    part_lengths: Integers | None,
    background: int,
    window_frames: int,
    offset_frames: int,
    nonfinite: str,
    *,
    from_logits: bool,
    check_normalised: bool,
    **smoothing: Any,
) -> Call:
    check_flag("from_logits", from_logits)
    check_flag("check_normalised", check_normalised)
    name = "log_probs"
    scores = check_pooled_scores(name, log_probs, nonfinite)
    num_utterances, num_frames, num_labels = scores.shape
    if part_lengths is None:
        parts, part_lengths = _pad(parts)
    columns = read_integers(parts=parts, end_frames=end_frames, input_lengths=input_lengths, part_lengths=part_lengths)
    lengths = check_frames(columns["input_lengths"], num_utterances, num_frames)
    check_count("window_frames", window_frames)
    check_integer("offset_frames", offset_frames)
    windows = _part_windows(
        columns["parts"],
        columns["end_frames"] + offset_frames,
        columns["part_lengths"],
        lengths,
        num_labels,
        window_frames,
    )

    def read() -> Scores:
        if from_logits:
            return read_softmax_logits(name, scores, lengths, nonfinite)
        return read_log_probs(scores, lengths, nonfinite, check_normalised=check_normalised)

    background = check_blank(background, num_labels, name="background")
    return prepare(scores, read, windows, lengths, background=background, **smoothing)


def _pad(parts: Any) -> tuple[IntegerArray, IntegerArray]:
    """A list of lists as ``(B, N)`` and its lengths."""
    if isinstance(parts, (str, bytes, torch.Tensor)) or not isinstance(parts, Sequence):
        raise ValueError(f"parts is {shown(parts)} and part_lengths is None, expected a list of lists, or both")
    rows = [read_integers(**{f"parts[{index}]": row})[f"parts[{index}]"] for index, row in enumerate(parts)]
    for index, row in enumerate(rows):
        check_places(f"parts[{index}]", row, ("N",), (row.size,))
    lengths = np.array([row.size for row in rows], dtype=np.int64)
    padded = np.full((len(rows), int(lengths.max(initial=0))), -1, dtype=np.int64)
    for row, out in zip(rows, padded, strict=True):
        out[: row.size] = row
    return padded, lengths


def _part_windows(
    parts: IntegerArray,
    stops: IntegerArray,
    part_lengths: IntegerArray,
    lengths: IntegerArray,
    num_labels: int,
    window_frames: int,
) -> Windows:
    """Windows of each keyword's parts, the last one ending at ``stops``."""
    num_utterances = len(lengths)
    if parts.ndim not in (2, 3) or len(parts) != num_utterances:
        raise ValueError(f"parts has shape {parts.shape}, expected ({num_utterances}, N) or ({num_utterances}, M, N)")
    shape = parts.shape[:-1]
    names = ("B", "M")[: len(shape)]
    check_places("end_frames", stops, names, shape)
    check_places("part_lengths", part_lengths, names, shape)
    longest = parts.shape[-1]
    wrong = (part_lengths < 0) | (part_lengths > longest)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        where = "".join(f"[{index}]" for index in place)
        raise ValueError(f"part_lengths{where} is {part_lengths[place]} (utterance {place[0]}), expected 0..{longest}")
    used = np.arange(longest) < part_lengths[..., None]
    check_labels("parts", np.where(used, parts, 0), num_labels, low=0)
    ends = stops[..., None] - window_frames * (part_lengths[..., None] - 1 - np.arange(longest))
    flat = (num_utterances, math.prod(parts.shape[1:]))
    return cut_windows(
        np.where(used, parts, -1).reshape(flat),
        (ends - window_frames).reshape(flat),
        ends.reshape(flat),
        lengths,
    )
