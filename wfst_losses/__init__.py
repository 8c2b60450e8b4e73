"""Lattice losses for speech recognition on weighted finite-state transducers."""

from __future__ import annotations

from wfst_losses.losses.ctc import ctc_loss

__all__ = ["ctc_loss"]
