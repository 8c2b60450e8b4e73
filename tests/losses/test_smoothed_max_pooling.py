"""Smoothed max pooling's values and gradients: published vectors, the definition, and what its input forces."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.losses.pooling_oracle import Window, batch_loss
from wfst_losses import (
    SmoothedMaxPoolingLoss,
    decoder_smoothed_max_pooling_loss,
    encoder_smoothed_max_pooling_loss,
    smoothed_max_pooling_loss,
)

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "smoothed_max_pooling.json").read_text()
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
FILTER: dict[str, Any] = {"sigma_frames": 1.5, "filter_frames": 5}
OUTSIDES = ["complement", 2]


def padded(rows: list[list[list[float]]], width: int, dtype: torch.dtype) -> tuple[torch.Tensor, list[int]]:
    """Posteriors of several utterances; padding frames and columns hold 0.5 of nothing."""
    lengths = [len(row) for row in rows]
    batch = torch.full((len(rows), max(lengths) + 3, width), 0.5, dtype=dtype)
    for out, row in zip(batch, rows, strict=True):
        out[: len(row), : len(row[0])] = torch.tensor(row, dtype=torch.float64)
    return batch, lengths


def random_call(seed: int, num_utterances: int = 5, num_frames: int = 11, num_labels: int = 3) -> dict[str, Any]:
    """Logits and several windows per utterance: negatives, cut windows, a label twice, one impossible utterance."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, num_frames + 1, size=num_utterances)
    starts = random.integers(-3, 4, size=(num_utterances, 3))
    labels = random.integers(-1, num_labels, size=(num_utterances, 3))
    labels[0] = 1
    labels[1] = -1
    starts[2, 0], labels[2, 0] = -9, 0
    return {
        "logits": torch.from_numpy(2 * random.standard_normal((num_utterances, num_frames, num_labels))),
        "windows": np.stack([starts, starts + random.integers(4, 8, size=starts.shape)], axis=2),
        "labels": labels,
        "input_lengths": lengths,
    }


def oracle(call: dict[str, Any], posteriors: torch.Tensor, outside: str | int, **options: Any) -> torch.Tensor:
    windows: list[list[Window]] = [
        [(int(label), *map(int, window)) for label, window in zip(labels, places, strict=True) if label >= 0]
        for labels, places in zip(call["labels"], call["windows"], strict=True)
    ]
    background = None if outside == "complement" else int(outside)
    return batch_loss(posteriors, call["input_lengths"], windows, background=background, **FILTER, **options)


def probabilities(logits: torch.Tensor, outside: str | int) -> torch.Tensor:
    return logits.sigmoid() if outside == "complement" else logits.softmax(2)


