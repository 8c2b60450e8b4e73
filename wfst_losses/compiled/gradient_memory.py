"""Memory for gradients of the size of a network's output, and for what they are made of, kept when it is let go.

A training step lets go of such a gradient as soon as the network's own backward pass has read it, and the next step
asks for another. Fresh from the system its pages cost several times what is then written to them. What lies here unused
is still the system's to take back, without asking, as soon as it runs short.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

_LEAST_BYTES = 1 << 20
"""Below it the C library keeps memory by itself."""
_MAX_UNUSED = 4
"""Blocks that lie here at most: those of a loss and of another one beside it."""
_unused: list[mmap.mmap] = []


def uninitialised(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array that holds anything; its memory comes back here when nothing refers to it any more."""
    size, item = int(np.prod(shape)), np.dtype(dtype)
    if size * item.itemsize < _LEAST_BYTES or not hasattr(mmap, "MADV_FREE"):
        return np.empty(shape, item)
    block = _take(size * item.itemsize)
    # Whatever shares the memory refers to this very array: numpy has views of views refer to the first.
    flat: npt.NDArray[Any] = np.frombuffer(block, item, size)
    weakref.finalize(flat, _give_back, block).atexit = False
    return flat.reshape(shape)


def _take(num_bytes: int) -> mmap.mmap:
    # Arrays may end at any moment, also while this runs: each step works whatever happened between them.
    for block in sorted(_unused, key=len):
        if len(block) >= num_bytes:
            try:
                _unused.remove(block)
            except ValueError:
                continue
            return block
    block = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    block.madvise(mmap.MADV_FREE)
    _unused.append(block)
    while len(_unused) > _MAX_UNUSED:
        with contextlib.suppress(ValueError):
            _unused.remove(min(_unused, key=len))
