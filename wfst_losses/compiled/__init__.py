"""Loops compiled by numba, their machine code kept on disk between runs.

Modules with compiled loops are imported on first use: importing the package costs nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

try:
    import numba
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("numba is not installed: pip install numba") from error

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """``function`` compiled on its first call, run without the interpreter's lock.

    The code is cached beside the source, in the user's cache folder where an installation is read-only, or in
    ``NUMBA_CACHE_DIR``; where none can be written, every process compiles anew. Products may be fused with sums
    (one rounding in place of two); nothing else is reordered.
    """
    return _compile(function, fastmath={"contract"})


def compiled_inline(function: Function) -> Function:
    """A small function for use inside others: inlined where it is called, so that loops around it vectorise."""
    return _compile(function, fastmath={"contract"}, forceinline=True)


def compiled_reduction(function: Function) -> Function:
    """As `compiled`, with sums and maxima in the order that vectorises: the same order at every call."""
    return _compile(function, fastmath={"contract", "reassoc", "nsz", "nnan"})


def _compile(function: Function, **options: Any) -> Function:
    try:
        result: Function = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:
        # numba found no folder it may write to.
        result = numba.njit(cache=False, nogil=True, error_model="numpy", **options)(function)
    return result
