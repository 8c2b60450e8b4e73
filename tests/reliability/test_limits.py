"""Memory is told before it is taken, and threads share what they read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from wfst_losses import (
    LanguageModel,
    MemoryLimitError,
    RandomPaths,
    ctc_loss,
    forced_alignment,
    mmi_loss,
    mwer_loss,
)

TARGETS = [[1, 2], [3, 3], [4]]
LENGTHS = [6, 5, 4]
MODEL = LanguageModel.from_counts(TARGETS, num_labels=5, order=2)


def emissions() -> torch.Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)


def _mwer(scores: torch.Tensor, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    result = mwer_loss(scores, TARGETS, LENGTHS, sampler=RandomPaths(4), generator=generator, **options)
    assert isinstance(result, torch.Tensor)
    return result


CALLS: dict[str, Callable[..., torch.Tensor]] = {
    "ctc": lambda scores, **options: ctc_loss(scores, TARGETS, LENGTHS, **options),
    "ctc, reference": lambda scores, **options: ctc_loss(scores, TARGETS, LENGTHS, backend="reference", **options),
    "mmi": lambda scores, **options: mmi_loss(scores, TARGETS, LENGTHS, language_model=MODEL, **options),
    "mwer": _mwer,
    "mwer, exact": lambda scores, **options: mwer_loss(
        scores, TARGETS, LENGTHS, estimator="exact", max_errors=2, **options
    ),
    "alignment": lambda scores, **options: forced_alignment(scores, TARGETS, LENGTHS, **options).scores,
}


@pytest.mark.parametrize("name", CALLS)
def test_what_would_not_fit_is_refused_and_the_next_call_is_right(name: str) -> None:
    scores = emissions()
    wanted = CALLS[name](scores)
    with pytest.raises(MemoryLimitError) as refusal:
        CALLS[name](scores, max_memory=100)
    assert refusal.value.predicted_bytes > refusal.value.limit_bytes == 100
    assert torch.equal(CALLS[name](scores), wanted)
    assert torch.equal(CALLS[name](scores, max_memory=2**30), wanted)


def test_paths_that_no_machine_holds_are_refused() -> None:
    with pytest.raises(MemoryLimitError, match="2,147,483,647 paths of each of 3 utterances"):
        mwer_loss(emissions(), TARGETS, LENGTHS, sampler=RandomPaths(2**31 - 1))


@pytest.mark.parametrize("max_memory", [0, -1, 1.5, "8GiB", True])
def test_a_limit_is_a_number_of_bytes(max_memory: Any) -> None:
    with pytest.raises(ValueError, match="max_memory is"):
        ctc_loss(emissions(), TARGETS, LENGTHS, max_memory=max_memory)


def test_four_threads_share_batch_and_model() -> None:
    scores, targets, lengths = emissions(), copy.deepcopy(TARGETS), list(LENGTHS)
    before, arcs = scores.clone(), MODEL.arcs.score.copy()
    calls = [call for name, call in CALLS.items() if "reference" not in name]
    wanted = [call(scores) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [call(scores) for call in calls], range(8)))
    for values in found:
        assert all(torch.equal(value, due) for value, due in zip(values, wanted, strict=True))
    assert torch.equal(scores, before)
    assert (targets, lengths) == (TARGETS, LENGTHS)
    assert (MODEL.arcs.score == arcs).all()


def test_four_threads_share_a_k2_lattice() -> None:
    pytest.importorskip("k2")
    import peers

    from wfst_losses import lattice_mwer_loss

    lattice = peers.k2_lattice(emissions())
    scores = lattice.scores.clone()

    def loss(_: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        value = lattice_mwer_loss(lattice, TARGETS, reduction="none", num_paths=20, generator=generator)
        assert isinstance(value, torch.Tensor)
        return value

    wanted = loss(0)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(value, wanted) for value in pool.map(loss, range(8)))
    with pytest.raises(ValueError, match="ref_texts"):
        lattice_mwer_loss(lattice, [[1]])
    assert torch.equal(lattice.scores, scores)


@pytest.mark.parametrize("name", CALLS)
def test_an_exception_changes_nothing_of_the_callers(name: str) -> None:
    scores = emissions().requires_grad_()
    spoilt = scores.detach().clone()
    spoilt[1, 2, 3] = torch.nan
    before = spoilt.clone()
    with pytest.raises(ValueError, match=r"log_probs\[1, 2, 3\] is nan"):
        CALLS[name](spoilt)
    assert torch.equal(spoilt.nan_to_num(7.0), before.nan_to_num(7.0))
    with pytest.raises(MemoryLimitError):
        CALLS[name](scores, max_memory=1)
    assert scores.grad is None
    assert torch.equal(scores.detach(), emissions())
