"""Bad calls: each gets a ValueError that names the argument, the index, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import topologies
from tests.losses.engines import EVERY_BACKEND
from tests.topologies.checks import random_log_probs
from wfst_losses import Exhaustive, RandomPaths, TokenErrors, WordErrors, ctc_loss, mwer_loss

LOG_PROBS = random_log_probs(0, 3, 5, 4)
GOOD: dict[str, Any] = {"log_probs": LOG_PROBS, "targets": [[1, 2], [3], []], "input_lengths": [5, 3, 4]}
PADDED = {"targets": torch.tensor([[1, 2], [3, 0], [0, 0]]), "target_lengths": torch.tensor([2, 1, 0])}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    # emissions
    "scores are a list": ({"log_probs": [[0.0]]}, "log_probs is a list, expected a torch.Tensor of shape (B, T, V)"),
    "scores are numpy": ({"log_probs": LOG_PROBS.numpy()}, "log_probs is a ndarray, expected a torch.Tensor"),
    "scores of two dimensions": ({"log_probs": LOG_PROBS[0]}, "log_probs has shape (5, 4), expected (B, T, V)"),
    "scores of integers": ({"log_probs": LOG_PROBS.long()}, "log_probs has dtype torch.int64, expected float16"),
    "complex scores": ({"log_probs": LOG_PROBS + 0j}, "log_probs has dtype torch.complex128, expected float16"),
    "no labels": ({"log_probs": LOG_PROBS[:, :, :0]}, "log_probs has shape (3, 5, 0), expected at least one label"),
    # lengths
    "too few lengths": ({"input_lengths": [5, 3]}, "input_lengths has shape (2,), expected (3,), one per utterance"),
    "a single length": ({"input_lengths": 5}, "input_lengths has shape (), expected (3,)"),
    "lengths of two dimensions": ({"input_lengths": [[5], [3], [4]]}, "input_lengths has shape (3, 1), expected (3,)"),
    "a length beyond the frames": ({"input_lengths": [5, 6, 4]}, "input_lengths[1] is 6, expected 0..5"),
    "a negative length": ({"input_lengths": torch.tensor([5, 3, -1])}, "input_lengths[2] is -1, expected 0..5"),
    "lengths of floats": ({"input_lengths": torch.tensor([5.0, 3.0, 4.0])}, "input_lengths has dtype torch.float32"),
    "lengths of fractions": (
        {"input_lengths": [1.0, 0.5, 0.8]},
        "input_lengths is [1.0, 0.5, 0.8], of dtype float64, expected",
    ),
    "lengths of truth values": (
        {"input_lengths": torch.ones(3, dtype=torch.bool)},
        "input_lengths has dtype torch.bool",
    ),
    "no lengths": ({"input_lengths": None}, "input_lengths is None, of dtype object, expected integers"),
    "ragged lengths": (
        {"input_lengths": [[1], [2, 3], [1]]},
        "input_lengths is [[1], [2, 3], [1]], of dtype object, expected",
    ),
    "a truth value among lengths": ({"input_lengths": [5, True, 4]}, "expected integers: input_lengths[1] is True"),
    "a fraction among lengths": ({"input_lengths": (5, 3, 3.5)}, "expected integers: input_lengths[2] is 3.5"),
    "a length beyond 64 bits": ({"input_lengths": [5, 2**70, 4]}, f"expected integers: input_lengths[1] is {2**70}"),
    "lengths behind a mask": ({"input_lengths": np.ma.array([5, 3, 4], mask=[0, 1, 0])}, "], mask=[False, True, False"),
    "a length without a value": (
        {"input_lengths": [5, torch.tensor(3, device="meta"), 4]},
        "expected integers: input_lengths[1] is tensor(",
    ),
    # targets
    "a label beyond the columns": (
        {"targets": [[1, 2], [4], []]},
        "targets[1][0] is 4 but log_probs has 4 columns, expected 0..3: is the output layer one too small?",
    ),
    "a label far beyond": ({"targets": [[1, 99], [3], []]}, "targets[0][1] is 99 but log_probs has 4 columns"),
    "a negative label": ({"targets": [[1, 2], [-1], []]}, "targets[1][0] is -1 but log_probs has 4 columns"),
    "blank in a target": ({"targets": [[1, 0], [3], []]}, "targets[0][1] is 0, the blank; expected a token"),
    "the last blank in a target": ({"blank": 3}, "targets[1][0] is 3, the blank; expected a token"),
    "too few targets": ({"targets": [[1], [2]]}, "targets has 2 sequences but log_probs has 3 utterances"),
    "too many targets": ({"targets": [[1]] * 4}, "targets has 4 sequences but log_probs has 3 utterances"),
    "a target of floats": ({"targets": [[1.5], [3], []]}, "targets[0] is [1.5], expected a sequence of integers"),
    "a truth value at the end of a target": ({"targets": [[1, True], [3], []]}, "of integers: targets[0][1] is True"),
    "a truth value first in a target": ({"targets": [[1], (True, 3), []]}, "of integers: targets[1][0] is True"),
    "a fraction far into a target": ({"targets": [[1] * 99 + [1.5], [3], []]}, "of integers: targets[0][99] is 1.5"),
    "a label of 2^63": ({"targets": [[1, 2**63], [3], []]}, f"targets[0][1] is {2**63}"),
    "a row of labels in 64 bits": (
        {"targets": [np.array([1, 2**63], dtype=np.uint64), [3], []]},
        f"targets[0][1] is {2**63}, expected 63 bits at most",
    ),
    "a label beyond 64 bits": ({"targets": [[1, 2**70], [3], []]}, f"of integers: targets[0][1] is {2**70}"),
    "a target behind a mask": ({"targets": [np.ma.array([1, 2], mask=[0, 1]), [3], []]}, "a masked array, expected"),
    "a target of text": ({"targets": [["a"], [3], []]}, "targets[0] is ['a'], expected a sequence of integers"),
    "a target that is a number": ({"targets": [1, 2, 3]}, "targets[0] is 1, expected a sequence of integers"),
    "a nested target": ({"targets": [[[1]], [3], []]}, "targets[0] is [[1]], expected a sequence of integers"),
    "targets are text": ({"targets": "abc"}, "targets is 'abc', expected a (B, S) tensor or a list of lists"),
    "no targets": ({"targets": None}, "targets is None, expected a (B, S) tensor or a list of lists"),
    "padded targets without lengths": (
        {"targets": PADDED["targets"]},
        "target_lengths is None, expected (B,) integers: targets are padded",
    ),
    "concatenated targets": (
        {"targets": torch.tensor([1, 2, 3]), "target_lengths": [2, 1, 0]},
        "targets has shape (3,), expected (B, S) padded; pass concatenated targets as a list of lists",
    ),
    "padded targets of floats": ({**PADDED, "targets": PADDED["targets"].float()}, "targets has dtype torch.float32"),
    "padded targets of truth values": ({**PADDED, "targets": PADDED["targets"] > 0}, "targets has dtype torch.bool"),
    "too few padded targets": (
        {"targets": PADDED["targets"][:2], "target_lengths": [2, 1]},
        "targets has 2 rows but log_probs has 3 utterances",
    ),
    "a target length beyond the padding": (
        {**PADDED, "target_lengths": [2, 3, 0]},
        "target_lengths[1] is 3, expected 0..2",
    ),
    "a negative target length": ({**PADDED, "target_lengths": [2, -1, 0]}, "target_lengths[1] is -1, expected 0..2"),
    "too few target lengths": ({**PADDED, "target_lengths": [2, 1]}, "target_lengths has shape (2,), expected (3,)"),
    "target lengths of floats": ({**PADDED, "target_lengths": torch.ones(3)}, "target_lengths has dtype torch.float32"),
    "a target length beyond its list": ({"target_lengths": [2, 2, 0]}, "target_lengths[1] is 2, expected 0..1"),
    "blank in a padded target": ({**PADDED, "target_lengths": [2, 2, 0]}, "targets[1][1] is 0, the blank"),
    # options
    "a blank beyond the columns": ({"blank": 4}, "blank is 4 but there are 4 labels, expected 0..3"),
    "a negative blank": ({"blank": -1}, "blank is -1, expected >= 0"),
    "a blank of float": ({"blank": 0.0}, "blank is 0.0, expected an integer"),
    "an unknown topology": ({"topology": "ctc"}, "topology is 'ctc', expected one of 'correct', 'compact'"),
    "a topology class": ({"topology": topologies.TOPOLOGIES["correct"]}, "expected a name or a topology value"),
    "a topology of another size": (
        {"topology": topologies.build("minimal", 5)},
        "topology has 5 labels but log_probs has 4 columns, expected as many",
    ),
    "an unknown backend": ({"backend": "cuda"}, "backend is 'cuda', expected 'auto' or one of 'native', 'reference'"),
    "an unknown reduction": ({"reduction": "batchmean"}, "reduction is 'batchmean', expected one of 'none', 'mean'"),
    "an unknown policy": ({"nonfinite": "ignore"}, "nonfinite is 'ignore', expected one of 'raise', 'drop', 'pass'"),
}


@pytest.mark.parametrize("loss", [ctc_loss, mwer_loss], ids=["ctc", "mwer"])
@pytest.mark.parametrize("case", CASES)
def test_bad_calls(case: str, loss: Callable[..., torch.Tensor]) -> None:
    change, message = CASES[case]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        loss(**{**GOOD, **change})
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("loss", [ctc_loss, mwer_loss], ids=["ctc", "mwer"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_the_call_after_a_bad_one_is_right(loss: Callable[..., torch.Tensor], backend: str) -> None:
    def call() -> torch.Tensor:
        options = {} if loss is ctc_loss else {"sampler": Exhaustive()}
        return loss(random_log_probs(2, 3, 4, 3), [[1, 2], [2], []], [4, 3, 4], backend=backend, **options)

    wanted = call()
    for change, _ in CASES.values():
        with pytest.raises(ValueError):  # noqa: PT011 (its message is tested above)
            loss(**{**GOOD, "backend": backend, **change})
    assert torch.equal(call(), wanted)


def test_a_view_that_negates_is_read_as_what_it_shows() -> None:
    assert torch.equal(ctc_loss(**{**GOOD, "log_probs": torch._neg_view(-LOG_PROBS)}), ctc_loss(**GOOD))
    negated = [torch._neg_view(-torch.tensor(target, dtype=torch.int64)) for target in GOOD["targets"]]
    assert torch.equal(ctc_loss(LOG_PROBS, negated, [5, 3, 4]), ctc_loss(**GOOD))
    assert torch.equal(ctc_loss(**{**GOOD, "log_probs": torch.nn.Parameter(LOG_PROBS)}), ctc_loss(**GOOD))


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_keep_their_values_elsewhere_are_refused() -> None:
    masked = torch.masked.masked_tensor(LOG_PROBS, torch.ones_like(LOG_PROBS, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"log_probs is a MaskedTensor, expected a plain torch\.Tensor"):
        ctc_loss(**{**GOOD, "log_probs": masked})


@pytest.mark.skipif(not hasattr(torch, "func"), reason="this torch has no torch.func")
def test_tensors_inside_transforms_are_refused() -> None:
    def loss(scores: torch.Tensor) -> torch.Tensor:
        return ctc_loss(**{**GOOD, "log_probs": scores}).sum()

    for transformed, scores in ((torch.func.grad(loss), LOG_PROBS), (torch.func.vmap(loss), LOG_PROBS[None])):
        with pytest.raises(ValueError, match=r"log_probs is a tensor of torch\.func \(grad, vmap, jvp\), expected a"):
            transformed(scores)


def test_logits_are_named_as_the_argument() -> None:
    with pytest.raises(ValueError, match=re.escape("log_probs has shape (5, 4), expected (B, T, V)")):
        ctc_loss(LOG_PROBS[0], [[1]], [5], from_logits=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomPaths(0), "num_paths is 0, expected >= 1"),
        (lambda: RandomPaths(2.5), "num_paths is 2.5, expected an integer"),
        (lambda: RandomPaths(True), "num_paths is True, expected an integer"),
        (lambda: TokenErrors(insertion=-1), "risk.insertion is -1, expected a finite number >= 0"),
        (lambda: TokenErrors(deletion=0.5), "risk.deletion is 0.5, expected a whole number"),
        (lambda: TokenErrors(substitution=float("nan")), "risk.substitution is nan"),
        (lambda: TokenErrors(substitution="1"), "risk.substitution is '1', expected a number"),
        (lambda: WordErrors(tokens="abc"), "risk.tokens is 'abc', expected a sequence of token names by label"),
        (lambda: WordErrors(tokens=("<blk>", "a")), "risk.tokens has no token that begins with the word mark"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_too_many_paths_to_enumerate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs, call = random_log_probs(1, 2, 4, 4), {"targets": [[1], [2]], "sampler": Exhaustive()}
    monkeypatch.setattr("wfst_losses.graphs.walks.MAX_ENUMERATED", 256)
    mwer_loss(log_probs, input_lengths=[3, 4], **call)
    monkeypatch.setattr("wfst_losses.graphs.walks.MAX_ENUMERATED", 255)
    with pytest.raises(ValueError, match="sampler: Exhaustive takes every path but utterance 1 has 256, more than 255"):
        mwer_loss(log_probs, input_lengths=[3, 4], **call)


def test_paths_without_number_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="utterance 0 has inf, more than 1000000: too many to enumerate"):
        mwer_loss(random_log_probs(1, 1, 2000, 4), [[1]], [2000], sampler=Exhaustive())


def test_lengths_and_targets_of_every_kind_of_integer() -> None:
    wanted = ctc_loss(**GOOD)
    for dtype in (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64):
        targets = [np.array(target, dtype=dtype) for target in GOOD["targets"]]
        assert torch.equal(ctc_loss(LOG_PROBS, targets, np.array([5, 3, 4], dtype=dtype)), wanted)
    tuples = tuple(map(tuple, GOOD["targets"]))
    assert torch.equal(ctc_loss(LOG_PROBS, tuples, (5, 3, 4)), wanted)
