"""The modules: the functions with their options kept, a report of the last call, copies and pickles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from tests.losses.checks import random_batch
from wfst_losses import (
    CTCLoss,
    Exhaustive,
    LatticeMWERLoss,
    MMILoss,
    MWERLoss,
    RandomPaths,
    SmoothedMaxPoolingLoss,
    ctc_loss,
    mwer_loss,
)

MODULES = {
    "ctc": CTCLoss(topology="compact", reduction="sum"),
    "mwer": MWERLoss(sampler=Exhaustive(), temperature=2.0, baseline="none"),
}


def functional(name: str, *arguments: Any, reduction: str) -> torch.Tensor:
    if name == "ctc":
        return ctc_loss(*arguments, topology="compact", reduction=reduction)
    return mwer_loss(*arguments, sampler=Exhaustive(), temperature=2.0, baseline="none", reduction=reduction)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_its_function(name: str) -> None:
    batch = random_batch(0, 3, 4, 5)
    module = MODULES[name]
    assert torch.equal(module(*batch), functional(name, *batch, reduction=module.reduction))


def test_means_are_the_default() -> None:
    assert CTCLoss().reduction == "mean"
    assert MWERLoss().reduction == "mean"
    assert LatticeMWERLoss().reduction == "sum"


def test_the_last_report_tells_what_was_left_out() -> None:
    module = CTCLoss()
    assert module.last_report is None
    log_probs, _, _ = random_batch(1, 3, 4, 4)
    module(log_probs, [[1], [1, 1, 1], [2], [1]], [4, 4, 2, 0])
    report = module.last_report
    assert (report.num_utterances, report.num_finite, report.infinite) == (4, 2, (1, 3))
    assert report.diagnostics is None


def test_the_last_report_of_mwer_has_diagnostics() -> None:
    module = MWERLoss(nonfinite="drop", sampler=RandomPaths(3))
    log_probs, targets, lengths = random_batch(2, 3, 4, 3)
    log_probs[1, 0, 0], lengths[1] = torch.nan, 4
    module(log_probs, targets, lengths)
    assert module.last_report.infinite == (1,)
    assert module.last_report.diagnostics.dropped == (1,)
    assert module.last_report.diagnostics.num_paths.shape == (3,)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])  # noqa: S301
def test_copies_compute_the_same(name: str, duplicate: Any) -> None:
    batch = random_batch(3, 3, 4, 4)
    wanted = MODULES[name](*batch)
    again = duplicate(MODULES[name])
    assert torch.equal(again(*batch), wanted)
    assert again.last_report.num_utterances == 4


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_saved_with_a_model(name: str) -> None:
    assert MODULES[name].state_dict() == {}
    assert list(MODULES[name].parameters()) == []
    MODULES[name].to(torch.float64).train()


def test_the_options_are_shown() -> None:
    assert repr(CTCLoss(topology="minimal", blank=3)) == "CTCLoss(topology='minimal', blank=3, reduction='mean')"


@pytest.mark.parametrize("module", [CTCLoss, MWERLoss, LatticeMWERLoss])
def test_a_bad_reduction_is_refused_at_once(module: type[torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match="reduction is 'max', expected one of 'none', 'mean', 'sum'"):
        module(reduction="max")


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (CTCLoss, {"topolgy": "compact"}, "topolgy is no option of ctc_loss, expected some of topology, "),
        (MMILoss, {"targets": [[1]]}, "targets is no option of mmi_loss"),
        (LatticeMWERLoss, {"blank": 1}, "blank is no option of lattice_mwer_loss"),
        (SmoothedMaxPoolingLoss, {"encoder_options": {"reduction": "mean"}}, "reduction is no option of encoder_"),
        (SmoothedMaxPoolingLoss, {"encoder_options": 3}, "encoder_options is 3, expected a dictionary or None"),
    ],
)
def test_an_option_that_is_none_is_refused_at_once(
    module: type[torch.nn.Module], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module(**options)


@pytest.mark.parametrize("module", [CTCLoss(), MWERLoss()], ids=["ctc", "mwer"])
def test_a_batch_with_nothing_finite_still_takes_part_in_a_backward_pass(module: torch.nn.Module) -> None:
    log_probs, _, _ = random_batch(4, 3, 2, 2)
    log_probs[:, 0, 0] = torch.nan
    leaf = log_probs.requires_grad_()
    module.options["nonfinite"] = "drop"
    value = module(leaf, [[1], [2]], [2, 2])
    assert float(value) == 0.0
    assert not torch.autograd.grad(value, leaf)[0].any()
    assert module.last_report.num_finite == 0
