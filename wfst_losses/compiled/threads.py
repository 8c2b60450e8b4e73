"""Compiled loops on several threads: plain threads, since compiled code holds no interpreter lock.

No OpenMP and no pool of numba's: both abort in processes that fork after using them, as data loaders do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_in_parallel(work: Callable[[int, int], None], costs: npt.NDArray[np.generic]) -> None:
    """Call ``work(begin, end)`` over consecutive pieces of about equal cost, on as many threads as torch uses.

    Each item is computed alone, so the pieces make no difference to any result.
    """
    num_threads = min(torch.get_num_threads(), len(costs))
    if num_threads <= 1:
        if len(costs):
            work(0, len(costs))
        return
    # More pieces than threads, so that a thread that is done takes another.
    num_pieces = min(4 * num_threads, len(costs))
    reached = np.cumsum(np.asarray(costs, dtype=np.float64) + 1e-9)
    bounds = np.searchsorted(reached, np.linspace(0, reached[-1], num_pieces + 1)[1:-1], side="right")
    edges = np.unique(np.concatenate([[0], bounds, [len(costs)]])).tolist()
    pool = _pool(num_threads)
    for piece in [pool.submit(work, low, high) for low, high in itertools.pairwise(edges)]:
        piece.result()


def _pool(num_threads: int) -> ThreadPoolExecutor:
    # A forked child inherits the table but not the threads.
    key = (os.getpid(), num_threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(num_threads, thread_name_prefix="wfst-losses")
    return _pools[key]