def gradient(losses: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(losses) + 1, dtype=losses.dtype)
    finite = losses.detach().isfinite()
    return torch.autograd.grad((weights * losses)[finite].sum(), leaf, retain_graph=True)[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_published_decoder_losses(dtype: torch.dtype) -> None:
    for case in VECTORS["decoder"]:
        posteriors = torch.tensor(case["probs"], dtype=torch.float64)[None]
        call = ([case["keyword"]], [case["end_frame"]], [posteriors.shape[1]])
        found = decoder_smoothed_max_pooling_loss(posteriors.logit().to(dtype), *call)
        assert found.dtype == dtype
        assert float(found) == pytest.approx(case["loss"], rel=TOLERANCE[dtype])
    batch, lengths = padded([case["probs"] for case in VECTORS["decoder"]], 4, torch.float64)
    batch = batch.logit()
    for row, case in zip(batch, VECTORS["decoder"], strict=True):
        row[:, len(case["probs"][0]) :] = -math.inf  # a keyword that is never there costs nothing
    found = decoder_smoothed_max_pooling_loss(
        batch.to(dtype),
        [case["keyword"] for case in VECTORS["decoder"]],
        [case["end_frame"] for case in VECTORS["decoder"]],
        lengths,
    )
    assert found.tolist() == pytest.approx([case["loss"] for case in VECTORS["decoder"]], rel=TOLERANCE[dtype])


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_published_encoder_losses(dtype: torch.dtype, from_logits: bool) -> None:
    batch, lengths = padded([case["probs"] for case in VECTORS["encoder"]], 5, torch.float64)
    batch = batch.log()
    for row, case in zip(batch, VECTORS["encoder"], strict=True):
        row[:, len(case["probs"][0]) :] = -math.inf
    found = encoder_smoothed_max_pooling_loss(
        batch.to(dtype),
        [case["parts"] for case in VECTORS["encoder"]],
        [case["end_frame"] for case in VECTORS["encoder"]],
        lengths,
        from_logits=from_logits,
    )
    assert found.dtype == dtype
    assert found.tolist() == pytest.approx([case["loss"] for case in VECTORS["encoder"]], rel=TOLERANCE[dtype])


def test_there_are_vectors() -> None:
    assert (len(VECTORS["decoder"]), len(VECTORS["encoder"])) == (8, 6)


@pytest.mark.parametrize("negative_weight", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("smooth_in", ["prob", "log"])
@pytest.mark.parametrize("outside", OUTSIDES)
@pytest.mark.parametrize("given", ["logits", "posteriors"])
def test_value_and_gradient_are_the_definition(
    given: str, outside: str | int, smooth_in: str, negative_weight: float
) -> None:
    options: dict[str, Any] = {"smooth_in": smooth_in, "negative_weight": negative_weight}
    for seed in range(6):
        call = random_call(seed)
        logits = call.pop("logits").requires_grad_()
        posteriors = probabilities(logits, outside)
        scores = {"logits": logits, "posteriors": posteriors}[given]
        found = smoothed_max_pooling_loss(**{given: scores}, **call, outside=outside, **FILTER, **options)
        wanted = oracle(call, posteriors, outside, **options)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        assert found.isinf().tolist() == [False, False, True, False, False]
        torch.testing.assert_close(gradient(found, logits), gradient(wanted, logits), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("smooth_in", ["prob", "log"])
@pytest.mark.parametrize("outside", OUTSIDES)
@pytest.mark.parametrize("given", ["logits", "posteriors"])
def test_gradcheck(given: str, outside: str | int, smooth_in: str) -> None:
    call = random_call(7)
    scores = call.pop("logits")
    if given == "posteriors":
        scores = probabilities(scores, outside)

    def finite(scores: torch.Tensor) -> torch.Tensor:
        losses = smoothed_max_pooling_loss(
            **{given: scores}, **call, outside=outside, smooth_in=smooth_in, negative_weight=0.5, **FILTER
        )
        return losses[losses.isfinite()]

    assert torch.autograd.gradcheck(finite, scores.requires_grad_())


@pytest.mark.parametrize("from_logits", [False, True])
def test_gradcheck_of_the_encoder(from_logits: bool) -> None:
    scores = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 12, 4))).requires_grad_()

    def losses(scores: torch.Tensor) -> torch.Tensor:
        return encoder_smoothed_max_pooling_loss(
            scores,
            [[1, 2], [], [3, 3]],
            [5, 0, 8],
            [12, 9, 11],
            window_frames=4,
            offset_frames=2,
            from_logits=from_logits,
            check_normalised=False,
            **FILTER,
        )

    assert torch.autograd.gradcheck(losses, scores)


def test_several_keywords_have_their_own_outsides() -> None:
    random = np.random.default_rng(3)
    logits = torch.from_numpy(random.standard_normal((2, 20, 3)))
    found = decoder_smoothed_max_pooling_loss(
        logits, [[1, 2, 1], [0, -1, -1]], [[4, 9, 15], [3, 0, 0]], [20, 14], window_frames=6, offset_frames=2, **FILTER
    )
    windows = [[(1, 0, 6), (2, 5, 11), (1, 11, 17)], [(0, -1, 5)]]
    wanted = batch_loss(logits.sigmoid(), [20, 14], windows, background=None, **FILTER)
    torch.testing.assert_close(found, wanted)


