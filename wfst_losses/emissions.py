"""The door for network outputs: logits or log-probs in any floating dtype become checked log-probs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.memory_formulas import Work
from wfst_losses.memory_limit import MemoryBudget
from wfst_losses.validation import check_flag, check_lengths, check_nonfinite, check_scores

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
"""How far a row's log-sum may lie from 0: rounding V probabilities to the dtype, with a margin."""


@dataclasses.dataclass(frozen=True, eq=False)
class PendingCheck:
    """What is left to those who read the rows anyway: a pass of its own would cost more than all of the reading.

    Attributes:
        tolerance: how far a row's log-sum may lie from 0.
        refuse: look at every row, and raise a ValueError that names the first that is wrong, if any is.
    """

    tolerance: float
    refuse: Callable[[], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Emissions:
    """Checked scores of labels per frame.

    Attributes:
        scores: ``(B, T, V)`` float32 or float64, nats, with autograd history: logits or log-probs. Frames at and
            after an utterance's length hold anything, NaN included: no engine reads them.
        log_sums: ``(B, T)`` in the same dtype, on the CPU: what to subtract from each live row, 0 for log-probs.
        is_logits: whether gradients go through a log-softmax.
        input_lengths: ``(B,)`` int64 on the CPU, frames.
        dropped: ``(B,)`` bool: utterances with NaN or +inf that the caller asked to drop.
        is_finite: False where NaN or +inf were let through on request.
        budget: what the call may take beside the scores, and has taken.
        pending: a check of values that sums make on their way, None where it is made. See `AbstractBackend`.
    """

    scores: torch.Tensor
    log_sums: npt.NDArray[np.floating]
    is_logits: bool
    input_lengths: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.bool_]
    is_finite: bool = True
    budget: MemoryBudget = dataclasses.field(default_factory=MemoryBudget)
    pending: PendingCheck | None = None

    def require(self, what: str, part: Work) -> None:
        """Refuse work before it allocates.

        Raises:
            MemoryLimitError: if with it the call would take more than it may.
        """
        self.budget.take(what, part)

    @property
    def num_utterances(self) -> int:
        """B."""
        return self.scores.shape[0]

    @property
    def num_labels(self) -> int:
        """V."""
        return self.scores.shape[2]

    @property
    def num_bytes(self) -> int:
        """Of the scores, and of a gradient in their dtype."""
        return self.scores.numel() * self.scores.element_size()

    def live_frames(self) -> torch.Tensor:
        """``(B, T)`` bool on the device of the scores: frames before each utterance's length."""
        frames = torch.arange(self.scores.shape[1], device=self.scores.device)
        lengths = torch.from_numpy(np.asarray(self.input_lengths)).to(self.scores.device)
        return frames[None, :] < lengths[:, None]

    @functools.cached_property
    def log_probs(self) -> torch.Tensor:
        """``(B, T, V)`` nats: 0 in every frame that is not live, so that nothing of them reaches a gradient."""
        # Kept for all who ask, so attached to the scores even if the first to ask wants no gradient.
        with torch.enable_grad():
            scores = self.scores.masked_fill(~self.live_frames()[:, :, None], 0.0)
            return torch.log_softmax(scores, dim=2) if self.is_logits else scores

    @property
    def anchor(self) -> torch.Tensor:
        """Zero, attached to the scores: a value that reads no frame still takes part in a backward pass."""
        return self.scores.flatten()[:1].nan_to_num(0.0, 0.0, 0.0).sum() * 0.0


