"""Smoothed max pooling's calls: bad input, impossible data, dtypes, autocast, torch.compile, memory, the module."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.losses.operators import num_operators, peak_bytes
from wfst_losses import (
    SmoothedMaxPoolingLoss,
    decoder_smoothed_max_pooling_loss,
    encoder_smoothed_max_pooling_loss,
    smoothed_max_pooling_loss,
)

RANDOM = np.random.default_rng(0)
LOGITS = torch.from_numpy(RANDOM.standard_normal((3, 80, 4)))
GOOD: dict[str, dict[str, Any]] = {
    "primitive": {
        "logits": LOGITS,
        "windows": [[[3, 20]], [[0, 0]], [[30, 50]]],
        "labels": [[1], [-1], [3]],
        "input_lengths": [80, 70, 60],
        "sigma_frames": 9.0,
        "filter_frames": 21,
    },
    "decoder": {"logits": LOGITS, "keywords": [1, -1, 3], "end_frames": [30, 0, 25], "input_lengths": [80, 70, 60]},
    "encoder": {
        "log_probs": LOGITS.log_softmax(2),
        "parts": [[1, 2], [], [3]],
        "end_frames": [30, 0, 25],
        "input_lengths": [80, 70, 60],
    },
}
LOSSES = {
    "primitive": smoothed_max_pooling_loss,
    "decoder": decoder_smoothed_max_pooling_loss,
    "encoder": encoder_smoothed_max_pooling_loss,
}


def call(name: str, **changes: Any) -> torch.Tensor:
    return LOSSES[name](**{**GOOD[name], **changes})


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("primitive", {"posteriors": LOGITS.sigmoid()}, "both of posteriors and logits given, expected one"),
    ("primitive", {"logits": None}, "neither of posteriors and logits given, expected one"),
    ("primitive", {"logits": LOGITS[0]}, "logits has shape (80, 4), expected (B, T, V)"),
    ("primitive", {"windows": [[[3, 20]], [[0, 0]], [[50, 30]]]}, "windows[2][0] is [50, 30) (utterance 2)"),
    ("primitive", {"windows": [[3, 20], [0, 0], [30, 50]]}, "windows has shape (3, 2), expected (B, M, 2) = (3, 1, 2)"),
    ("primitive", {"windows": [[[3, 20]], [[0]], [[30, 50]]]}, "expected integers in a rectangular array"),
    ("primitive", {"windows": torch.zeros(3, 1, 2)}, "windows has dtype torch.float32, expected an integer dtype"),
    (
        "primitive",
        {"labels": [[1], [4], [3]]},
        "labels[1][0] is 4 (utterance 1) but there are 4 columns, expected 0..3",
    ),
    ("primitive", {"labels": [[1], [-2], [3]]}, "labels[1][0] is -2 (utterance 1)"),
    ("primitive", {"labels": [[1], [True], [3]]}, "labels[1] is [True], expected integers"),
    ("primitive", {"windows": [[[3, 20]], [[0, 0]], [[True, 50]]]}, "windows[2][0] is [True, 50], expected integers"),
    ("primitive", {"input_lengths": [80, 60, True]}, "rectangular array: input_lengths[2] is True"),
    ("primitive", {"input_lengths": np.ma.array([80, 60, 9], mask=[0, 0, 1])}, "a masked array, expected a value"),
    ("decoder", {"keywords": [1, True, 3]}, "keywords[1] is True"),
    ("primitive", {"labels": [1, -1, 3]}, "labels has shape (3,), expected (B, M) = (3, 1)"),
    ("primitive", {"input_lengths": [80, 0, 60]}, "input_lengths[1] is 0 (utterance 1), expected 1..80"),
    ("primitive", {"input_lengths": [80, 81, 60]}, "input_lengths[1] is 81, expected 0..80"),
    ("primitive", {"filter_frames": 20}, "filter_frames is 20, expected an odd number"),
    ("primitive", {"filter_frames": 0}, "filter_frames is 0, expected >= 1"),
    ("primitive", {"sigma_frames": 0.0}, "sigma_frames is 0.0, expected a finite number > 0"),
    ("primitive", {"smooth_in": "linear"}, "smooth_in is 'linear', expected one of 'prob', 'log'"),
    ("primitive", {"negative_weight": -1.0}, "negative_weight is -1.0, expected a finite number >= 0"),
    (
        "primitive",
        {"outside": "background"},
        "outside is 'background', expected 'complement' or the background's label",
    ),
    ("primitive", {"outside": 4}, "outside is 4 but there are 4 columns, expected 0..3"),
    ("primitive", {"reduction": "max"}, "reduction is 'max', expected one of"),
    ("primitive", {"nonfinite": "ignore"}, "nonfinite is 'ignore', expected one of"),
    ("decoder", {"keywords": [1, -1, 4]}, "keywords[2] is 4 (utterance 2) but there are 4 columns"),
    (
        "decoder",
        {"keywords": [[1, 0], [-1, 7], [3, 3]], "end_frames": [[1, 1]] * 3},
        "keywords[1][1] is 7 (utterance 1)",
    ),
    ("decoder", {"keywords": [1, -1]}, "keywords has shape (2,), expected (B,) = (3,)"),
    ("decoder", {"end_frames": [[30], [0], [25]]}, "end_frames has shape (3, 1), expected (B,) = (3,)"),
    ("decoder", {"end_frames": [30.0, 0.0, 25.0]}, "end_frames is [30.0, 0.0, 25.0], expected integers"),
    ("decoder", {"input_lengths": [80, 70, 0]}, "input_lengths[2] is 0 (utterance 2)"),
    ("decoder", {"window_frames": 0}, "window_frames is 0, expected >= 1"),
    ("decoder", {"offset_frames": 1.5}, "offset_frames is 1.5, expected an integer"),
    ("encoder", {"parts": [[1, 4], [], [3]]}, "parts[0][1] is 4 (utterance 0) but there are 4 columns, expected 0..3"),
    ("encoder", {"parts": [[1, -1], [], [3]]}, "parts[0][1] is -1 (utterance 0)"),
    (
        "encoder",
        {"parts": torch.tensor([[1], [0], [3]])},
        "and part_lengths is None, expected a list of lists, or both",
    ),
    ("encoder", {"part_lengths": [2, 0]}, "expected integers in a rectangular array"),
    ("encoder", {"parts": [[1]] * 3, "part_lengths": [1, 0, 2]}, "part_lengths[2] is 2 (utterance 2), expected 0..1"),
    ("encoder", {"parts": [[1], [2]]}, "parts has shape (2, 1), expected (3, N) or (3, M, N)"),
    ("encoder", {"background": 4}, "background is 4 but there are 4 labels"),
    ("encoder", {"log_probs": LOGITS.softmax(2)}, "these look like probabilities: pass log_probs.log()"),
    ("encoder", {"log_probs": LOGITS}, "these look like logits: pass from_logits=True"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BAD, ids=[f"{name}-{message}" for name, _, message in BAD])
def test_bad_calls_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call(name, **changes)


@pytest.mark.parametrize("name", GOOD)
def test_good_calls_are_not(name: str) -> None:
    assert call(name).isfinite().all()


@pytest.mark.parametrize(("value", "shown"), [(1.5, "1.5"), (-0.25, "-0.25"), (torch.inf, "inf")])
def test_posteriors_outside_of_probability_are_refused(value: float, shown: str) -> None:
    posteriors = LOGITS.sigmoid()
    posteriors[1, 69, 2] = value
    message = f"posteriors[1, 69, 2] is {shown} (utterance 1, frame 69), expected probabilities in 0..1"
    with pytest.raises(ValueError, match=re.escape(message)):
        call("primitive", logits=None, posteriors=posteriors)
    posteriors[1, 69, 2], posteriors[1, 70, 2] = 0.5, value  # beyond the length of 70
    assert call("primitive", logits=None, posteriors=posteriors).isfinite().all()


NONFINITE: list[tuple[str, dict[str, Any], str]] = [
    ("primitive", {}, "logits"),
    ("primitive", {"outside": 0}, "logits"),
    ("decoder", {}, "logits"),
    ("encoder", {}, "log_probs"),
    ("encoder", {"from_logits": True}, "log_probs"),
]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(("name", "options", "argument"), NONFINITE)
def test_nonfinite_scores(name: str, options: dict[str, Any], argument: str, value: float) -> None:
    wanted = call(name, **options)
    scores = GOOD[name][argument].clone()
    scores[0, 5, 0] = value
    options = {**options, argument: scores}
    with pytest.raises(ValueError, match=re.escape(f"{argument}[0, 5, 0] is {value} (utterance 0, frame 5)")):
        call(name, **options)
    leaf = scores.requires_grad_()
    dropped = call(name, **{**options, argument: leaf, "nonfinite": "drop"})
    assert dropped[0] == torch.inf
    assert torch.equal(dropped[1:], wanted[1:])
    (slopes,) = torch.autograd.grad(dropped.sum(), leaf)
    assert not slopes[0].any()
    assert slopes.isfinite().all()
    passed = call(name, **{**options, "nonfinite": "pass"}).detach()
    assert not passed[0].isfinite() or value == torch.inf
    assert torch.equal(passed[1:], wanted[1:])


def test_nan_posteriors_can_be_dropped() -> None:
    posteriors = LOGITS.sigmoid()
    posteriors[2, 0, 0] = torch.nan
    options = {"logits": None, "posteriors": posteriors}
    with pytest.raises(ValueError, match=re.escape("posteriors[2, 0, 0] is nan (utterance 2, frame 0)")):
        call("primitive", **options)
    assert call("primitive", **options, nonfinite="drop").isinf().tolist() == [False, False, True]


def test_a_row_of_impossible_logits_alone_is_refused() -> None:
    scores = LOGITS.clone()
    scores[1, 3] = -torch.inf
    with pytest.raises(ValueError, match=re.escape("log_probs[1, 3] is all -inf (utterance 1, frame 3)")):
        call("encoder", log_probs=scores, from_logits=True)


EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("primitive", {"windows": [[[90, 95]], [[0, 0]], [[30, 50]]]}),
    ("primitive", {"windows": [[[7, 7]], [[0, 0]], [[30, 50]]]}),
    ("primitive", {"windows": [[[-9, 0]], [[0, 0]], [[30, 50]]], "outside": 1}),
    ("decoder", {"end_frames": [200, 0, 25]}),
    ("decoder", {"end_frames": [-40, 0, 25]}),
    ("encoder", {"end_frames": [60, 0, 25]}),
    ("encoder", {"end_frames": [60, 0, 25], "from_logits": True}),
]


@pytest.mark.parametrize(("name", "changes"), EMPTY)
def test_a_window_cut_to_nothing_is_infinite_without_gradient(name: str, changes: dict[str, Any]) -> None:
    argument = "log_probs" if name == "encoder" else "logits"
    leaf = GOOD[name][argument].clone().requires_grad_()
    losses = call(name, **{**changes, argument: leaf})
    assert losses.isinf().tolist() == [True, False, False]
    (slopes,) = torch.autograd.grad(losses.sum(), leaf)
    assert not slopes[0].any()
    assert slopes[1:].any()
    assert torch.equal(call(name, **changes, reduction="sum"), losses[1:].sum().detach())
    assert torch.equal(call(name, **changes, reduction="mean"), (losses[1:].sum() / 2).detach())


def test_certain_posteriors_in_the_wrong_place_are_infinite_without_gradient() -> None:
    for value, frame in ((1.0, 40), (0.0, slice(3, 20))):
        leaf = LOGITS.sigmoid()
        leaf[0, frame, 1] = value
        leaf.requires_grad_()
        losses = call("primitive", logits=None, posteriors=leaf, sigma_frames=1.0, filter_frames=1)
        assert losses.isinf().tolist() == [True, False, False]
        (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        assert not slopes[0].any()
        assert slopes.isfinite().all()


@pytest.mark.parametrize("places", [[], np.zeros((0, 2), dtype=int)])
@pytest.mark.parametrize("loss_function", [decoder_smoothed_max_pooling_loss, encoder_smoothed_max_pooling_loss])
def test_empty_batches_have_no_losses(loss_function: Any, places: Any) -> None:
    leaf = torch.zeros(0, 5, 3, requires_grad=True)
    if loss_function is encoder_smoothed_max_pooling_loss and len(np.shape(places)) == 2:
        arguments: tuple[Any, ...] = (leaf, np.zeros((0, 2, 3), dtype=int), places, [], places)
    else:
        arguments = (leaf, places, places, [])
    assert loss_function(*arguments).shape == (0,)
    total = loss_function(*arguments, reduction="mean")
    total.backward()
    assert float(total.detach()) == 0


def test_no_windows_at_all() -> None:
    losses = call("primitive", windows=[[], [], []], labels=[[], [], []])
    wanted = [-(1 - row[:length].sigmoid()).log().sum() for row, length in zip(LOGITS, [80, 70, 60], strict=True)]
    torch.testing.assert_close(losses, torch.stack(wanted))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "options", "argument"), NONFINITE)
def test_half_precision_is_computed_in_float32(
    name: str, options: dict[str, Any], argument: str, dtype: torch.dtype
) -> None:
    scores = GOOD[name][argument].to(dtype)
    leaf, wide = scores.clone().requires_grad_(), scores.float().requires_grad_()
    options = {**options, "check_normalised": False} if name == "encoder" else options
    found, wanted = (call(name, **{**options, argument: values}) for values in (leaf, wide))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    slopes = [torch.autograd.grad(losses.sum(), values)[0] for losses, values in ((found, leaf), (wanted, wide))]
    assert slopes[0].dtype == dtype
    torch.testing.assert_close(slopes[0].float(), slopes[1], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_autocast_changes_nothing(name: str) -> None:
    argument = "log_probs" if name == "encoder" else "logits"
    leaf = GOOD[name][argument].float().requires_grad_()
    wanted = call(name, **{argument: leaf})
    (slopes,) = torch.autograd.grad(wanted.sum(), leaf)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = call(name, **{argument: leaf})
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(torch.autograd.grad(found.sum(), leaf)[0], slopes)


def test_strides_change_nothing() -> None:
    leaf = LOGITS.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert not leaf.is_contiguous()
    losses = call("decoder", logits=leaf)
    assert torch.equal(losses, call("decoder"))
    other = LOGITS.clone().requires_grad_()
    wanted = torch.autograd.grad(call("decoder", logits=other).sum(), other)[0]
    assert torch.equal(torch.autograd.grad(losses.sum(), leaf)[0], wanted)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, lambda values: torch.tensor(values, dtype=torch.int32)])
def test_indices_may_be_tensors_or_arrays(kind: Any) -> None:
    changes = {name: kind(GOOD["decoder"][name]) for name in ("keywords", "end_frames", "input_lengths")}
    assert torch.equal(call("decoder", **changes), call("decoder"))


@pytest.mark.skipif(not hasattr(torch, "compile"), reason="this torch has no torch.compile")
@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_compiled_code_computes_the_same(name: str) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    argument = "log_probs" if name == "encoder" else "logits"
    compiled = torch.compile(lambda scores: 2 * call(name, **{argument: 1.0 * scores}), backend=backend)
    results = []
    for function in (lambda scores: 2 * call(name, **{argument: scores}), compiled):
        leaf = GOOD[name][argument].clone().requires_grad_()
        losses = function(leaf)
        results.append((losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]))
    torch.testing.assert_close(results[1], results[0])
    # What comes before the checks, and the loss itself in one piece.
    assert len(graphs) <= 3
    assert any("autograd" in str(node.target).lower() for graph in graphs for node in graph.graph.nodes)


def large_call(
    name: str, dtype: torch.dtype, num_utterances: int, num_labels: int, num_windows: int
) -> tuple[torch.Tensor, Any]:
    random = np.random.default_rng(1)
    scores = torch.from_numpy(random.standard_normal((num_utterances, 200, num_labels))).to(dtype)
    labels = random.integers(0, num_labels, size=(num_utterances, num_windows))
    ends = random.integers(20, 150, size=labels.shape)
    lengths = random.integers(190, 201, size=num_utterances)
    if name == "posteriors":
        windows = np.stack([ends - 20, ends + 40], axis=2)
        options = {"windows": windows, "labels": labels, "input_lengths": lengths, "sigma_frames": 9.0}
        leaf = scores.float().sigmoid().to(dtype).requires_grad_()
        return leaf, lambda: smoothed_max_pooling_loss(leaf, **options, filter_frames=21, reduction="sum").backward()
    leaf = scores.requires_grad_()
    if name == "decoder":
        return leaf, lambda: decoder_smoothed_max_pooling_loss(leaf, labels, ends, lengths, reduction="sum").backward()
    parts = np.full(lengths.shape, labels.shape[1])
    return leaf, lambda: encoder_smoothed_max_pooling_loss(
        leaf, labels, ends[:, 0], lengths, parts, from_logits=True, reduction="sum"
    ).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["decoder", "posteriors", "encoder"])
def test_memory_stays_below_twice_the_scores(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    leaf, run = large_call(name, dtype, 32, 60, 1)
    run()
    leaf.grad = None
    assert peak_bytes(run, tmp_path) <= 2 * leaf.numel() * leaf.element_size()
    assert leaf.grad is not None


@pytest.mark.parametrize("name", ["decoder", "posteriors", "encoder"])
def test_no_loop_over_utterances_labels_or_windows(name: str) -> None:
    counts = set()
    for sizes in ((2, 3, 1), (40, 3, 1), (2, 30, 1), (2, 3, 7)):
        leaf, run = large_call(name, torch.float32, *sizes)
        run()
        leaf.grad = None
        counts.add(num_operators(run))
    assert max(counts) - min(counts) < 10  # how torch reshapes depends on sizes


def test_the_module_reports_what_was_impossible() -> None:
    module = SmoothedMaxPoolingLoss()
    leaf = LOGITS.clone().requires_grad_()
    log_probs = LOGITS.log_softmax(2).clone().requires_grad_()
    value = module(leaf, [1, -1, 3], [200, -60, 25], [80, 70, 60], encoder_log_probs=log_probs, parts=[[], [1], [2, 3]])
    report = module.last_report
    assert report is not None
    assert (report.num_utterances, report.num_finite, report.infinite) == (3, 1, (0, 1))
    value.backward()
    for slopes in (leaf.grad, log_probs.grad):
        assert not slopes[:2].any()
        assert slopes[2].any()


def test_the_module_wants_both_or_neither_of_the_encoder_s_arguments() -> None:
    with pytest.raises(ValueError, match="one of encoder_log_probs and parts is None"):
        SmoothedMaxPoolingLoss()(LOGITS, [1, -1, 3], [30, 0, 25], [80, 70, 60], parts=[[1]] * 3)
    with pytest.raises(ValueError, match="encoder_weight is -1, expected a finite number >= 0"):
        SmoothedMaxPoolingLoss(encoder_weight=-1)
    assert repr(SmoothedMaxPoolingLoss(sigma_frames=3.0)) == (
        "SmoothedMaxPoolingLoss(encoder_weight=1.0, encoder_options={}, sigma_frames=3.0, reduction='mean')"
    )
