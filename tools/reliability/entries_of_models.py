"""What graphs, models and modules are asked for after they are made: what is called, and good arguments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from case import Arguments, Entry
from entries_of_graphs import ARPA, made_of
from good_calls import language_model, loss_of, plain

import topologies
import wfst_losses
from wfst_losses import LanguageModel, Lexicon


def _scored(**arguments: Any) -> tuple[Any, Any]:
    return np.array([language_model().score(**arguments)]), np.zeros((1, 1, 1))


def _sequence_scores(**arguments: Any) -> tuple[Any, Any]:
    scores = language_model().sequence_scores(**arguments).detach().numpy()
    return scores, np.zeros((len(scores), 1, 1))


def _composition() -> topologies.Composition:
    graph = topologies.build("compact", 4).graph()
    return topologies.compose_graph(graph, graph)


def _contracted() -> Arguments:
    found = _composition()
    return {"composition": found, "is_inner": np.zeros(found.batch.num_states, dtype=bool)}


def _batch() -> topologies.GraphBatch:
    return topologies.GraphBatch.from_graphs([topologies.build("compact", 4).graph()] * 2)


def _saved(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        topologies.build("compact", 4).graph().save_openfst_text(**{"path": Path(folder) / "graph.txt", **arguments})


def _from_arpa(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.arpa"
        path.write_text(ARPA, encoding="utf-8")
        LanguageModel.from_arpa(**{"path": path, **arguments})


def _spelled(**arguments: Any) -> None:
    """What is refused before a model is read; none is at hand."""
    if arguments["model"] != "none":
        Lexicon.from_sentencepiece(**arguments)


def _called(module: type[torch.nn.Module], **options: Any) -> Callable[..., Any]:
    return loss_of(module(reduction="none", **options))


def _made_with(module: type[torch.nn.Module]) -> Callable[..., None]:
    """Built with options of any name."""

    def call(options: dict[str, Any], **arguments: Any) -> None:
        module(**arguments, **options)

    return call


def _module(name: str, **kinds: str) -> Entry:
    arguments: Arguments = {"options": {}}
    if name == "MWERLoss":
        arguments |= {"auxiliary": wfst_losses.CTCLoss(), "auxiliary_weight": 0.1}
    module = getattr(wfst_losses, name)
    return Entry(
        f"{name}, options", _made_with(module), lambda: dict(arguments), {"options": "unknown_option", **kinds}
    )


def _modules() -> list[Entry]:
    mwer = _called(
        wfst_losses.MWERLoss,
        sampler=wfst_losses.Exhaustive(),
        auxiliary=wfst_losses.CTCLoss(),
        auxiliary_weight=0.5,
    )
    return [
        _module("CTCLoss"),
        _module("MMILoss"),
        _module("MWERLoss", auxiliary="object", auxiliary_weight="not_negative"),
        _module("LatticeMWERLoss", reduction="choice"),
        _module("SmoothedMaxPoolingLoss", encoder_options="encoder_options"),
        Entry(
            "CTCLoss, called",
            _called(wfst_losses.CTCLoss),
            plain,
            {"log_probs": "log_probs", "targets": "targets", "input_lengths": "lengths"},
        ),
        Entry("MWERLoss, called", mwer, plain, {"log_probs": "log_probs", "input_lengths": "lengths"}),
    ]


def _of_models() -> list[Entry]:
    return [
        Entry(
            "LanguageModel.score", _scored, lambda: {"sequence": [1, 2]}, {"sequence": "sequence", "backoff": "choice"}
        ),
        Entry(
            "LanguageModel.sequence_scores",
            _sequence_scores,
            lambda: {"sequences": [[1, 2], [3, 3], [4]], "scores": language_model().scores},
            {"scores": "arc_scores_tensor", "backoff": "choice"},
        ),
        Entry("LanguageModel.graph", made_of(language_model().graph), dict, {"backoff": "choice"}),
        Entry(
            "LanguageModel",
            made_of(LanguageModel),
            lambda: {"arcs": language_model().arcs, "num_labels": 5},
            {"arcs": "object", "num_labels": "count"},
        ),
        Entry(
            "LanguageModel.from_arpa, arguments",
            _from_arpa,
            lambda: {"tokens": ["<blk>", "a", "b"]},
            {"path": "path", "tokens": "any_names", "blank": "model_blank"},
        ),
        Entry(
            "Lexicon.from_sentencepiece",
            _spelled,
            lambda: {"model": "none", "words": ["<eps>", "ab"]},
            {"model": "path"},
        ),
        Entry(
            "DecodingGraph",
            made_of(wfst_losses.DecodingGraph),
            lambda: {"graph": topologies.build("correct", 5).graph()},
            {"graph": "object", "writes_words": "flag"},
        ),
    ]


def get_model_entries() -> list[Entry]:
    """Methods of what other tables make."""
    return [
        *_modules(),
        *_of_models(),
        *(
            Entry(f"topologies.{name}", made_of(rule), lambda: {"num_labels": 5}, {"num_labels": "count"})
            for name, rule in topologies.TOPOLOGIES.items()
        ),
        Entry(
            "Graph.from_openfst_text",
            made_of(topologies.Graph.from_openfst_text),
            lambda: {"text": topologies.build("minimal", 4).graph().to_openfst_text()},
            {"text": "openfst_string"},
        ),
        Entry("Graph.save_openfst_text", _saved, dict, {"path": "path"}),
        Entry(
            "topologies.compose_graph",
            made_of(topologies.compose_graph),
            lambda: dict.fromkeys(("left", "right"), topologies.build("compact", 4).graph()),
            {"left": "object", "right": "object", "num_real": "num_real"},
        ),
        Entry(
            "topologies.is_inner",
            made_of(topologies.is_inner),
            lambda: {"composition": _composition(), "num_real": 4},
            {"composition": "object", "num_real": "count"},
        ),
        Entry(
            "topologies.contracted",
            made_of(topologies.contracted),
            _contracted,
            {"composition": "object", "is_inner": "mask"},
        ),
        Entry("GraphBatch.graph", made_of(_batch().graph), lambda: {"index": 1}, {"index": "place"}),
        Entry("GraphBatch.repeated", made_of(_batch().repeated), lambda: {"count": 2}, {"count": "times"}),
        Entry(
            "GraphBatch.with_input_labels",
            made_of(_batch().with_input_labels),
            lambda: {"input_label": _batch().input_label},
            {"input_label": "labels_of_batch"},
        ),
    ]
