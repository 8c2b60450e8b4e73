"""What is called: every public entry with the arguments of a good call, and the kind of each argument."""

from __future__ import annotations

import importlib.util
from typing import Any

import peers
import torch
from case import Arguments, Entry, Peer
from entries_of_commands import get_command_entries
from entries_of_decoding import get_decoding_entries
from entries_of_graphs import get_graph_entries, made_of
from entries_of_hypotheses import get_hypothesis_entries, grid_paths
from entries_of_models import get_model_entries
from entries_of_nonfinite import get_nonfinite_entries
from entries_of_recipes import get_recipe_entries
from good_calls import CHOICES, language_model, log_probs, loss_of, padded, plain, values_and_gradients

import wfst_losses
from wfst_losses import RandomPaths, TokenErrors

HAS_K2 = importlib.util.find_spec("k2") is not None


def _common(**kinds: str) -> dict[str, str]:
    return {"log_probs": "log_probs", "targets": "targets", "input_lengths": "lengths", **CHOICES, **kinds}


_CTC = _common(
    topology="topology",
    reduction="choice",
    blank="blank",
    from_logits="flag",
    check_normalised="flag",
    zero_infinity="flag",
)
_BACKENDS = ("native", "reference", *(("k2",) if HAS_K2 else ()))


def _ctc(backend: str) -> Entry:
    kinds = {name: kind for name, kind in _CTC.items() if name != "backend"}
    call = loss_of(wfst_losses.ctc_loss, backend=backend)
    return Entry(f"ctc_loss, {backend}", call, plain, kinds, has_threads=backend == "k2")


_MWER = _common(
    topology="topology",
    language_model="language_model",
    sampler="object",
    risk="object",
    estimator="choice",
    temperature="positive",
    nbest_scale="positive",
    path_score="choice",
    baseline="choice",
    include_reference="flag",
    include_best="flag",
    return_diagnostics="diagnostics",
    generator="generator",
    reduction="choice",
    blank="blank",
    from_logits="flag",
    check_normalised="flag",
)


def _mwer(**arguments: Any) -> torch.Tensor:
    arguments.setdefault("generator", torch.Generator().manual_seed(0))
    arguments.setdefault("sampler", wfst_losses.Exhaustive())
    result: torch.Tensor = wfst_losses.mwer_loss(**arguments)
    return result


def _windows() -> Arguments:
    return {
        "logits": log_probs(),
        "windows": torch.tensor([[[0, 3], [2, 5]], [[1, 4], [0, 0]], [[0, 2], [0, 0]]]),
        "labels": torch.tensor([[1, 2], [3, -1], [4, -1]]),
        "input_lengths": [6, 5, 4],
        "sigma_frames": 1.0,
        "filter_frames": 3,
    }


def _decoder() -> Arguments:
    return {
        "logits": log_probs(),
        "keywords": torch.tensor([1, 3, -1]),
        "end_frames": torch.tensor([3, 2, 0]),
        "input_lengths": [6, 5, 4],
        "window_frames": 3,
        "offset_frames": 1,
        "sigma_frames": 1.0,
        "filter_frames": 3,
    }


def _encoder() -> Arguments:
    return {
        "log_probs": log_probs(),
        "parts": [[1, 2], [3], []],
        "end_frames": torch.tensor([4, 3, 0]),
        "input_lengths": [6, 5, 4],
        "window_frames": 2,
        "offset_frames": 1,
        "sigma_frames": 1.0,
        "filter_frames": 3,
    }


_POOLING = {
    "input_lengths": "lengths_from_one",
    "sigma_frames": "positive",
    "filter_frames": "odd",
    "smooth_in": "choice",
    "negative_weight": "not_negative",
    "reduction": "choice",
    "nonfinite": "choice",
    "max_memory": "max_memory",
}


