"""The doors to lhotse and icefall, and what topologies offer beside graphs: what is called, and good arguments."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from case import Arguments, Entry
from entries_of_graphs import made_of
from good_calls import language_model, log_probs, loss_of, plain

import topologies
from wfst_losses.integrations import icefall
from wfst_losses.integrations.lhotse import keyword_windows, loss_arguments


def _compiler() -> icefall.TokenGraphCompiler:
    return icefall.TokenGraphCompiler(lambda texts: [[1, 2] for _ in texts], num_labels=5)


def _inside(**compiler: Any) -> Callable[[], Arguments]:
    """What a recipe's ``compute_loss`` has at hand."""
    return lambda: {
        "nnet_output": log_probs(),
        "supervision_segments": torch.tensor([[0, 0, 6], [1, 0, 5], [2, 0, 4]], dtype=torch.int32),
        "token_ids": [[1, 2], [3, 3], [4]],
        **{name: make() for name, make in compiler.items()},
    }


def _recipe_loss(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(nnet_output: Any, supervision_segments: Any, **arguments: Any) -> torch.Tensor:
        arguments.setdefault("dense_fsa_vec", (nnet_output, supervision_segments))
        arguments.setdefault("reduction", "none")
        result: torch.Tensor = function(**arguments)
        return result

    return loss_of(call, "nnet_output")


def _exhaustive(**arguments: Any) -> Any:
    from wfst_losses import Exhaustive

    return icefall.mwer_loss(**{"sampler": Exhaustive(), **arguments})


def _in_model(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """A zipformer's method, utterance by utterance."""
    return loss_of(lambda **arguments: function(**{"reduction": "none", **fixed, **arguments}), "ctc_output")


def _model_arguments() -> Arguments:
    return {
        "ctc_output": log_probs(),
        "encoder_out_lens": [6, 5, 4],
        "targets": torch.tensor([1, 2, 3, 3, 4]),
        "target_lengths": [2, 2, 1],
    }


def _batch() -> Arguments:
    supervisions = {
        "text": ["a", "b", "c"],
        "sequence_idx": torch.arange(3),
        "start_frame": torch.zeros(3, dtype=torch.int64),
        "num_frames": torch.tensor([6, 5, 4]),
    }
    return {
        "batch": {"supervisions": supervisions},
        "log_probs": log_probs(),
        "texts_to_ids": lambda _: plain()["targets"],
        "output_lengths": [6, 5, 4],
    }


def _cut(name: str) -> SimpleNamespace:
    word = SimpleNamespace(symbol="go", start=0.1, duration=0.2)
    supervision = SimpleNamespace(start=0.0, alignment={"word": [word]}, custom=None, text="go")
    return SimpleNamespace(id=name, start=0.0, duration=1.0, frame_shift=0.01, supervisions=[supervision])


def _windows() -> Arguments:
    return {"cuts": [_cut("a"), _cut("b")], "keywords": ["stop", "go"]}


def _composed() -> Arguments:
    compact = topologies.build("compact", 4).graph()
    return {"left": compact, "right": topologies.GraphBatch.from_graphs([topologies.build("minimal", 4).graph()])}


def _min_frames(targets: Any) -> tuple[Any, Any]:
    return np.asarray(topologies.build("correct", 5).min_frames(targets)), np.zeros((3, 6, 5))


_SEGMENTED = {
    "nnet_output": "scores_of_segments",
    "supervision_segments": "segments",
    "token_ids": "token_ids",
    "allow_truncate": "step",
    "reduction": "choice",
    "nonfinite": "choice",
    "graph_compiler": "object",
}
_METHOD = {
    "ctc_output": "logits",
    "encoder_out_lens": "lengths",
    "targets": "concatenated",
    "target_lengths": "lengths_of_concatenated",
}
_OF_METHOD = {
    "ctc_output": ("log_probs",),
    "encoder_out_lens": ("input_lengths",),
    "target_lengths": ("targets",),
    "targets": ("target_lengths",),
}
_OF_RECIPE = {"nnet_output": ("log_probs", "dense_fsa_vec"), "token_ids": ("targets",)}


def get_recipe_entries() -> list[Entry]:
    """Every entry that a recipe calls."""
    mmi = {"language_model": language_model()}
    return [
        Entry(
            "icefall.ctc_loss",
            _recipe_loss(icefall.ctc_loss),
            _inside(graph_compiler=_compiler),
            {**_SEGMENTED, "backend": "choice", "dense_fsa_vec": "object"},
            aliases=_OF_RECIPE,
        ),
        Entry(
            "icefall.mmi_loss",
            _recipe_loss(icefall.mmi_loss),
            _inside(graph_compiler=lambda: icefall.MMIGraphCompiler(_compiler(), language_model())),
            {**_SEGMENTED, "backend": "choice", "den_scale": "not_negative"},
            aliases=_OF_RECIPE,
        ),
        Entry(
            "icefall.mwer_loss",
            _recipe_loss(_exhaustive),
            _inside(graph_compiler=_compiler),
            _SEGMENTED,
            aliases=_OF_RECIPE,
        ),
        Entry("icefall.forward_ctc", _in_model(icefall.forward_ctc), _model_arguments, _METHOD, aliases=_OF_METHOD),
        Entry(
            "icefall.forward_mmi", _in_model(icefall.forward_mmi, **mmi), _model_arguments, _METHOD, aliases=_OF_METHOD
        ),
        Entry(
            "icefall.forward_mwer",
            _in_model(icefall.forward_mwer, estimator="exact", max_errors=2),
            _model_arguments,
            _METHOD,
            aliases=_OF_METHOD,
        ),
        Entry(
            "TokenGraphCompiler",
            made_of(icefall.TokenGraphCompiler),
            lambda: {"texts_to_ids": lambda texts: [[1] for _ in texts], "num_labels": 5},
            {"texts_to_ids": "object", "num_labels": "count", "topology": "topology", "device": "device"},
            frozenset({("texts_to_ids", "a class")}),  # a class can be called
        ),
        Entry(
            "MMIGraphCompiler",
            made_of(icefall.MMIGraphCompiler),
            lambda: {"compiler": _compiler(), "language_model": language_model()},
            {"compiler": "object", "language_model": "required_language_model", "backoff": "choice"},
        ),
        Entry(
            "icefall.metrics",
            made_of(icefall.metrics),
            lambda: {"name": "loss", "losses": torch.ones(3)},
            {"losses": "object"},
        ),
        Entry(
            "lhotse.loss_arguments",
            made_of(loss_arguments),
            _batch,
            {
                "batch": "batch",
                "log_probs": "shape_of_scores",
                "texts_to_ids": "texts_to_ids",
                "subsampling_factor": "count",
                "output_lengths": "optional_lengths",
            },
            aliases={"log_probs": ("output_lengths",)},
        ),
        Entry(
            "lhotse.keyword_windows",
            made_of(keyword_windows),
            _windows,
            {
                "cuts": "cuts",
                "keywords": "keyword_names",
                "relative_to": "optional_choice",
                "frame_shift_seconds": "optional_positive",
                "subsampling_factor": "count",
                "window_seconds": "positive",
                "offset_seconds": "number",
            },
        ),
        Entry("topologies.compose", made_of(topologies.compose), _composed, {"left": "object", "right": "object"}),
        Entry(
            "topologies.compose_targets",
            made_of(topologies.compose_targets),
            lambda: {"graph": topologies.build("compact", 4).graph(), "targets": [[1, 2], [3, 3], [2]]},
            {"graph": "object", "targets": "rows"},
        ),
        Entry("topologies.min_frames", _min_frames, lambda: {"targets": [[1, 2], [3, 3], [4]]}, {"targets": "rows"}),
        Entry(
            "topologies.without_epsilons",
            made_of(topologies.without_epsilons),
            lambda: {"graph": topologies.build("compact", 4).graph()},
            {"graph": "object", "arcs": "optional_object"},
        ),
        Entry(
            "topologies.GraphBatch.from_graphs",
            made_of(topologies.GraphBatch.from_graphs),
            lambda: {"graphs": [topologies.build("compact", 4).graph()] * 2},
            {"graphs": "graphs"},
        ),
    ]
