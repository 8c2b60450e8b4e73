"""The losses as torch modules: shells that hold a call's options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from wfst_losses.losses.ctc import ctc_loss
from wfst_losses.losses.expected_errors import Diagnostics
from wfst_losses.losses.lattice_mwer import lattice_mwer_loss
from wfst_losses.losses.mmi import mmi_loss
from wfst_losses.losses.mwer import mwer_loss
from wfst_losses.losses.reduction import reduce
from wfst_losses.losses.smoothed_max_pooling import (
    decoder_smoothed_max_pooling_loss,
    encoder_smoothed_max_pooling_loss,
)
from wfst_losses.validation import Lengths, Targets, check_number, check_reduction

if TYPE_CHECKING:
    from k2 import Fsa, RaggedTensor


@dataclasses.dataclass(frozen=True)
class LossReport:
    """What the last call of a module left out.

    Attributes:
        num_utterances: B.
        num_finite: how many entered the sum or mean.
        infinite: the others, by their place in the batch.
        diagnostics: of MWER losses.
    """

    num_utterances: int
    num_finite: int
    infinite: tuple[int, ...]
    diagnostics: Diagnostics | None = None


class AbstractLoss(torch.nn.Module):
    """Options kept from construction, one loss function called with them, and a report of the last call."""

    function: Callable[..., Any]

    def __init__(self, *, reduction: str = "mean", **options: Any) -> None:
        super().__init__()
        check_reduction(reduction)
        _check_options(type(self).function, options)
        self.reduction = reduction
        self.options = options
        self.last_report: LossReport | None = None

    def extra_repr(self) -> str:
        """The options, as in a call."""
        return ", ".join(f"{name}={value!r}" for name, value in {**self.options, "reduction": self.reduction}.items())

    def _finish(self, losses: torch.Tensor, diagnostics: Diagnostics | None = None) -> torch.Tensor:
        infinite = tuple(torch.nonzero(~losses.detach().isfinite()).flatten().tolist())
        self.last_report = LossReport(len(losses), len(losses) - len(infinite), infinite, diagnostics)
        return reduce(losses, self.reduction)


def _check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Names that the function has: a slip of the pen is told where it is made, not in the first step."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("reduction", "target_lengths")
        and (parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY)
    ]
    for name in options:
        if name not in known:
            raise ValueError(f"{name} is no option of {function.__name__}, expected some of {', '.join(known)}")


class CTCLoss(AbstractLoss):
    """`ctc_loss` with its options fixed; ``last_report`` tells which utterances were impossible."""

    function = staticmethod(ctc_loss)

    def values(
        self,
        log_probs: torch.Tensor,
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths | None = None,
    ) -> torch.Tensor:
        """``(B,)`` before the reduction."""
        return ctc_loss(log_probs, targets, input_lengths, target_lengths, **self.options)

    def forward(
        self,
        log_probs: torch.Tensor,
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths | None = None,
    ) -> torch.Tensor:
        """The reduced loss."""
        return self._finish(self.values(log_probs, targets, input_lengths, target_lengths))


class MMILoss(AbstractLoss):
    """`mmi_loss` with its options fixed; ``last_report`` tells which utterances were impossible."""

    function = staticmethod(mmi_loss)

    def values(
        self,
        log_probs: torch.Tensor,
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths | None = None,
        language_model_scores: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``(B,)`` before the reduction."""
        scores = {} if language_model_scores is None else {"language_model_scores": language_model_scores}
        return mmi_loss(log_probs, targets, input_lengths, target_lengths, **{**self.options, **scores})

    def forward(
        self,
        log_probs: torch.Tensor,
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths | None = None,
        language_model_scores: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The reduced loss."""
        return self._finish(self.values(log_probs, targets, input_lengths, target_lengths, language_model_scores))


class MWERLoss(AbstractLoss):
    """`mwer_loss` with its options fixed, plus ``auxiliary_weight`` times another loss of the same batch.

    Args:
        auxiliary: a `CTCLoss` or `MMILoss` with options of its own (``from_logits``, ``blank``, ``topology``); its
            reduction plays no part. MWER only moves mass among hypotheses: recipes add a little CTC or MMI. An
            utterance impossible in one of the two is impossible, with zero gradient, in both.
        auxiliary_weight: above 0 with ``auxiliary``.
        options: `mwer_loss`'s. ``last_report.diagnostics`` tells what stood behind the value, with
            ``return_diagnostics=True`` the posterior mass too.
    """

    function = staticmethod(mwer_loss)

    def __init__(
        self,
        *,
        auxiliary: CTCLoss | MMILoss | None = None,
        auxiliary_weight: float = 0.0,
        reduction: str = "mean",
        **options: Any,
    ) -> None:
        super().__init__(reduction=reduction, **options)
        _check_auxiliary(auxiliary, auxiliary_weight)
        self.auxiliary, self.auxiliary_weight = auxiliary, auxiliary_weight

    def forward(
        self,
        log_probs: torch.Tensor,
        targets: Targets,
        input_lengths: Lengths,
        target_lengths: Lengths | None = None,
    ) -> torch.Tensor:
        """The reduced loss."""
        batch = log_probs, targets, input_lengths, target_lengths
        result = mwer_loss(*batch, **_with_diagnostics(self.options))
        losses, diagnostics = cast("tuple[torch.Tensor, Diagnostics]", result)
        if self.auxiliary is not None:
            losses = _joined(losses, self.auxiliary_weight * self.auxiliary.values(*batch))
        return self._finish(losses, diagnostics)


def _check_auxiliary(auxiliary: object, auxiliary_weight: object) -> None:
    check_number("auxiliary_weight", auxiliary_weight, low=0.0)
    if auxiliary is not None and not isinstance(auxiliary, (CTCLoss, MMILoss)):
        raise ValueError(f"auxiliary is {auxiliary!r:.80}, expected a CTCLoss or an MMILoss")
    if (auxiliary is None) != (auxiliary_weight == 0):
        raise ValueError(
            f"auxiliary is {auxiliary!r:.80} and auxiliary_weight is {auxiliary_weight}, expected a loss and a "
            "weight above 0, or neither"
        )


def _joined(losses: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Their sum; impossible in one is impossible, with zero gradient, in both."""
    both = losses + others.to(losses.device)
    return both.masked_fill(both.detach() == torch.inf, torch.inf)


def _with_diagnostics(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "return_diagnostics": options.get("return_diagnostics") or "counts"}


class LatticeMWERLoss(AbstractLoss):
    """`lattice_mwer_loss` with its options fixed; ``k2.MWERLoss``'s arguments in its order.

    Args:
        auxiliary, auxiliary_weight: as in `MWERLoss`; called with what the lattice was made from.
        options: `lattice_mwer_loss`'s.
    """

    function = staticmethod(lattice_mwer_loss)

    def __init__(
        self,
        temperature: float = 1.0,
        use_double_scores: bool = True,
        reduction: str = "sum",
        *,
        auxiliary: CTCLoss | MMILoss | None = None,
        auxiliary_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(reduction=reduction, temperature=temperature, use_double_scores=use_double_scores, **options)
        _check_auxiliary(auxiliary, auxiliary_weight)
        self.auxiliary, self.auxiliary_weight = auxiliary, auxiliary_weight

    def forward(
        self,
        lattice: Fsa,
        ref_texts: list[list[int]] | RaggedTensor,
        nbest_scale: float = 0.5,
        num_paths: int = 200,
        *,
        log_probs: torch.Tensor | None = None,
        targets: Targets | None = None,
        input_lengths: Lengths | None = None,
    ) -> torch.Tensor:
        """The reduced loss.

        With ``auxiliary`` it also takes ``log_probs``, ``targets`` and ``input_lengths`` for it, utterances in the
        lattice's order: that of its supervisions.
        """
        batch = log_probs, targets, input_lengths
        if any((part is None) != (self.auxiliary is None) for part in batch):
            names = ("log_probs", "targets", "input_lengths")
            missing = [name for name, part in zip(names, batch, strict=True) if part is None]
            raise ValueError(
                f"{', '.join(missing) or 'none of ' + ', '.join(names)} is None and auxiliary is "
                f"{self.auxiliary!r:.80}, expected all of them with an auxiliary loss, none without"
            )
        result = lattice_mwer_loss(
            lattice,
            ref_texts,
            nbest_scale,
            num_paths,
            **{**_with_diagnostics(self.options), "reduction": "none"},
        )
        losses, diagnostics = cast("tuple[torch.Tensor, Diagnostics]", result)
        if self.auxiliary is not None:
            losses = _joined(losses, self.auxiliary_weight * self.auxiliary.values(*batch))  # type: ignore[arg-type]
        return self._finish(losses, diagnostics)


class SmoothedMaxPoolingLoss(AbstractLoss):
    """The decoder's loss plus ``encoder_weight`` times the encoder's; the decoder's alone where parts are left out.

    Options are those of `decoder_smoothed_max_pooling_loss`; the encoder's, which has lengths of its own, are given
    as ``encoder_options``. An utterance impossible in one is impossible, with zero gradient, in both. Patents as
    there.
    """

    function = staticmethod(decoder_smoothed_max_pooling_loss)

    def __init__(
        self,
        *,
        encoder_weight: float = 1.0,
        encoder_options: Mapping[str, Any] | None = None,
        reduction: str = "mean",
        **options: Any,
    ) -> None:
        super().__init__(reduction=reduction, **options)
        check_number("encoder_weight", encoder_weight, low=0.0)
        self.encoder_weight = encoder_weight
        if not isinstance(encoder_options, (Mapping, type(None))):
            raise ValueError(f"encoder_options is {encoder_options!r:.80}, expected a dictionary or None")
        self.encoder_options = dict(encoder_options or {})
        _check_options(encoder_smoothed_max_pooling_loss, self.encoder_options)

    def extra_repr(self) -> str:
        """The options, as in a call."""
        return f"encoder_weight={self.encoder_weight}, encoder_options={self.encoder_options}, {super().extra_repr()}"

    def forward(
        self,
        logits: torch.Tensor,
        keywords: Any,
        end_frames: Any,
        input_lengths: Lengths,
        *,
        encoder_log_probs: torch.Tensor | None = None,
        parts: Any = None,
        part_lengths: Any = None,
    ) -> torch.Tensor:
        """The reduced loss."""
        if (encoder_log_probs is None) != (parts is None):
            raise ValueError("one of encoder_log_probs and parts is None, expected both or neither")
        losses = decoder_smoothed_max_pooling_loss(logits, keywords, end_frames, input_lengths, **self.options)
        if encoder_log_probs is not None and self.encoder_weight:
            others = encoder_smoothed_max_pooling_loss(
                encoder_log_probs, parts, end_frames, input_lengths, part_lengths, **self.encoder_options
            )
            losses = _joined(losses, self.encoder_weight * others)
        return self._finish(losses)