def test_part_windows_follow_one_another() -> None:
    logits = torch.from_numpy(np.random.default_rng(4).standard_normal((2, 30, 4)))
    parts = torch.tensor([[[1, 2, 3], [3, 0, 0]], [[2, 2, 9], [7, 7, 7]]])
    found = encoder_smoothed_max_pooling_loss(
        logits.log_softmax(2),
        parts,
        [[18, 25], [9, 0]],
        [30, 26],
        torch.tensor([[3, 1], [2, 0]]),
        window_frames=5,
        offset_frames=2,
        **FILTER,
    )
    windows = [[(1, 5, 10), (2, 10, 15), (3, 15, 20), (3, 22, 27)], [(2, 1, 6), (2, 6, 11)]]
    wanted = batch_loss(logits.softmax(2), [30, 26], windows, background=0, **FILTER)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("outside", OUTSIDES)
def test_padding_changes_nothing_and_gets_no_gradient(outside: str | int) -> None:
    call = random_call(11)
    lengths = call["input_lengths"]
    logits = call.pop("logits")
    wanted = smoothed_max_pooling_loss(logits=logits, **call, outside=outside, **FILTER)
    longer = torch.cat([logits, torch.zeros(5, 4, 3, dtype=torch.float64)], dim=1)
    for row, length in zip(longer, lengths, strict=True):
        row[length:] = torch.nan
    leaf = longer.requires_grad_()
    found = smoothed_max_pooling_loss(logits=leaf, **call, outside=outside, **FILTER)
    assert torch.equal(found, wanted)
    slopes = gradient(found, leaf)
    assert all(bool((row[length:] == 0).all()) for row, length in zip(slopes, lengths, strict=True))
    assert slopes.isfinite().all()


@pytest.mark.parametrize("outside", OUTSIDES)
def test_order_and_company_change_nothing(outside: str | int) -> None:
    call = random_call(12)
    together = smoothed_max_pooling_loss(**call, outside=outside, **FILTER)
    order = [3, 0, 4, 2, 1]
    shuffled = smoothed_max_pooling_loss(
        **{name: values[order] for name, values in call.items()}, outside=outside, **FILTER
    )
    assert torch.equal(shuffled, together[order])
    for index in range(5):
        length = call["input_lengths"][index]
        alone = {name: values[index : index + 1] for name, values in call.items()}
        alone["logits"] = alone["logits"][:, :length]
        torch.testing.assert_close(
            smoothed_max_pooling_loss(**alone, outside=outside, **FILTER), together[index : index + 1]
        )


def window_loss(posteriors: list[float], start: int, stop: int, **options: Any) -> torch.Tensor:
    """The maximum's term alone, of one label."""
    return smoothed_max_pooling_loss(
        torch.tensor(posteriors, dtype=torch.float64)[None, :, None],
        windows=[[[start, stop]]],
        labels=[[0]],
        input_lengths=[len(posteriors)],
        negative_weight=0.0,
        **{**FILTER, **options},
    )


def test_an_impulse_stays_in_place() -> None:
    posteriors = [0.0] * 5 + [1.0] + [0.0] * 5
    weights = [math.exp(-(k**2) / (2 * 1.5**2)) for k in range(-2, 3)]
    for frame in range(11):
        found = float(window_loss(posteriors, frame, frame + 1))
        distance = frame - 5
        wanted = -math.log(weights[distance + 2] / sum(weights)) if abs(distance) <= 2 else math.inf
        assert found == pytest.approx(wanted), frame


@pytest.mark.parametrize("width", [1, 5, 21, 41])
@pytest.mark.parametrize("smooth_in", ["prob", "log"])
def test_a_constant_stays_the_same_number(smooth_in: str, width: int) -> None:
    for frame in range(8):
        found = window_loss([0.3] * 8, frame, frame + 1, filter_frames=width, smooth_in=smooth_in)
        assert float(found) == -math.log(0.3)


def test_the_filter_sees_beyond_the_window() -> None:
    assert float(window_loss([0.1, 0.1, 0.1, 0.9], 0, 2)) < float(window_loss([0.1, 0.1, 0.1, 0.1], 0, 2))


def test_a_filter_much_longer_than_its_sigma_stays_finite() -> None:
    leaf = torch.full((1, 200, 1), -800.0, dtype=torch.float64)
    leaf[0, 90] = 800.0
    leaf.requires_grad_()
    loss = smoothed_max_pooling_loss(
        logits=leaf, windows=[[[0, 20]]], labels=[[0]], input_lengths=[200], sigma_frames=0.5, filter_frames=199
    )
    assert loss.isfinite().all()
    assert gradient(loss, leaf).isfinite().all()


