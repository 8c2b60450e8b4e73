"""What goes into a zipformer's model beside its ``forward_ctc``, so that DDP covers it.

All take ``(ctc_output, encoder_out_lens, targets, target_lengths)``: log-probs ``(N, T, C)``, frames ``(N,)``, the
targets of all utterances one after the other, and tokens of each ``(N,)``. All return a sum over utterances, those
without a path left out, in float32 and attached to ``ctc_output``; other options are the loss's own.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from wfst_losses.losses.ctc import ctc_loss
from wfst_losses.losses.mmi import mmi_loss
from wfst_losses.losses.mwer import mwer_loss
from wfst_losses.validation import Lengths, check_dense, check_lengths, check_row, shown

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def forward_ctc(
    ctc_output: torch.Tensor, encoder_out_lens: Lengths, targets: torch.Tensor, target_lengths: Lengths, **options: Any
) -> torch.Tensor:
    """CTC of any topology: `wfst_losses.ctc_loss`."""
    sequences = split_targets(targets, target_lengths)
    return ctc_loss(ctc_output, sequences, encoder_out_lens, **{"reduction": "sum", **options})


def forward_mmi(
    ctc_output: torch.Tensor, encoder_out_lens: Lengths, targets: torch.Tensor, target_lengths: Lengths, **options: Any
) -> torch.Tensor:
    """MMI of any topology: `wfst_losses.mmi_loss`; ``language_model`` is needed."""
    sequences = split_targets(targets, target_lengths)
    return mmi_loss(ctc_output, sequences, encoder_out_lens, **{"reduction": "sum", **options})


def forward_mwer(
    ctc_output: torch.Tensor, encoder_out_lens: Lengths, targets: torch.Tensor, target_lengths: Lengths, **options: Any
) -> torch.Tensor:
    """Expected errors: `wfst_losses.mwer_loss` with ``baseline="none"``, so that values are errors."""
    sequences = split_targets(targets, target_lengths)
    options = {"reduction": "sum", "baseline": "none", **options}
    return cast("torch.Tensor", mwer_loss(ctc_output, sequences, encoder_out_lens, **options))


def split_targets(targets: torch.Tensor, target_lengths: Lengths) -> list[list[int]]:
    """Concatenated targets as one list per utterance.

    >>> split_targets(torch.tensor([5, 6, 7]), torch.tensor([2, 0, 1]))
    [[5, 6], [], [7]]
    """
    if not isinstance(targets, torch.Tensor) or targets.dim() != 1 or targets.dtype not in _INTEGERS:
        raise ValueError(f"targets is {shown(targets)}, expected the concatenated targets: a tensor of one axis")
    check_dense("targets", targets)
    column = check_row("target_lengths", target_lengths)
    num_utterances = len(column)
    lengths = check_lengths("target_lengths", target_lengths, num_utterances, len(targets))
    if lengths.sum() != len(targets):
        raise ValueError(f"target_lengths sum to {lengths.sum()}, expected {len(targets)}, the number of targets")
    ends = np.cumsum(lengths)
    return [targets[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]
