"""The door for network outputs: logits or log-probs in any floating dtype become checked log-probs."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.validation import check_lengths, check_nonfinite, check_scores

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
"""How far a row's log-sum may lie from 0: rounding V probabilities to the dtype, with a margin."""


@dataclasses.dataclass(frozen=True, eq=False)
class Emissions:
    """Checked scores of labels per frame.

    Attributes:
        log_probs: ``(B, T, V)`` float32 or float64, nats, with autograd history. Frames at and after an utterance's
            length hold anything, NaN included: no engine reads them.
        input_lengths: ``(B,)`` int64 on the CPU, frames.
        dropped: ``(B,)`` bool: utterances with NaN or +inf that the caller asked to drop.
    """

    log_probs: torch.Tensor
    input_lengths: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.bool_]

    @property
    def num_utterances(self) -> int:
        """B."""
        return self.log_probs.shape[0]

    @property
    def num_labels(self) -> int:
        """V."""
        return self.log_probs.shape[2]

    def live_frames(self) -> torch.Tensor:
        """``(B, T)`` bool on the device of the scores: frames before each utterance's length."""
        frames = torch.arange(self.log_probs.shape[1], device=self.log_probs.device)
        lengths = torch.from_numpy(np.asarray(self.input_lengths)).to(self.log_probs.device)
        return frames[None, :] < lengths[:, None]

    def without_padding(self) -> torch.Tensor:
        """The log-probs with 0 in every frame that is not live, so that nothing of them reaches a gradient."""
        return self.log_probs.masked_fill(~self.live_frames()[:, :, None], 0.0)


def read_emissions(
    log_probs: object,
    input_lengths: object,
    *,
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
) -> Emissions:
    """Check and upcast what a network gave.

    Half and bfloat16 become float32. With ``from_logits`` rows are log-softmaxed, which leaves log-probs as they are;
    without it rows must already sum to 1 in probability unless ``check_normalised`` is off.

    Raises:
        ValueError: naming the argument, and for values the utterance and frame, what was expected and what came.
    """
    check_nonfinite(nonfinite)
    name = "logits" if from_logits else "log_probs"
    scores = check_scores(name, log_probs)
    num_utterances, num_frames, _ = scores.shape
    lengths = check_lengths("input_lengths", input_lengths, num_utterances, num_frames)
    tolerance = _TOLERANCE[scores.dtype]
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    emissions = Emissions(scores, lengths, np.zeros(num_utterances, dtype=bool))
    live = emissions.live_frames()
    with torch.no_grad():
        log_sums = torch.logsumexp(scores.detach(), dim=2)
    # A row's log-sum is NaN or +inf exactly where the row holds NaN or +inf.
    bad = live & ~(log_sums < torch.inf)
    if from_logits:
        bad = bad | (live & (log_sums == -torch.inf))
    if bad.any():
        if nonfinite == "raise":
            _refuse_nonfinite(name, scores, bad)
        if nonfinite == "drop":
            dropped = bad.any(dim=1)
            scores = scores.masked_fill(dropped[:, None, None], 0.0)
            emissions = Emissions(scores, lengths, dropped.cpu().numpy())
            live = live & ~dropped[:, None]
    if from_logits:
        normalised = torch.log_softmax(emissions.without_padding(), dim=2)
        return dataclasses.replace(emissions, log_probs=normalised)
    if check_normalised:
        # NaN and +inf that got here were let through on request.
        off = live & (log_sums.abs() > tolerance) & (log_sums < torch.inf)
        if off.any():
            _refuse_unnormalised(scores, off, log_sums)
    return emissions


def _first(mask: torch.Tensor) -> tuple[int, int]:
    utterance, frame = mask.nonzero()[0].tolist()
    return utterance, frame


def _refuse_nonfinite(name: str, scores: torch.Tensor, bad: torch.Tensor) -> None:
    utterance, frame = _first(bad)
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


def _refuse_unnormalised(scores: torch.Tensor, off: torch.Tensor, log_sums: torch.Tensor) -> None:
    utterance, frame = _first(off)
    row = scores[utterance, frame].detach().double()
    total = float(log_sums[utterance, frame].double().exp())
    if float(row.min()) >= 0 and abs(float(row.sum()) - 1) < 1e-2:
        advice = "these look like probabilities: pass log_probs.log()"
    else:
        advice = "these look like logits: pass from_logits=True"
    raise ValueError(
        f"log_probs[{utterance}, {frame}] has probabilities summing to {total:.6g}, expected 1 (utterance "
        f"{utterance}, frame {frame}): {advice}; for label priors or acoustic scales pass check_normalised=False"
    )