def test_ties_go_to_the_first_maximum() -> None:
    peaks = [0.1] * 20
    peaks[6] = peaks[13] = 0.9
    for posteriors, first in ((peaks, 6), ([0.4] * 20, 0)):
        leaf = torch.tensor(posteriors, dtype=torch.float64)[None, :, None].requires_grad_()
        loss = smoothed_max_pooling_loss(
            leaf, windows=[[[0, 20]]], labels=[[0]], input_lengths=[20], negative_weight=0.0, **FILTER
        )
        touched = gradient(loss, leaf)[0, :, 0].nonzero().flatten().tolist()
        assert touched == [frame for frame in range(first - 2, first + 3) if frame >= 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [50.0, 1e3, 1e6])
def test_saturated_logits_have_finite_values_and_gradients(scale: float, dtype: torch.dtype) -> None:
    logits = torch.from_numpy(np.random.default_rng(5).choice([-scale, scale], size=(3, 20, 4))).to(dtype)
    for loss_function in (
        lambda x: decoder_smoothed_max_pooling_loss(x, [1, 0, -1], [8, 9, 0], [20, 18, 20], offset_frames=4),
        lambda x: encoder_smoothed_max_pooling_loss(
            x, [[1, 2], [3], []], [8, 9, 0], [20, 18, 20], from_logits=True, offset_frames=4, window_frames=4
        ),
    ):
        leaf = logits.clone().requires_grad_()
        losses = loss_function(leaf)
        assert losses.isfinite().all()
        assert torch.autograd.grad(losses.sum(), leaf)[0].isfinite().all()


def test_confident_outsides_keep_their_small_costs() -> None:
    # Sums over everything less sums over windows would give 0 here, or noise.
    logits = torch.full((1, 60, 1), -30.0)
    logits[0, 20:40] = 80.0
    loss = smoothed_max_pooling_loss(
        logits=logits, windows=[[[20, 40]]], labels=[[0]], input_lengths=[60], sigma_frames=1.0, filter_frames=1
    )
    assert float(loss) == pytest.approx(40 * math.exp(-30), rel=1e-5)


def test_the_total_is_the_sum_with_a_weight() -> None:
    random = np.random.default_rng(6)
    logits = torch.from_numpy(random.standard_normal((3, 90, 2)))
    log_probs = torch.from_numpy(random.standard_normal((3, 90, 4))).log_softmax(2)
    call = ([1, -1, 0], [50, 0, 30], [90, 80, 85])
    parts = [[1, 2, 3], [], [2]]
    module = SmoothedMaxPoolingLoss(
        encoder_weight=0.3, encoder_options={"window_frames": 15}, negative_weight=0.5, reduction="none"
    )
    decoder = decoder_smoothed_max_pooling_loss(logits, *call, negative_weight=0.5)
    encoder = encoder_smoothed_max_pooling_loss(log_probs, parts, *call[1:], window_frames=15)
    assert torch.equal(module(logits, *call), decoder)
    torch.testing.assert_close(module(logits, *call, encoder_log_probs=log_probs, parts=parts), decoder + 0.3 * encoder)


LOOPS = Path(__file__).parents[2] / "tools" / "benchmarks" / "pooling_loops.py"


@pytest.mark.parametrize("form", ["loop_over_utterances", "loop_over_keywords", "tuned_loop_over_keywords"])
def test_what_the_benchmark_compares_with_is_the_same_loss(form: str) -> None:
    spec = importlib.util.spec_from_file_location("pooling_loops", LOOPS)
    assert spec is not None
    assert spec.loader is not None
    loops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loops)
    leaf = torch.from_numpy(np.random.default_rng(8).standard_normal((4, 120, 3))).requires_grad_()
    call = ([1, -1, 0, 2], [15, 0, 100, 60], [120, 110, 115, 90])
    found, wanted = getattr(loops, form)(leaf, *call), decoder_smoothed_max_pooling_loss(leaf, *call)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient(found, leaf), gradient(wanted, leaf))
