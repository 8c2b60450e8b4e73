"""The doors for network outputs: logits, probabilities, NaN and infinities, in every loss that takes emissions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch

from tests.losses.engines import EVERY_BACKEND
from tests.topologies.checks import random_log_probs
from wfst_losses import Exhaustive, ctc_loss, mwer_loss

LOSSES: list[Callable[..., torch.Tensor]] = [
    ctc_loss,
    functools.partial(mwer_loss, sampler=Exhaustive(), baseline="none"),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=["ctc", "mwer"])
TARGETS, LENGTHS = [[1, 2], [2], [1]], [4, 2, 3]


def logits(seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_loss
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_logits_and_log_probs_give_the_same(loss: Callable[..., torch.Tensor], backend: str) -> None:
    leaves = [logits().requires_grad_() for _ in range(3)]
    values = [
        loss(torch.log_softmax(leaves[0], 2), TARGETS, LENGTHS, backend=backend),
        loss(leaves[1], TARGETS, LENGTHS, backend=backend, from_logits=True),
        # Normalising what is normalised changes nothing.
        loss(torch.log_softmax(leaves[2], 2), TARGETS, LENGTHS, backend=backend, from_logits=True),
    ]
    gradients = [torch.autograd.grad(value.sum(), leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        torch.testing.assert_close(value, values[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-5)


@every_loss
@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_and_logits_passed_as_log_probs_are_told_apart(
    loss: Callable[..., torch.Tensor], backend: str, dtype: torch.dtype
) -> None:
    wrong = logits().to(dtype)
    with pytest.raises(ValueError, match=r"log_probs\[0, 0\] has probabilities summing to .*from_logits=True"):
        loss(wrong, TARGETS, LENGTHS, backend=backend)
    good = torch.log_softmax(logits(), 2)
    good[1, 1] = good[1, 1].exp()
    message = r"log_probs\[1, 1\] .*utterance 1, frame 1.* look like probabilities: pass log_probs.log\(\)"
    with pytest.raises(ValueError, match=message):
        loss(good.to(dtype), TARGETS, LENGTHS, backend=backend)
    assert loss(good.to(dtype), TARGETS, LENGTHS, backend=backend, check_normalised=False).isfinite().all()


@every_loss
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_priors_and_scales_pass_unchecked(loss: Callable[..., torch.Tensor], backend: str) -> None:
    log_probs = torch.log_softmax(logits(), 2)
    scaled = loss(0.5 * log_probs + 0.125, TARGETS, LENGTHS, backend=backend, check_normalised=False)
    if loss is ctc_loss:
        again = loss(0.5 * log_probs, TARGETS, LENGTHS, backend=backend, check_normalised=False)
        shift = 0.125 * torch.tensor(LENGTHS, dtype=torch.float64)
        torch.testing.assert_close(scaled, again - shift, rtol=0, atol=1e-5)
    assert bool(scaled.isfinite().all())


@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_found_at_every_label(value: float, dtype: torch.dtype, from_logits: bool) -> None:
    # Every place in rows of every remainder of a vector's length.
    for num_labels in [2, 3, 8, 17, 37]:
        clean = random_log_probs(1, 2, 3, num_labels).to(dtype)
        for label in range(num_labels):
            broken = clean.clone()
            broken[1, 2, label] = value
            name = "log_probs"
            message = rf"{name}\[1, 2, {label}\] is {value} \(utterance 1, frame 2\), expected finite numbers or -inf"
            with pytest.raises(ValueError, match=message):
                ctc_loss(broken, [[1], [1]], [3, 3], from_logits=from_logits)


@every_loss
@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_dropping_leaves_out_the_utterance_and_nothing_else(
    loss: Callable[..., torch.Tensor], backend: str, from_logits: bool, value: float
) -> None:
    clean = logits() if from_logits else torch.log_softmax(logits(), 2)
    broken = clean.clone()
    broken[1, 0, 1] = value
    values, gradients = [], []
    for scores in (clean, broken):
        leaf = scores.clone().requires_grad_()
        losses = loss(leaf, TARGETS, LENGTHS, backend=backend, from_logits=from_logits, nonfinite="drop")
        values.append(losses.detach())
        gradients.append(torch.autograd.grad(losses[losses.isfinite()].sum(), leaf)[0])
    assert float(values[1][1]) == math.inf
    assert not gradients[1][1].any()
    for row in (0, 2):
        assert torch.equal(values[0][row], values[1][row])
        assert torch.equal(gradients[0][row], gradients[1][row])


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_passing_computes_with_what_is_there(backend: str, value: float) -> None:
    scores = torch.log_softmax(logits(), 2)
    scores[1, 0, 2] = value
    losses = ctc_loss(scores, TARGETS, LENGTHS, backend=backend, nonfinite="pass")
    assert losses.isfinite().tolist() == [True, False, True]
    clean = ctc_loss(torch.log_softmax(logits(), 2), TARGETS, LENGTHS, backend=backend)
    torch.testing.assert_close(losses[[0, 2]], clean[[0, 2]], rtol=0, atol=1e-6)


@every_loss
def test_a_row_of_minus_infinity_is_no_distribution(loss: Callable[..., torch.Tensor]) -> None:
    scores = logits()
    scores[2, 1] = -math.inf
    with pytest.raises(ValueError, match=r"log_probs\[2, 1\] is all -inf \(utterance 2, frame 1\)"):
        loss(scores, TARGETS, LENGTHS, from_logits=True)
    log_probs = torch.log_softmax(logits(), 2)
    log_probs[2, 1] = -math.inf
    with pytest.raises(ValueError, match=r"log_probs\[2, 1\] has probabilities summing to 0"):
        loss(log_probs, TARGETS, LENGTHS)
    losses = loss(log_probs, TARGETS, LENGTHS, check_normalised=False)
    assert losses.isfinite().tolist() == [True, True, False]


@pytest.mark.parametrize("num_labels", [1, 2, 100, 5000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rows_rounded_to_their_dtype_count_as_normalised(dtype: torch.dtype, num_labels: int) -> None:
    log_probs = random_log_probs(2, 2, 5, num_labels).to(dtype)
    assert bool(ctc_loss(log_probs, [[], []], [5, 5]).isfinite().all())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_any_memory_layout(backend: str) -> None:
    log_probs = random_log_probs(5, 3, 4, 3)
    wanted = ctc_loss(log_probs, TARGETS, LENGTHS, backend=backend)
    for view in (
        log_probs.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([log_probs, log_probs], dim=2)[:, :, :3],
        log_probs[:1].expand(3, 4, 3) * 0 + log_probs,
        log_probs.flip(2).contiguous().flip(2),
    ):
        leaf = view.detach().requires_grad_()
        losses = ctc_loss(leaf, TARGETS, LENGTHS, backend=backend)
        assert torch.equal(losses, wanted)
        assert torch.autograd.grad(losses.sum(), leaf)[0].shape == log_probs.shape


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_changing_the_scores_before_the_backward_pass_is_found(backend: str) -> None:
    leaf = random_log_probs(6, 2, 4, 3).requires_grad_()
    scores = leaf * 1.0
    losses = ctc_loss(scores, [[1], [2]], [4, 4], backend=backend)
    scores.data.add_(0.0)
    with torch.no_grad():
        scores.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()


LARGE = (2, 700, 60)
"""More numbers than are all looked at before the sums."""


@functools.cache
def large() -> torch.Tensor:
    return torch.randn(LARGE, generator=torch.Generator().manual_seed(4)).log_softmax(2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("topology", ["correct", "minimal"])
@pytest.mark.parametrize("frame", [1, 333, 698])
def test_of_a_large_call_every_number_that_is_read_is_checked(value: float, topology: str, frame: int) -> None:
    bad = large().clone()
    bad[1, frame, 7] = value
    with pytest.raises(ValueError, match=rf"log_probs\[1, {frame}, 7\] is {value} \(utterance 1, frame {frame}\)"):
        ctc_loss(bad, [[3, 5], [5, 7, 7]], LARGE[1:2] * 2, topology=topology, backend="native")
    assert ctc_loss(bad, [[3, 5], [5, 7, 7]], LARGE[1:2] * 2, nonfinite="drop", reduction="none")[1] == math.inf


def test_of_a_large_call_numbers_that_no_target_reads_change_nothing() -> None:
    scores = large().clone()
    scores[1, 333, 9] = math.nan
    leaves = [scores.requires_grad_(), large().clone().requires_grad_()]
    values = [ctc_loss(leaf, [[3, 5], [5, 7, 7]], LARGE[1:2] * 2, backend="native") for leaf in leaves]
    gradients = [torch.autograd.grad(value.sum(), leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    assert torch.equal(*values)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("wrong", ["logits", "padding", "first"])
def test_of_a_large_call_wrong_rows_are_met(wrong: str) -> None:
    scores = {"logits": large() - 0.1, "padding": large().clone(), "first": large().clone()}[wrong]
    if wrong == "padding":
        scores[1, 690:] = 0.0
    if wrong == "first":
        scores[1, 0] += 1.0
    frame = {"logits": r"0, 0", "padding": r"1, 690", "first": "1, 0"}[wrong]
    with pytest.raises(ValueError, match=rf"log_probs\[{frame}\] has probabilities summing to"):
        ctc_loss(scores, [[3, 5], [5, 7, 7]], LARGE[1:2] * 2, backend="native")
    unchecked = ctc_loss(scores, [[3], [5]], LARGE[1:2] * 2, backend="native", check_normalised=False)
    torch.testing.assert_close(
        unchecked, ctc_loss(scores, [[3], [5]], LARGE[1:2] * 2, backend="reference", check_normalised=False)
    )
