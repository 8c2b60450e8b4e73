"""Smoothed max pooling over given windows: what the decoder's and the encoder's loss are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wfst_losses.losses.smoothed_max_pooling.call import Call, Integers, pool, prepare, untraced
from wfst_losses.losses.smoothed_max_pooling.scores import (
    Scores,
    check_pooled_scores,
    read_logits,
    read_posteriors,
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
from wfst_losses.validation import Lengths, check_count, shown


def smoothed_max_pooling_loss(
    posteriors: torch.Tensor | None = None,
    *,
    logits: torch.Tensor | None = None,
    windows: Integers,
    labels: Integers,
    input_lengths: Lengths,
    outside: str | int = "complement",
    sigma_frames: float,
    filter_frames: int,
    smooth_in: str = "prob",
    negative_weight: float = 1.0,
    reduction: str = "none",
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor:
    """Cost, per utterance, of labels that do not peak inside their windows, or show outside them.

    ``loss = - sum over windows m of log max_{t in window m} smooth(p_{labels[m]})[t] + negative_weight * outside``
    ``smooth(p)[t] = sum_k s_k p[t + k]``, ``s_k`` proportional to ``exp(-k^2 / (2 sigma^2))``, summing to 1

    with the outside term, all sums and no means,

    - ``outside="complement"``, p from sigmoids: ``- sum over every label k and t outside the windows of k of
      log(1 - p_k[t])``; a label without a window pays for all frames;
    - ``outside=background``, a label, p from a softmax: ``- sum over t outside all windows of log p_background[t]``.

    Easily got wrong: the whole utterance is smoothed, then windows are cut, so frames beyond a window count; at the
    ends of the utterance the filter is renormalised, so a constant stays that constant; the maximum goes through the
    logarithm, so the gradient reaches the frames under the filter at one place, the first maximum where there are
    several. A window with no frame inside its utterance is impossible data: +inf with zero gradient.

    Nothing of the scores' size is kept for the backward pass: the gradient itself is the only such tensor then.

    Args:
        posteriors: ``(B, T, K)`` probabilities; or
        logits: ``(B, T, K)`` of sigmoids, of a softmax if ``outside`` is a label (log-probabilities are logits too).
            In the log domain: finite for saturated sigmoids. Half, bfloat16, float32 or float64.
        windows: ``(B, M, 2)`` integers, first frame and one past the last, cut to the utterance.
        labels: ``(B, M)`` columns of the scores; -1 where an utterance has fewer than M windows.
        input_lengths: ``(B,)`` frames, 1 or more; frames beyond are never read and get gradient 0.
        outside: "complement", or the background's label.
        sigma_frames: width of the Gaussian, frames.
        filter_frames: its length, odd; 1 is plain max pooling.
        smooth_in: "prob", or "log" to smooth log-posteriors, as some implementations do.
        negative_weight: factor of the outside term: 100 labels of 200 frames are 20,000 terms against one maximum.
        reduction: "none" gives B values in the order given; "sum" and "mean" go over the finite ones.
        nonfinite: what NaN or +inf in a live frame does: "raise", "drop" (+inf, zero gradient) or "pass". Only "pass"
            never waits for the device.
        max_memory: bytes that terms and gradient may take, told before they are taken; None: the machine's.

    Returns:
        ``(B,)`` or a scalar, nats; float64 for float64, else float32.

    Raises:
        ValueError: naming the argument, the utterance, what was expected and what came: both or neither of
            posteriors and logits, posteriors outside 0..1, a window that starts after its end, a label out of range,
            an even filter, a length of 0.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Park et al. 2020, arXiv 2001.09246, as used by the two losses below; several windows and
    ``negative_weight`` are ours. Training this way is covered by patents US 11,056,101, US 11,682,385 and
    US 11,929,064: see to it that you may before you ship a model.

    >>> import torch
    >>> posteriors = torch.tensor([0.1, 0.1, 0.8, 0.1])[None, :, None]
    >>> loss = smoothed_max_pooling_loss(
    ...     posteriors, windows=[[[1, 4]]], labels=[[0]], input_lengths=[4], sigma_frames=1.0, filter_frames=1
    ... )
    >>> round(float(loss), 4)  # -log 0.8 - log 0.9
    0.3285
    """
    call = _read_call(
        posteriors,
        logits,
        windows,
        labels,
        input_lengths,
        outside,
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
    posteriors: torch.Tensor | None,
    logits: torch.Tensor | None,
    windows: Integers,
    labels: Integers,
    input_lengths: Lengths,
    outside: str | int,
    nonfinite: str,
    **smoothing: Any,
) -> Call:
    if (posteriors is None) == (logits is None):
        raise ValueError(f"{'neither' if logits is None else 'both'} of posteriors and logits given, expected one")
    name = "posteriors" if logits is None else "logits"
    scores = check_pooled_scores(name, posteriors if logits is None else logits, nonfinite)
    columns = read_integers(windows=windows, labels=labels, input_lengths=input_lengths)
    num_utterances, num_frames, num_labels = scores.shape
    lengths = check_frames(columns["input_lengths"], num_utterances, num_frames)
    cut = _check_windows(columns["windows"], columns["labels"], lengths, num_labels)
    background = None if isinstance(outside, str) and outside == "complement" else _check_outside(outside, num_labels)

    def read() -> Scores:
        if logits is None:
            return read_posteriors(name, scores, lengths, nonfinite)
        if background is None:
            return read_logits(name, scores, lengths, nonfinite)
        return read_softmax_logits(name, scores, lengths, nonfinite)

    return prepare(scores, read, cut, lengths, background=background, **smoothing)


def _check_windows(windows: IntegerArray, labels: IntegerArray, lengths: IntegerArray, num_labels: int) -> Windows:
    num_windows = labels.shape[1] if labels.ndim == 2 else 1
    if windows.size == 0 and num_windows == 0:  # a list of empty lists, say
        windows = windows.reshape(len(lengths), 0, 2)
    check_places("labels", labels, ("B", "M"), (len(lengths), num_windows))
    check_places("windows", windows, ("B", "M", 2), (len(lengths), num_windows, 2))
    check_labels("labels", labels, num_labels)
    wrong = (windows[:, :, 0] > windows[:, :, 1]) & (labels >= 0)
    if wrong.any():
        utterance, place = (int(index) for index in np.argwhere(wrong)[0])
        start, stop = windows[utterance, place].tolist()
        raise ValueError(
            f"windows[{utterance}][{place}] is [{start}, {stop}) (utterance {utterance}), expected a start that is not "
            "after the end"
        )
    return cut_windows(labels, windows[:, :, 0], windows[:, :, 1], lengths)


def _check_outside(outside: object, num_labels: int) -> int:
    if isinstance(outside, str):
        raise ValueError(f"outside is {shown(outside)}, expected 'complement' or the background's label")
    label = check_count("outside", outside, low=0)
    if label >= num_labels:
        raise ValueError(f"outside is {label} but there are {num_labels} columns, expected 0..{num_labels - 1}")
    return label
