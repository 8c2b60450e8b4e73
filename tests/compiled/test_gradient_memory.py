"""Memory of gradients is used again when nothing refers to it any more, and never before."""

from __future__ import annotations

import mmap
import threading

import numpy as np
import pytest
import torch

from wfst_losses import ctc_loss
from wfst_losses.compiled import gradient_memory
from wfst_losses.compiled.gradient_memory import uninitialised

SHAPE = (2, 1 << 20)
needs_pages = pytest.mark.skipif(not hasattr(mmap, "MADV_FREE"), reason="this system cannot take pages back at will")


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def _nothing_unused(monkeypatch):
    monkeypatch.setattr(gradient_memory, "_unused", [])


@needs_pages
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_that_was_let_go_is_used_again(dtype):
    first = uninitialised(SHAPE, dtype)
    assert first.shape == SHAPE
    assert first.dtype == dtype
    first[:] = 3.0
    before = address(first)
    del first
    assert address(uninitialised(SHAPE, dtype)) == before


@needs_pages
@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array[1:, 5:],
        torch.from_numpy,
        lambda array: torch.from_numpy(array)[1:].detach(),
        lambda array: torch.from_numpy(array)[1:].numpy(),
        memoryview,
    ],
)
def test_memory_that_anything_refers_to_is_not(keep):
    array = uninitialised(SHAPE, np.float32)
    array[:] = 3.0
    kept = keep(array)
    del array
    for _ in range(3):
        uninitialised(SHAPE, np.float32)[:] = 4.0
    assert (np.asarray(kept) == 3.0).all()
    del kept
    assert len(gradient_memory._unused) == 2


@needs_pages
def test_few_blocks_lie_unused_and_they_are_the_largest():
    arrays = [uninitialised((size << 20,), np.float32) for size in (4, 1, 6, 3, 5, 2)]
    del arrays
    assert sorted(len(block) >> 22 for block in gradient_memory._unused) == [3, 4, 5, 6]
    # The smaller of them is enough.
    array = uninitialised((2 << 20,), np.float32)
    assert sorted(len(block) >> 22 for block in gradient_memory._unused) == [4, 5, 6]
    del array


def test_small_arrays_are_numpys_own():
    assert uninitialised((3, 4), np.float32).base is None
    assert uninitialised((0, 4), np.float32).shape == (0, 4)


def test_threads_never_share_memory():
    wrong = []

    def work(number: int) -> None:
        for _ in range(20):
            array = uninitialised(SHAPE, np.float32)
            array[:, ::4096] = number
            if not (array[:, ::4096] == number).all():
                wrong.append(number)
            del array

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_gradient_that_is_kept_stays_what_it_was():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 50, 6000, generator=generator)
    targets, kept = torch.tensor([[1, 2, 3]] * 4), []
    for scale in (1.0, 2.0, 3.0):
        scores = (scale * logits).requires_grad_()
        ctc_loss(scores, targets, [50] * 4, [3] * 4, from_logits=True).sum().backward()
        kept.append((scores.grad, scores.grad.clone()))
    assert all(torch.equal(gradient, copy) for gradient, copy in kept)
    assert not torch.equal(kept[0][0], kept[1][0])
