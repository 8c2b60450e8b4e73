"""Lattice losses for speech recognition on weighted finite-state transducers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wfst_losses.shadowing import shadowing_message

if TYPE_CHECKING:
    from wfst_losses.alignment import Alignments, forced_alignment
    from wfst_losses.decoding import decode, decode_nbest
    from wfst_losses.graphs.decoding_graph import DecodingGraph, decoding_graph
    from wfst_losses.graphs.files import read_graph_file, write_graph_file
    from wfst_losses.graphs.language_model import LanguageModel
    from wfst_losses.graphs.lexicon import Lexicon
    from wfst_losses.graphs.lossless_compact import lossless_compact
    from wfst_losses.graphs.store import GraphStore
    from wfst_losses.losses.ctc import ctc_loss
    from wfst_losses.losses.expected_errors import Diagnostics
    from wfst_losses.losses.lattice_mwer import lattice_mwer_loss
    from wfst_losses.losses.mmi import mmi_loss
    from wfst_losses.losses.mwer import mwer_loss
    from wfst_losses.losses.smoothed_max_pooling import (
        decoder_smoothed_max_pooling_loss,
        encoder_smoothed_max_pooling_loss,
        smoothed_max_pooling_loss,
    )
    from wfst_losses.memory_limit import MemoryLimitError
    from wfst_losses.modules import CTCLoss, LatticeMWERLoss, LossReport, MMILoss, MWERLoss, SmoothedMaxPoolingLoss
    from wfst_losses.risks import CharacterErrors, MixedErrors, TokenErrors, WordErrors
    from wfst_losses.runs import Run, recorded_runs
    from wfst_losses.samplers import Exhaustive, GridPaths, NBest, NegativeSampling, RandomPaths
    from wfst_losses.weighted_losses import Constant, Linear, Switch, WeightedLosses

__version__ = "0.1.0"

# torch takes a second to import and the command line wants none of it to answer --help: names load on first use.
_MODULES = {
    "Alignments": "alignment",
    "CTCLoss": "modules",
    "CharacterErrors": "risks",
    "DecodingGraph": "graphs.decoding_graph",
    "Constant": "weighted_losses",
    "Diagnostics": "losses.expected_errors",
    "Exhaustive": "samplers",
    "GraphStore": "graphs.store",
    "GridPaths": "samplers",
    "LanguageModel": "graphs.language_model",
    "LatticeMWERLoss": "modules",
    "Lexicon": "graphs.lexicon",
    "Linear": "weighted_losses",
    "LossReport": "modules",
    "MMILoss": "modules",
    "MWERLoss": "modules",
    "MemoryLimitError": "memory_limit",
    "MixedErrors": "risks",
    "NBest": "samplers",
    "NegativeSampling": "samplers",
    "RandomPaths": "samplers",
    "Run": "runs",
    "SmoothedMaxPoolingLoss": "modules",
    "Switch": "weighted_losses",
    "TokenErrors": "risks",
    "WeightedLosses": "weighted_losses",
    "WordErrors": "risks",
    "ctc_loss": "losses.ctc",
    "decode": "decoding",
    "decode_nbest": "decoding",
    "decoder_smoothed_max_pooling_loss": "losses.smoothed_max_pooling",
    "decoding_graph": "graphs.decoding_graph",
    "encoder_smoothed_max_pooling_loss": "losses.smoothed_max_pooling",
    "forced_alignment": "alignment",
    "lattice_mwer_loss": "losses.lattice_mwer",
    "lossless_compact": "graphs.lossless_compact",
    "mmi_loss": "losses.mmi",
    "mwer_loss": "losses.mwer",
    "read_graph_file": "graphs.files",
    "recorded_runs": "runs",
    "smoothed_max_pooling_loss": "losses.smoothed_max_pooling",
    "write_graph_file": "graphs.files",
}

if _message := shadowing_message():
    if Path(sys.argv[0]).name == "wfst-losses":
        # The command line answers in one line, and this comes before any of its own code.
        raise SystemExit(f"wfst-losses: {_message}")
    raise ImportError(_message)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


__all__ = [
    "Alignments",
    "CTCLoss",
    "CharacterErrors",
    "Constant",
    "DecodingGraph",
    "Diagnostics",
    "Exhaustive",
    "GraphStore",
    "GridPaths",
    "LanguageModel",
    "LatticeMWERLoss",
    "Lexicon",
    "Linear",
    "LossReport",
    "MMILoss",
    "MWERLoss",
    "MemoryLimitError",
    "MixedErrors",
    "NBest",
    "NegativeSampling",
    "RandomPaths",
    "Run",
    "SmoothedMaxPoolingLoss",
    "Switch",
    "TokenErrors",
    "WeightedLosses",
    "WordErrors",
    "ctc_loss",
    "decode",
    "decode_nbest",
    "decoder_smoothed_max_pooling_loss",
    "decoding_graph",
    "encoder_smoothed_max_pooling_loss",
    "forced_alignment",
    "lattice_mwer_loss",
    "lossless_compact",
    "mmi_loss",
    "mwer_loss",
    "read_graph_file",
    "recorded_runs",
    "smoothed_max_pooling_loss",
    "write_graph_file",
]
