"""Smoothed max pooling over whole keywords."""

from __future__ import annotations

from typing import Any

import torch

from wfst_losses.losses.smoothed_max_pooling.call import Call, Integers, pool, prepare, untraced
from wfst_losses.losses.smoothed_max_pooling.scores import Scores, check_pooled_scores, read_logits
from wfst_losses.losses.smoothed_max_pooling.windows import (
    check_frames,
    check_labels,
    check_places,
    cut_windows,
    read_integers,
)
from wfst_losses.validation import Lengths, check_count, check_integer


def decoder_smoothed_max_pooling_loss(
    logits: torch.Tensor,
    keywords: Integers,
    end_frames: Integers,
    input_lengths: Lengths,
    *,
    window_frames: int = 60,
    offset_frames: int = 40,
    sigma_frames: float = 9.0,
    filter_frames: int = 21,
    smooth_in: str = "prob",
    negative_weight: float = 1.0,
    reduction: str = "none",
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor:
    """Cost, per utterance, of keywords that do not peak around their ends, or show elsewhere.

    ``- log max_{t in window} smooth(p_c)[t] - sum_{t outside} log(1 - p_c[t]) - sum_{k != c} sum_t log(1 - p_k[t])``

    for keyword c, with p the sigmoids and ``window = [end + offset - length, end + offset)`` cut to the utterance; a
    negative utterance pays ``- sum_{k, t} log(1 - p_k[t])``. With several keywords, or one several times, every
    occurrence has its maximum, and a keyword's outside is the complement of all its windows.

    Easily got wrong: all frames are those of the network's output, while the defaults are for frames of 10 ms, so
    divide them by the subsampling. The offset is how late the network may fire. A window that the utterance's ends
    leave nothing of is impossible data: +inf with zero gradient. Everything else is as in
    `smoothed_max_pooling_loss`, patents included.

    Args:
        logits: ``(B, T, K)`` of sigmoids, one column per keyword; half, bfloat16, float32 or float64.
        keywords: ``(B,)`` or ``(B, M)`` columns of ``logits``; -1 for none.
        end_frames: like ``keywords``, one past the keyword's last frame; anything where there is no keyword.
        input_lengths: ``(B,)`` frames, 1 or more; frames beyond are never read and get gradient 0.
        window_frames: the window's length.
        offset_frames: how far the window reaches beyond the keyword's end.
        sigma_frames, filter_frames, smooth_in, negative_weight, reduction, nonfinite, max_memory: as in
            `smoothed_max_pooling_loss`.

    Returns:
        ``(B,)`` or a scalar, nats; float64 for float64, else float32.

    Raises:
        ValueError: naming the argument, the utterance, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Park et al. 2020, arXiv 2001.09246. Patents US 11,056,101, US 11,682,385 and US 11,929,064.

    >>> import torch
    >>> logits = torch.full((2, 100, 3), -9.0)
    >>> logits[0, 50:70, 1] = 9.0  # fires at the end of keyword 1, in the first of two utterances
    >>> [round(value, 2) for value in decoder_smoothed_max_pooling_loss(logits, [1, -1], [40, 0], [100, 100]).tolist()]
    [0.06, 0.04]
    """
    call = _read_call(
        logits,
        keywords,
        end_frames,
        input_lengths,
        window_frames,
        offset_frames,
        nonfinite,
        sigma_frames=sigma_frames,
        filter_frames=filter_frames,
        smooth_in=smooth_in,
        negative_weight=negative_weight,
        max_memory=max_memory,
    )
    return pool(call, reduction)


@untraced
def _read_call(
    logits: object,
    keywords: Integers,
    end_frames: Integers,
    input_lengths: Lengths,
    window_frames: int,
    offset_frames: int,
    nonfinite: str,
    **smoothing: Any,
) -> Call:
    scores = check_pooled_scores("logits", logits, nonfinite)
    columns = read_integers(keywords=keywords, end_frames=end_frames, input_lengths=input_lengths)
    num_utterances, num_frames, num_labels = scores.shape
    lengths = check_frames(columns["input_lengths"], num_utterances, num_frames)
    labels, ends = columns["keywords"], columns["end_frames"]
    places = labels.shape[1:] if labels.ndim == 2 else ()
    check_places("keywords", labels, ("B", "M") if places else ("B",), (num_utterances, *places))
    check_places("end_frames", ends, ("B", "M") if places else ("B",), labels.shape)
    check_labels("keywords", labels, num_labels)
    check_count("window_frames", window_frames)
    check_integer("offset_frames", offset_frames)
    if not places:
        labels, ends = labels[:, None], ends[:, None]
    stops = ends + offset_frames
    windows = cut_windows(labels, stops - window_frames, stops, lengths)

    def read() -> Scores:
        return read_logits("logits", scores, lengths, nonfinite)

    return prepare(scores, read, windows, lengths, background=None, **smoothing)
