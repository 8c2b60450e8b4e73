"""Samplers, risks, the exact estimator, alignments, weighted losses: what is called, and good arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from case import Entry
from entries_of_graphs import made_of
from good_calls import CHOICES, language_model, log_probs, loss_of, plain, values_and_gradients

import wfst_losses
from wfst_losses import Constant, Linear, Switch, WeightedLosses

TOKENS = ["<blk>", "\u2581a", "b", "\u2581c", "d"]


def _mwer_with(part: str, make: Callable[..., Any]) -> Callable[..., Any]:
    """MWER of the plain batch with a sampler or a risk made of the arguments."""

    def call(**arguments: Any) -> tuple[Any, Any]:
        scores = log_probs().requires_grad_()
        options: dict[str, Any] = {part: make(**arguments), "generator": torch.Generator().manual_seed(0)}
        return values_and_gradients(scores, wfst_losses.mwer_loss(**{**plain(), "log_probs": scores}, **options))

    return call


def _exact(**arguments: Any) -> torch.Tensor:
    result: torch.Tensor = wfst_losses.mwer_loss(estimator="exact", **arguments)
    return result


def _model_scores(**arguments: Any) -> tuple[Any, Any]:
    model, scores = language_model(), log_probs().requires_grad_()
    batch = {**plain(), "log_probs": scores}
    return values_and_gradients(scores, wfst_losses.mmi_loss(**batch, language_model=model, **arguments))


def aligned(**arguments: Any) -> tuple[Any, Any]:
    """Scores, and the label of each frame in place of a gradient."""
    found = wfst_losses.forced_alignment(**arguments)
    scores = found.scores.detach().double()
    return -scores.numpy(), (found.labels + 1).double()[:, :, None].numpy()


def _weighted(**arguments: Any) -> tuple[Any, Any]:
    schedules = {"ctc": Linear(1.0, 0.5, first_step=0, last_step=10), "mwer": 0.5}
    value = WeightedLosses(**schedules)(**arguments)
    return value.double().numpy(), torch.zeros(len(value), 1, 1).numpy()


_COSTS = {"insertion": "cost", "deletion": "cost", "substitution": "cost", "normalised": "flag"}


def get_hypothesis_entries() -> list[Entry]:
    """Every entry around MWER beside the losses."""
    lengths = {"log_probs": "log_probs", "targets": "targets", "input_lengths": "lengths"}
    samplers = {
        "NBest": {"num_paths": "count"},
        "NegativeSampling": {
            "num_paths": "count",
            "mask_probability": "probability",
            "unit": "choice",
            "beam": "beam",
            "p_blank": "probability",
        },
    }
    return [
        *(
            Entry(name, _mwer_with("sampler", getattr(wfst_losses, name)), lambda: {"num_paths": 4}, kinds)
            for name, kinds in samplers.items()
        ),
        *(
            Entry(
                name,
                _mwer_with("risk", getattr(wfst_losses, name)),
                lambda: {"tokens": TOKENS},
                {"tokens": "any_names", "mark": "mark", **_COSTS},
            )
            for name in ("CharacterErrors", "MixedErrors")
        ),
        Entry(
            "mwer_loss, exact",
            loss_of(_exact),
            lambda: plain() | {"max_errors": 2},
            lengths
            | {
                "targets": "references",
                "max_errors": "count_or_none",
                "topology": "topology",
                "language_model": "language_model",
                "risk": "object",
                "temperature": "positive",
                "nbest_scale": "positive",
                "return_diagnostics": "diagnostics",
                "blank": "blank",
                **CHOICES,
            },
        ),
        Entry(
            "mmi_loss, low memory",
            loss_of(wfst_losses.mmi_loss, memory="low"),
            lambda: plain() | {"language_model": language_model()},
            lengths | {"log_probs": "logits", "language_model": "required_language_model", "boost": "not_negative"},
        ),
        Entry(
            "mmi_loss, learnable scores",
            _model_scores,
            lambda: {"language_model_scores": language_model().scores.requires_grad_()},
            {"language_model_scores": "arc_scores_tensor", "backoff": "choice", "topology": "topology"},
        ),
        Entry(
            "forced_alignment",
            aligned,
            plain,
            lengths
            | {"topology": "topology", "blank": "blank", "from_logits": "flag", "check_normalised": "flag", **CHOICES},
        ),
        Entry("Constant", made_of(Constant), lambda: {"value": 1.0}, {"value": "not_negative"}),
        Entry(
            "Linear",
            made_of(Linear),
            lambda: {"first": 1.0, "last": 0.0, "first_step": 0, "last_step": 9},
            {"first": "not_negative", "last": "not_negative", "first_step": "step", "last_step": "count"},
        ),
        Entry(
            "Switch",
            made_of(Switch),
            lambda: {"step": 3},
            {"step": "step", "before": "not_negative", "after": "not_negative"},
        ),
        Entry(
            "WeightedLosses",
            _weighted,
            lambda: {"terms": {"ctc": torch.ones(3), "mwer": lambda: torch.ones(3)}, "step": 4},
            {"terms": "terms", "step": "step"},
        ),
    ]


def grid_paths(lattice: Callable[[torch.Tensor], Any]) -> Entry:
    """The sampler that only k2's lattices take."""

    def call(**arguments: Any) -> tuple[Any, Any]:
        scores = log_probs().requires_grad_()
        sampler = wfst_losses.GridPaths(**arguments)
        options: dict[str, Any] = {"sampler": sampler, "reduction": "none"}
        losses = wfst_losses.lattice_mwer_loss(lattice(scores), plain()["targets"], **options)
        return values_and_gradients(scores, losses)

    kinds = {"num_paths": "count", "use_double_scores": "flag"}
    return Entry("GridPaths", call, lambda: {"num_paths": 8}, kinds, has_threads=True)
