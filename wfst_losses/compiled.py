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
    ``NUMBA_CACHE_DIR``; where none can be written, every process compiles anew.
    """
    return _compile(function, parallel=False)


def compiled_parallel(function: Function) -> Function:
    """As `compiled`; loops over ``numba.prange`` run on as many threads as torch uses (see `num_threads`)."""
    return _compile(function, parallel=True)


def _compile(function: Function, *, parallel: bool) -> Function:
    options: dict[str, Any] = {"nogil": True, "parallel": parallel, "error_model": "numpy"}
    try:
        result: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # numba found no folder it may write to.
        result = numba.njit(cache=False, **options)(function)
    return result