def read_emissions(
    log_probs: object,
    input_lengths: object,
    *,
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
    max_memory: int | None = None,
    may_defer: bool = False,
) -> Emissions:
    """Check and upcast what a network gave.

    Half and bfloat16 become float32. With ``from_logits`` rows will be log-softmaxed, which leaves log-probs as they
    are; without it rows must already sum to 1 in probability unless ``check_normalised`` is off. One pass over the
    scores tells their log-sums, and with them NaN, +inf and rows that are not normalised.

    With ``may_defer`` that is left pending where the log-sums are not needed, for sums that read the rows on the CPU:
    they look at all that they read for NaN and +inf, and at some whole rows of each utterance, of small calls at all.

    Raises:
        ValueError: naming the argument, and for values the utterance and frame, what was expected and what came.
    """
    check_nonfinite(nonfinite)
    budget = MemoryBudget.of(max_memory)
    check_flag("from_logits", from_logits)
    check_flag("check_normalised", check_normalised)
    from_logits = bool(from_logits)  # numpy's own kind of bool is no operand for torch
    name = "log_probs"
    scores = check_scores(name, log_probs)
    num_utterances, num_frames, _ = scores.shape
    lengths = check_lengths("input_lengths", input_lengths, num_utterances, num_frames, of=name)
    tolerance = _TOLERANCE[scores.dtype]
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    dropped = np.zeros(num_utterances, dtype=bool)
    if may_defer and not from_logits and nonfinite == "raise" and scores.device.type == "cpu":

        def refuse() -> None:
            read_emissions(log_probs, lengths, check_normalised=check_normalised)

        pending = PendingCheck(tolerance if check_normalised else np.inf, refuse)
        nothing = np.zeros(scores.shape[:2], dtype=np.float64 if scores.dtype == torch.float64 else np.float32)
        return Emissions(scores, nothing, from_logits, lengths, dropped, True, budget, pending)
    log_sums = _log_sums(scores.detach(), lengths)
    # A row's log-sum is NaN or +inf exactly where the row holds NaN or +inf; frames that are not live have 0.
    lowest, highest = log_sums.min(initial=0.0), log_sums.max(initial=0.0)  # NaN where any is
    is_finite = bool(highest < np.inf and (lowest > -np.inf or not from_logits))
    if not is_finite and nonfinite != "pass":
        bad = ~(log_sums < np.inf) | ((log_sums == -np.inf) & from_logits)
        if nonfinite == "raise":
            _refuse_nonfinite(name, scores, bad)
        dropped, is_finite = bad.any(axis=1), True
        scores = scores.masked_fill(torch.from_numpy(dropped).to(scores.device)[:, None, None], 0.0)
        log_sums = np.where(dropped[:, None], log_sums.dtype.type(0.0), log_sums)
        lowest, highest = log_sums.min(initial=0.0), log_sums.max(initial=0.0)
    if check_normalised and not from_logits and not (-tolerance <= lowest and highest <= tolerance):
        # NaN and +inf that got here were let through on request.
        off = (np.abs(log_sums) > tolerance) & (log_sums < np.inf)
        if off.any():
            _refuse_unnormalised(scores, off, log_sums)
    shift = log_sums if from_logits else np.zeros_like(log_sums)
    return Emissions(scores, shift, from_logits, lengths, dropped, is_finite, budget)


def for_best_paths(emissions: Emissions) -> Emissions:
    """What a best path reads where NaN and +inf were let through: no label whose log-prob is neither a number nor -inf.

    A frame of logits that holds one has no log-softmax at all: its utterance is left out.
    """
    if emissions.is_finite:
        return emissions
    scores, log_sums, dropped = emissions.scores, emissions.log_sums, emissions.dropped
    if emissions.is_logits:
        dropped = dropped | ~np.isfinite(log_sums).all(axis=1)
        scores = scores.masked_fill(torch.from_numpy(dropped).to(scores.device)[:, None, None], 0.0)
        log_sums = np.where(dropped[:, None], log_sums.dtype.type(0.0), log_sums)
    else:
        scores = scores.masked_fill(~(scores < torch.inf), -torch.inf)
    return dataclasses.replace(emissions, scores=scores, log_sums=log_sums, dropped=dropped, is_finite=True)


def _log_sums(scores: torch.Tensor, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """``(B, T)`` the log-sum of each live row, 0 elsewhere."""
    frames = np.arange(scores.shape[1])
    if scores.device.type == "cuda" and importlib.util.find_spec("triton"):
        from wfst_losses.compiled import cuda_rows

        found = cuda_rows.row_log_sums(scores, torch.as_tensor(lengths, dtype=torch.int32, device=scores.device))
        return np.asarray(found.cpu().numpy())
    if scores.device.type != "cpu":
        sums = torch.logsumexp(scores, dim=2).cpu().numpy()
        return np.where(frames[None, :] < lengths[:, None], sums, 0)
    from wfst_losses.compiled.rows import row_log_sums
    from wfst_losses.compiled.threads import run_in_parallel

    values = scores.contiguous().numpy()
    sums = np.zeros(values.shape[:2], dtype=values.dtype)
    run_in_parallel(lambda begin, end: row_log_sums(begin, end, values, lengths, sums), lengths)
    return sums


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    utterance, frame = np.argwhere(mask)[0].tolist()
    return utterance, frame


def _refuse_nonfinite(name: str, scores: torch.Tensor, bad: npt.NDArray[np.bool_]) -> None:
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


def _refuse_unnormalised(scores: torch.Tensor, off: npt.NDArray[np.bool_], log_sums: npt.NDArray[np.floating]) -> None:
    utterance, frame = _first(off)
    row = scores[utterance, frame].detach().double()
    total = float(np.exp(np.float64(log_sums[utterance, frame])))
    if float(row.min()) >= 0 and abs(float(row.sum()) - 1) < 1e-2:
        advice = "these look like probabilities: pass log_probs.log()"
    else:
        advice = "these look like logits: pass from_logits=True"
    raise ValueError(
        f"log_probs[{utterance}, {frame}] has probabilities summing to {total:.6g}, expected 1 (utterance "
        f"{utterance}, frame {frame}): {advice}; for label priors or acoustic scales pass check_normalised=False"
    )
