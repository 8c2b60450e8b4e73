"""The backends as test parameters: each member of BACKENDS, skipped where its package is missing."""

from __future__ import annotations

import importlib.util

import pytest

from wfst_losses.backends import BACKENDS

EVERY_BACKEND = [pytest.param(name, marks=pytest.mark.k2 if name == "k2" else ()) for name in BACKENDS]
FLOAT64_BACKENDS = [name for name in BACKENDS if name != "k2"]
"""All but k2, which computes in float32."""
INSTALLED_BACKENDS = [name for name in BACKENDS if name != "k2" or importlib.util.find_spec("k2") is not None]


def tolerance(backend: str) -> float:
    """How far values and gradients of small float64 problems may lie from enumeration, absolutely."""
    return 1e-4 if backend == "k2" else 1e-9
