"""Loops compiled by numba, their machine code kept on disk between runs.

Modules with compiled loops are imported on first use: importing the package costs nothing of it. Machine code holds
what its functions call, and numba looks at one source file only: the cache folder is named by all sources with loops.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

try:
    import numba
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("numba is not installed: pip install numba") from error

_config: Any = numba.config
Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """``function`` compiled on its first call, run without the interpreter's lock.

    The code is cached beside the package, in the user's cache folder where an installation is read-only, or in
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
    folder = _cache_folder()
    before = _config.CACHE_DIR
    # numba reads its setting when a function is decorated.
    _config.CACHE_DIR = str(folder or before)
    try:
        result: Function = numba.njit(cache=folder is not None, nogil=True, error_model="numpy", **options)(function)
    finally:
        _config.CACHE_DIR = before
    return result


@functools.cache
def _cache_folder() -> Path | None:
    """A folder for these very sources that can be written to, ``None`` where there is none."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"{sys.version_info[:2]} {numba.__version__}".encode())
    for source in sorted(package.rglob("*.py")):
        text = source.read_bytes()
        if source.parent == package / "compiled" or b"from wfst_losses.compiled import compiled" in text:
            digest.update(text)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for base in (_config.CACHE_DIR, package / "__pycache__", user / "wfst-losses"):
        folder = Path(base) / f"kernels-{digest.hexdigest()[:16]}"
        try:
            if not base:
                continue
            is_new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            if is_new:
                logging.getLogger("wfst_losses").warning("compiling loops for this machine, once: 10 to 30 seconds")
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None
