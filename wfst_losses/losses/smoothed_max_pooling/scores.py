"""The door for scores: which utterances hold NaN or +inf, which posteriors are none."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.emissions import read_emissions
from wfst_losses.losses.smoothed_max_pooling.domains import pieces, working_dtype
from wfst_losses.validation import check_nonfinite, check_scores


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Checked scores of a batch.

    Attributes:
        values: ``(B, T, K)`` as they came, with autograd history. Frames beyond the lengths hold anything.
        domain: a name in `DOMAINS`.
        dropped: ``(B,)`` bool: utterances with NaN or +inf that the caller asked to drop.
        log_sums: ``(B, T)`` where logits of a softmax are normalised on the fly.
    """

    values: torch.Tensor
    domain: str
    dropped: npt.NDArray[np.bool_]
    log_sums: torch.Tensor | None = None


def read_logits(name: str, logits: torch.Tensor, lengths: npt.NDArray[np.int64], nonfinite: str) -> Scores:
    """Logits of sigmoids: NaN and +inf are met by ``nonfinite``, -inf is probability 0."""
    top = logits.detach().amax(2)  # NaN where a row has one
    dropped = _screen(name, logits, ~(top < torch.inf), lengths, nonfinite)
    return Scores(logits, "logits", dropped)


def read_posteriors(name: str, posteriors: torch.Tensor, lengths: npt.NDArray[np.int64], nonfinite: str) -> Scores:
    """Probabilities: those outside [0, 1] are refused, NaN is met by ``nonfinite``."""
    rows = posteriors.detach()
    wrong = ((rows.amax(2) > 1) | (rows.amin(2) < 0)) & _live(rows, lengths)
    if wrong.any():
        utterance, frame = wrong.nonzero()[0].tolist()
        row = rows[utterance, frame]
        label = int(((row > 1) | (row < 0)).nonzero()[0])
        raise ValueError(
            f"{name}[{utterance}, {frame}, {label}] is {row[label].item():.6g} (utterance {utterance}, frame {frame}), "
            "expected probabilities in 0..1; pass logits as logits="
        )
    dropped = _screen(name, posteriors, rows.sum(2).isnan(), lengths, nonfinite)
    return Scores(posteriors, "posteriors", dropped)


def read_softmax_logits(name: str, logits: torch.Tensor, lengths: npt.NDArray[np.int64], nonfinite: str) -> Scores:
    """Logits of a softmax: NaN, +inf and rows of -inf alone are met by ``nonfinite``."""
    with torch.no_grad():
        log_sums = torch.cat([piece.to(working_dtype(logits)).logsumexp(2) for piece in pieces(logits)], 1)
    dropped = _screen(name, logits, ~log_sums.isfinite(), lengths, nonfinite)
    return Scores(logits, "log_probs", dropped, log_sums)


def read_log_probs(
    log_probs: torch.Tensor, lengths: npt.NDArray[np.int64], nonfinite: str, *, check_normalised: bool
) -> Scores:
    """Log-probabilities, whose rows must sum to 1 in probability unless ``check_normalised`` is off."""
    emissions = read_emissions(log_probs.detach(), lengths, check_normalised=check_normalised, nonfinite=nonfinite)
    return Scores(log_probs, "log_probs", emissions.dropped)


def check_pooled_scores(name: str, scores: object, nonfinite: str) -> torch.Tensor:
    """``(B, T, K)`` of a floating dtype, at least one column, and a known policy."""
    check_nonfinite(nonfinite)
    return check_scores(name, scores)


def _screen(
    name: str, scores: torch.Tensor, is_bad: torch.Tensor, lengths: npt.NDArray[np.int64], nonfinite: str
) -> npt.NDArray[np.bool_]:
    """Utterances to drop, for ``is_bad`` ``(B, T)``; without a look at the device where all may pass."""
    if nonfinite == "pass":
        return np.zeros(len(lengths), dtype=bool)
    is_bad = is_bad & _live(scores, lengths)
    dropped = is_bad.any(dim=1).cpu().numpy()
    if nonfinite == "raise" and dropped.any():
        utterance, frame = is_bad.nonzero()[0].tolist()
        row = scores[utterance, frame].detach()
        wrong = ~(row < torch.inf)
        value = f"{name}[{utterance}, {frame}] is all -inf"
        if wrong.any():
            label = int(wrong.nonzero()[0])
            value = f"{name}[{utterance}, {frame}, {label}] is {row[label].item()}"
        raise ValueError(
            f"{value} (utterance {utterance}, frame {frame}), expected finite numbers or -inf; nonfinite='drop' "
            "leaves such utterances out and counts them, nonfinite='pass' computes with them"
        )
    return dropped


def _live(scores: torch.Tensor, lengths: npt.NDArray[np.int64]) -> torch.Tensor:
    frames = torch.arange(scores.shape[1], device=scores.device)
    return frames < torch.from_numpy(lengths).to(scores.device, non_blocking=True)[:, None]
