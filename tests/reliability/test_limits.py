"""Memory is told before it is taken, and threads share what they read."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import topologies
from wfst_losses import (
    LanguageModel,
    MemoryLimitError,
    NBest,
    NegativeSampling,
    RandomPaths,
    TokenErrors,
    ctc_loss,
    decode,
    decode_nbest,
    decoder_smoothed_max_pooling_loss,
    decoding_graph,
    encoder_smoothed_max_pooling_loss,
    forced_alignment,
    mmi_loss,
    mwer_loss,
    smoothed_max_pooling_loss,
)
from wfst_losses.memory_formulas import Work, peak_bytes
from wfst_losses.samplers import AbstractPathSampler

TARGETS = [[1, 2], [3, 3], [4]]
LENGTHS = [6, 5, 4]
MODEL = LanguageModel.from_counts(TARGETS, num_labels=5, order=2)
GRAPH = decoding_graph(topologies.build("compact", 5), MODEL)


def emissions() -> torch.Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)


def _drawn(sampler: AbstractPathSampler, **fixed: Any) -> Callable[..., torch.Tensor]:
    def call(scores: torch.Tensor, **options: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        result = mwer_loss(scores, TARGETS, LENGTHS, sampler=sampler, generator=generator, **fixed, **options)
        assert isinstance(result, torch.Tensor)
        return result

    return call


def _best(scores: torch.Tensor, **options: Any) -> torch.Tensor:
    return decode(GRAPH, scores, LENGTHS, **options).scores


def _ranked(scores: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.cat(decode_nbest(GRAPH, scores, LENGTHS, 3, **options).scores)


CALLS: dict[str, Callable[..., torch.Tensor]] = {
    "ctc": lambda scores, **options: ctc_loss(scores, TARGETS, LENGTHS, **options),
    "ctc, reference": lambda scores, **options: ctc_loss(scores, TARGETS, LENGTHS, backend="reference", **options),
    "mmi": lambda scores, **options: mmi_loss(scores, TARGETS, LENGTHS, language_model=MODEL, **options),
    "mmi, boosted": lambda scores, **options: mmi_loss(
        scores, TARGETS, LENGTHS, language_model=MODEL, boost=0.5, **options
    ),
    "mmi, reference": lambda scores, **options: mmi_loss(
        scores, TARGETS, LENGTHS, language_model=MODEL, backend="reference", **options
    ),
    "mwer": _drawn(RandomPaths(4)),
    "mwer, drawn alignments": _drawn(RandomPaths(4), path_score="single"),
    "mwer, reference": _drawn(RandomPaths(4), backend="reference"),
    "mwer, N best": _drawn(NBest(3)),
    "mwer, N best, reference": _drawn(NBest(3), backend="reference"),
    "mwer, negative sampling": _drawn(NegativeSampling(4)),
    "mwer, negative sampling, reference": _drawn(NegativeSampling(4), backend="reference"),
    "mwer, exact": lambda scores, **options: mwer_loss(
        scores, TARGETS, LENGTHS, estimator="exact", max_errors=2, **options
    ),
    "alignment": lambda scores, **options: forced_alignment(scores, TARGETS, LENGTHS, **options).scores,
    "best path": _best,
    "N best decoded": _ranked,
    "keywords": lambda scores, **options: decoder_smoothed_max_pooling_loss(
        scores, [1, 2, -1], LENGTHS, LENGTHS, **options
    ),
    "parts": lambda scores, **options: encoder_smoothed_max_pooling_loss(scores, TARGETS, LENGTHS, LENGTHS, **options),
    "windows": lambda scores, **options: smoothed_max_pooling_loss(
        logits=scores, windows=[[[0, 2]]] * 3, labels=[[1]] * 3, input_lengths=LENGTHS,
        sigma_frames=1.0, filter_frames=3, **options,
    ),
}  # fmt: skip
needs_k2 = pytest.mark.skipif(importlib.util.find_spec("k2") is None, reason="needs k2")


def _lattice_loss(scores: torch.Tensor, **options: Any) -> torch.Tensor:
    import peers

    from wfst_losses import lattice_mwer_loss

    generator = torch.Generator().manual_seed(0)
    result = lattice_mwer_loss(
        peers.k2_lattice(scores.detach()), TARGETS, reduction="none", num_paths=20, generator=generator, **options
    )
    assert isinstance(result, torch.Tensor)
    return result


K2_CALLS: dict[str, Callable[..., torch.Tensor]] = {
    "ctc, k2": lambda scores, **options: ctc_loss(scores, TARGETS, LENGTHS, backend="k2", **options),
    "mmi, k2": lambda scores, **options: mmi_loss(
        scores, TARGETS, LENGTHS, language_model=MODEL, backend="k2", **options
    ),
    "lattice mwer": _lattice_loss,
    "best path, k2": lambda scores, **options: _best(scores, backend="k2", **options),
    "N best decoded, k2": lambda scores, **options: _ranked(scores, backend="k2", **options),
}
EVERY_CALL = CALLS | K2_CALLS


def _refused(call: Callable[..., torch.Tensor], scores: torch.Tensor, max_memory: int) -> int:
    """What the call is refused for; 0 where it is not."""
    try:
        call(scores, max_memory=max_memory)
    except MemoryLimitError as error:
        return error.predicted_bytes
    return 0


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": NegativeSampling(2**31 - 1)},
        {"sampler": NegativeSampling(2**31 - 1, unit="frame"), "backend": "reference"},
        {"estimator": "exact", "risk": TokenErrors(insertion=10**11)},
    ],
    ids=["masks", "masks of frames", "costs"],
)
def test_numbers_that_no_machine_holds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MemoryLimitError, match="limit is 1,000,000 bytes") as caught:
        mwer_loss(emissions(), TARGETS, LENGTHS, max_memory=10**6, **options)
    assert caught.value.predicted_bytes > 2**37


@pytest.mark.parametrize("name", [*CALLS, *(pytest.param(name, marks=needs_k2) for name in K2_CALLS)])
def test_what_would_not_fit_is_refused_and_the_next_call_is_right(name: str) -> None:
    call, scores = EVERY_CALL[name], emissions().requires_grad_()
    wanted = call(scores)
    told, more = 0, _refused(call, scores, 100)
    assert more > 100
    # What hypotheses bring is told when they are known.
    while more > told:
        told, more = more, _refused(call, scores, more)
    assert more == 0
    assert _refused(call, scores, told - 1) == told
    assert torch.equal(call(scores), wanted)
    assert torch.equal(call(scores, max_memory=told), wanted)


def test_parts_of_a_call_are_held_against_its_limit_together() -> None:
    scores = emissions().requires_grad_()
    whole = _refused(CALLS["mmi"], scores, 100)
    numerators = _refused(CALLS["ctc"], scores, 100)
    assert whole > numerators
    # The first refusal tells the whole call: nothing is left to be refused later.
    assert _refused(CALLS["mmi"], scores, numerators) == whole
    assert _refused(CALLS["mmi"], scores, whole) == 0


def test_the_peak_of_a_call_is_that_of_its_worst_moment() -> None:
    first, second = Work(room=50, held=3, kept=10, gradient=7, gradient_room=1), Work(room=20, kept=30, gradient=7)
    assert peak_bytes([]) == 0
    assert peak_bytes([first]) == 3 + 10 + 50
    assert peak_bytes([second, first]) == 30 + 13 + 50
    assert peak_bytes([first, second]) == max(13 + 50, 13 + 30 + 20)
    # Backwards: what both keep, a gradient that waits, another and its room; hypotheses are gone.
    assert peak_bytes([first._replace(room=0), second._replace(room=0)]) == 10 + 30 + 7 + 7 + 1


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
    with pytest.raises(ValueError, match=r"(log_probs|logits)\[1, 2, 3\] is nan"):
        CALLS[name](spoilt)
    assert torch.equal(spoilt.nan_to_num(7.0), before.nan_to_num(7.0))
    with pytest.raises(MemoryLimitError):
        CALLS[name](scores, max_memory=1)
    assert scores.grad is None
    assert torch.equal(scores.detach(), emissions())
