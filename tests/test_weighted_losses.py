"""Weights by step, terms computed only where they count, infinities kept apart."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from wfst_losses import Constant, Linear, Switch, WeightedLosses, ctc_loss, mmi_loss
from wfst_losses.graphs.language_model import LanguageModel
from wfst_losses.losses.reduction import reduce
from wfst_losses.weighted_losses import AbstractSchedule


@pytest.mark.parametrize(
    ("schedule", "steps", "weights"),
    [
        (Constant(0.3), [0, 5, 10**6], [0.3, 0.3, 0.3]),
        (Linear(2.0, 1.0, 10, 20), [0, 10, 13, 20, 99], [2.0, 2.0, 1.7, 1.0, 1.0]),
        (Switch(3), [0, 2, 3, 4], [0.0, 0.0, 1.0, 1.0]),
        (Switch(3, before=1.0, after=0.25), [2, 3], [1.0, 0.25]),
    ],
)
def test_schedules(schedule: AbstractSchedule, steps: list[int], weights: list[float]) -> None:
    assert [schedule.weight(step) for step in steps] == pytest.approx(weights)


def test_the_gradient_is_the_weighted_sum_of_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    inner = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64).log_softmax(-1).requires_grad_()
    outer = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64).log_softmax(-1).requires_grad_()
    targets, lengths = [[1, 2], [1] * 6, [3]], [6, 6, 4]
    model = LanguageModel.uniform(4)
    losses = WeightedLosses(ctc=Linear(1.0, 0.0, 0, 10), mmi=Switch(4), inner=0.3)

    def terms() -> dict[str, torch.Tensor]:
        return {
            "ctc": ctc_loss(outer, targets, lengths),
            "mmi": mmi_loss(outer, targets, lengths, language_model=model),
            "inner": ctc_loss(inner, targets, lengths, topology="minimal"),
        }

    total = losses(terms(), step=5)
    assert total.isinf().tolist() == [False, True, False]
    outer_grad, inner_grad = torch.autograd.grad(reduce(total, "sum"), [outer, inner])
    each = {name: value[[0, 2]].sum() for name, value in terms().items()}
    wanted = 0.5 * each["ctc"] + each["mmi"] + 0.3 * each["inner"]
    torch.testing.assert_close(total[[0, 2]].sum(), wanted)
    for found, expected in zip((outer_grad, inner_grad), torch.autograd.grad(wanted, [outer, inner]), strict=True):
        torch.testing.assert_close(found, expected)
    # Possible in the minimal topology alone, and left out of it too.
    assert each["inner"].isfinite()
    assert terms()["inner"][1].isfinite()
    assert (inner_grad[1] == 0).all()


def test_terms_without_weight_are_neither_computed_nor_counted() -> None:
    losses = WeightedLosses(ctc=Switch(2, before=1.0, after=0.0), mwer=Switch(2))
    calls = []

    def mwer() -> torch.Tensor:
        calls.append(1)
        return torch.tensor([1.0, 2.0])

    never = torch.tensor([3.0, torch.inf])
    assert losses({"ctc": never, "mwer": mwer}, step=1).tolist() == [3.0, float("inf")]
    assert (calls, list(losses.last_terms)) == ([], ["ctc"])
    assert losses({"ctc": never, "mwer": mwer}, step=2).tolist() == [1.0, 2.0]
    assert (calls, list(losses.last_terms)) == ([1], ["mwer"])
    assert losses({"mwer": mwer}, step=2).tolist() == [1.0, 2.0]
    assert not losses.last_terms["mwer"].requires_grad


def test_they_copy_and_pickle() -> None:
    losses = WeightedLosses(ctc=0.5, mwer=Linear(0.0, 1.0, 0, 10))
    for other in (copy.deepcopy(losses), pickle.loads(pickle.dumps(losses))):  # noqa: S301
        assert other.weights(5) == losses.weights(5) == {"ctc": 0.5, "mwer": 0.5}
    assert "mwer=Linear(first=0.0, last=1.0, first_step=0, last_step=10)" in repr(losses)


def test_bad_calls() -> None:
    losses = WeightedLosses(ctc=1.0, mwer=Switch(10))
    with pytest.raises(ValueError, match="terms has 'mmi', expected 'ctc', 'mwer'"):
        losses({"ctc": torch.zeros(2), "mmi": torch.zeros(2)}, step=0)
    with pytest.raises(ValueError, match="terms lacks 'mwer'"):
        losses({"ctc": torch.zeros(2)}, step=10)
    with pytest.raises(ValueError, match=r"terms\['mwer'\] has shape \(\), expected \(2,\)"):
        losses({"ctc": torch.zeros(2), "mwer": torch.tensor(1.0)}, step=10)
    for term, problem in [
        (torch.ones(2).to_sparse(), "is a tensor of layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "is a tensor on the meta device"),
        (torch.ones(2, dtype=torch.int64), "has dtype torch.int64, expected a floating dtype"),
        (torch.ones(2, dtype=torch.complex64), "has dtype torch.complex64"),
        (torch.ones(2, 1), r"has shape \(2, 1\), expected \(B,\) values or a scalar"),
    ]:
        with pytest.raises(ValueError, match=rf"terms\['ctc'\] {problem}"):
            losses({"ctc": term}, step=0)
    with pytest.raises(ValueError, match="every weight is 0 at step 3"):
        WeightedLosses(mwer=Switch(10))({}, step=3)
    with pytest.raises(ValueError, match="ctc is -1"):
        WeightedLosses(ctc=-1)
    with pytest.raises(ValueError, match="no schedule is given"):
        WeightedLosses()
    with pytest.raises(ValueError, match="last_step is 5, expected >= 6"):
        Linear(1.0, 0.0, 5, 5)