def get_entries() -> list[Entry]:
    """Every entry that this environment can call."""
    sequences = frozenset({"log_probs", "targets", "input_lengths", "target_lengths", "reduction"})
    sequence_peers = {"torch": Peer(peers.torch_ctc, sequences | {"blank", "zero_infinity"})}
    if HAS_K2:
        sequence_peers["k2"] = Peer(peers.k2_ctc, sequences)
    entries = [
        Entry("ctc_loss", loss_of(wfst_losses.ctc_loss), plain, _CTC, peers=sequence_peers),
        *(_ctc(backend) for backend in _BACKENDS),
        Entry(
            "ctc_loss, padded",
            loss_of(wfst_losses.ctc_loss),
            padded,
            {"targets": "padded", "target_lengths": "target_lengths"},
            peers=sequence_peers,
        ),
        Entry("ctc_loss, logits", loss_of(wfst_losses.ctc_loss, from_logits=True), plain, {"log_probs": "logits"}),
        Entry(
            "mmi_loss",
            loss_of(wfst_losses.mmi_loss),
            lambda: plain() | {"language_model": language_model()},
            _common(
                log_probs="logits",
                topology="topology",
                language_model="required_language_model",
                den_scale="not_negative",
                boost="not_negative",
                memory="choice",
                backoff="choice",
                reduction="choice",
                blank="blank",
                from_logits="flag",
                zero_infinity="flag",
            ),
        ),
        Entry("mwer_loss", loss_of(_mwer), plain, _MWER | {"targets": "references"}),
        Entry(
            "smoothed_max_pooling_loss",
            loss_of(wfst_losses.smoothed_max_pooling_loss, "logits"),
            _windows,
            {"logits": "logits", "windows": "windows", "labels": "window_labels", "outside": "outside", **_POOLING},
            frozenset({("logits", "None")}),  # posteriors may come in its place
        ),
        Entry(
            "decoder_smoothed_max_pooling_loss",
            loss_of(wfst_losses.decoder_smoothed_max_pooling_loss, "logits"),
            _decoder,
            {
                "logits": "logits",
                "keywords": "keywords",
                "end_frames": "end_frames",
                "window_frames": "count",
                "offset_frames": "integer",
                **_POOLING,
            },
        ),
        Entry(
            "encoder_smoothed_max_pooling_loss",
            loss_of(wfst_losses.encoder_smoothed_max_pooling_loss),
            _encoder,
            {
                "log_probs": "log_probs",
                "parts": "parts",
                "end_frames": "end_frames",
                "window_frames": "count",
                "offset_frames": "integer",
                "background": "plain_blank",
                "from_logits": "flag",
                "check_normalised": "flag",
                **_POOLING,
            },
        ),
        Entry(
            "encoder_smoothed_max_pooling_loss, padded",
            loss_of(wfst_losses.encoder_smoothed_max_pooling_loss),
            lambda: _encoder() | {"parts": torch.tensor([[1, 2], [3, 0], [0, 0]]), "part_lengths": [2, 1, 0]},
            {"part_lengths": "part_lengths"},
        ),
        Entry("CTCLoss", made_of(wfst_losses.CTCLoss), dict, {"reduction": "choice"}),
        Entry("MWERLoss", made_of(wfst_losses.MWERLoss), dict, {"reduction": "choice"}),
        Entry("MMILoss", made_of(wfst_losses.MMILoss), dict, {"reduction": "choice"}),
        Entry(
            "SmoothedMaxPoolingLoss",
            made_of(wfst_losses.SmoothedMaxPoolingLoss),
            dict,
            {"reduction": "choice", "encoder_weight": "not_negative"},
        ),
        Entry("RandomPaths", made_of(RandomPaths), lambda: {"num_paths": 4}, {"num_paths": "count"}),
        Entry(
            "TokenErrors",
            made_of(TokenErrors),
            dict,
            {"insertion": "cost", "deletion": "cost", "substitution": "cost", "normalised": "flag"},
        ),
        Entry(
            "WordErrors",
            made_of(wfst_losses.WordErrors),
            lambda: {"tokens": ["<blk>", "\u2581a", "b"]},
            {"tokens": "names", "insertion": "cost", "mark": "mark"},
        ),
        *get_hypothesis_entries(),
        *get_graph_entries(),
        *get_decoding_entries(),
        *get_recipe_entries(),
        *get_command_entries(),
        *get_model_entries(),
        *get_nonfinite_entries(),
    ]
    if HAS_K2:
        entries += [_lattice_mwer(), grid_paths(peers.k2_lattice)]
    return entries


K2_MWER = ("lattice", "ref_texts", "nbest_scale", "num_paths", "temperature", "use_double_scores", "reduction")


def _lattice_mwer() -> Entry:
    def call(**arguments: Any) -> tuple[Any, Any]:
        scores = log_probs().requires_grad_()
        if "lattice" not in arguments:
            arguments["lattice"] = peers.k2_lattice(scores)
        arguments.setdefault("generator", torch.Generator().manual_seed(0))
        return values_and_gradients(scores, wfst_losses.lattice_mwer_loss(**arguments))

    kinds = {
        "lattice": "object",
        "ref_texts": "lattice_references",
        "nbest_scale": "positive",
        "num_paths": "count",
        "temperature": "positive",
        "reduction": "choice",
        "sampler": "optional_object",
        "risk": "object",
        "estimator": "choice",
        "path_score": "choice",
        "baseline": "choice",
        "generator": "generator",
        "use_double_scores": "flag",
        "max_memory": "max_memory",
        "include_reference": "flag",
        "include_best": "flag",
        "return_diagnostics": "diagnostics",
        "nonfinite": "choice",
    }

    def good() -> Arguments:
        return {"ref_texts": [[1, 2], [3, 3], [4]], "reduction": "none"}

    return Entry(
        "lattice_mwer_loss", call, good, kinds, peers={"k2": Peer(peers.k2_mwer, frozenset(K2_MWER))}, has_threads=True
    )
