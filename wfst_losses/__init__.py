"""Lattice losses for speech recognition on weighted finite-state transducers."""

from __future__ import annotations

from wfst_losses.losses.ctc import ctc_loss
from wfst_losses.losses.expected_errors import Diagnostics
from wfst_losses.losses.lattice_mwer import lattice_mwer_loss
from wfst_losses.losses.mwer import mwer_loss
from wfst_losses.modules import CTCLoss, LatticeMWERLoss, LossReport, MWERLoss
from wfst_losses.risks import TokenErrors, WordErrors
from wfst_losses.samplers import Exhaustive, RandomPaths

__version__ = "0.1.0"

__all__ = [
    "CTCLoss",
    "Diagnostics",
    "Exhaustive",
    "LatticeMWERLoss",
    "LossReport",
    "MWERLoss",
    "RandomPaths",
    "TokenErrors",
    "WordErrors",
    "ctc_loss",
    "lattice_mwer_loss",
    "mwer_loss",
]
