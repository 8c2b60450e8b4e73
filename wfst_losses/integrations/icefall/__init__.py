"""Into icefall's recipes: graph compilers for every topology, and the losses behind the arguments recipes have at hand.

`ctc_loss`, `mmi_loss`, `mwer_loss` take ``(dense_fsa_vec, graph_compiler, texts=... or token_ids=...)`` inside
``compute_loss``; `forward_ctc`, `forward_mmi`, `forward_mwer` take a zipformer's ``(encoder_out, lengths,
concatenated targets, lengths)`` inside the model. icefall itself is not imported.
"""

from wfst_losses.integrations.icefall.decoding_graph import DecodingGraph
from wfst_losses.integrations.icefall.graph_compilers import (
    AbstractGraphCompiler,
    LexiconGraphCompiler,
    MMIGraphCompiler,
    TokenGraphCompiler,
)
from wfst_losses.integrations.icefall.losses import ctc_loss, metrics, mmi_loss, mwer_loss
from wfst_losses.integrations.icefall.model_methods import forward_ctc, forward_mmi, forward_mwer

__all__ = [
    "AbstractGraphCompiler",
    "DecodingGraph",
    "LexiconGraphCompiler",
    "MMIGraphCompiler",
    "TokenGraphCompiler",
    "ctc_loss",
    "forward_ctc",
    "forward_mmi",
    "forward_mwer",
    "metrics",
    "mmi_loss",
    "mwer_loss",
]
