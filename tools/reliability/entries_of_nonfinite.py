"""NaN and +inf where the caller asked to have them left out, or let pass."""

from __future__ import annotations

import functools

from case import Arguments, Entry
from entries_of_decoding import best_outputs, decoded, nbest_outputs
from entries_of_hypotheses import aligned
from good_calls import language_model, loss_of, plain

import wfst_losses


def _with_model() -> Arguments:
    return plain() | {"language_model": language_model()}


def _several() -> Arguments:
    return decoded() | {"num_paths": 2}


_BEST_PATHS = {
    "forced_alignment": (aligned, plain),
    "decode": (best_outputs, decoded),
    "decode_nbest": (nbest_outputs, _several),
}
_CALLS = {
    "ctc_loss": (loss_of(wfst_losses.ctc_loss), plain),
    "mmi_loss": (loss_of(wfst_losses.mmi_loss), _with_model),
    "mwer_loss": (loss_of(wfst_losses.mwer_loss, sampler=wfst_losses.Exhaustive()), plain),
    **_BEST_PATHS,
}


def get_nonfinite_entries() -> list[Entry]:
    """Every function with ``nonfinite="drop"``, and with "pass" those whose values stay numbers."""
    return [
        *(
            Entry(f"{name}, drop", functools.partial(call, nonfinite="drop"), good, {"log_probs": "log_probs_left_out"})
            for name, (call, good) in _CALLS.items()
        ),
        *(
            Entry(f"{name}, pass", functools.partial(call, nonfinite="pass"), good, {"log_probs": "log_probs_let_pass"})
            for name, (call, good) in _BEST_PATHS.items()
        ),
    ]
