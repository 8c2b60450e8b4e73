"""The only folder that imports k2: conversions, lattices and the k2 backend."""

from __future__ import annotations

try:
    import k2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "k2 is not installed: on CPython 3.10, pip install 'k2==1.23.4' 'torch==1.13.1'; with a newer torch, install "
        "k2's own wheel for exactly that torch; `wfst-losses doctor` tells what fits"
    ) from error

__all__ = ["k2"]
