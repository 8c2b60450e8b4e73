"""The engines behind the losses, by name: a new one is one file and one line in the table."""

from __future__ import annotations

import functools
import importlib
import importlib.util

import torch

from wfst_losses.backends.backend import AbstractBackend
from wfst_losses.validation import shown

BACKENDS: dict[str, str] = {
    "native": "wfst_losses.backends.native.backend:NativeBackend",
    "reference": "wfst_losses.backends.reference:ReferenceBackend",
    "k2": "wfst_losses.backends.k2.backend:K2Backend",
}
"""Where each backend lies; imported on first use, so that what one needs never stops the others."""

_NATIVE_NEEDS = {"cpu": ("numba",), "cuda": ("numba", "triton")}


@functools.cache
def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@functools.cache
def _load(name: str) -> AbstractBackend:
    module, _, attribute = BACKENDS[name].partition(":")
    backend: AbstractBackend = getattr(importlib.import_module(module), attribute)()
    return backend


def get_backend(name: str, device: torch.device) -> AbstractBackend:
    """The backend of that name; "auto" is the fastest exact one: native where the device has one, else reference.

    Native needs numba on CPUs, numba and Triton on CUDA; Triton comes with torch there.

    Raises:
        ValueError: for an unknown name.
        ModuleNotFoundError: for a backend whose package is missing, saying how to install it.
    """
    if isinstance(name, str) and name == "auto":
        needed = _NATIVE_NEEDS.get(device.type)
        name = "native" if needed and all(map(_is_installed, needed)) else "reference"
    if not isinstance(name, str) or name not in BACKENDS:
        raise ValueError(f"backend is {shown(name)}, expected 'auto' or one of {', '.join(map(repr, BACKENDS))}")
    return _load(name)


__all__ = ["BACKENDS", "AbstractBackend", "get_backend"]
