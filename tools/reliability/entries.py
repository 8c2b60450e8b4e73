"""What is called: every public entry with the arguments of a good call, and the kind of each argument."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from case import Arguments, Entry

import topologies
import wfst_losses
from wfst_losses import LanguageModel, RandomPaths, TokenErrors

B, T, V = 3, 6, 5
HAS_K2 = importlib.util.find_spec("k2") is not None
CHOICES = {"backend": "choice", "nonfinite": "choice"}


def log_probs() -> torch.Tensor:
    """``(3, 6, 5)`` float32, rows normalised."""
    return torch.randn(B, T, V, generator=torch.Generator().manual_seed(0)).log_softmax(-1)


def language_model() -> LanguageModel:
    """A bigram of counts over the four tokens."""
    return LanguageModel.from_counts([[1, 2], [3, 3], [4]], num_labels=V, order=2)


def plain() -> Arguments:
    """What a loss on sequences takes."""
    return {"log_probs": log_probs(), "targets": [[1, 2], [3, 3], [4]], "input_lengths": [6, 5, 4]}


def padded() -> Arguments:
    """The same, padded."""
    return plain() | {"targets": torch.tensor([[1, 2], [3, 3], [4, 0]]), "target_lengths": [2, 2, 1]}


def values_and_gradients(scores: torch.Tensor, losses: torch.Tensor) -> tuple[Any, Any]:
    """Losses and the gradient of each finite one, as plain numpy."""
    finite = losses.detach().isfinite()
    (gradient,) = torch.autograd.grad(losses[finite].sum() + 0.0 * losses.nan_to_num(0, 0, 0).sum(), scores)
    return losses.detach().double().numpy(), gradient.double().numpy()


def loss_of(function: Callable[..., Any], scores_name: str = "log_probs", **fixed: Any) -> Callable[..., Any]:
    """The loss and its gradient with respect to the scores."""

    def call(**arguments: Any) -> tuple[Any, Any]:
        scores = arguments[scores_name]
        if isinstance(scores, torch.Tensor) and scores.is_floating_point():
            arguments[scores_name] = scores = scores.clone().requires_grad_()
        losses = function(**fixed, **arguments)
        return values_and_gradients(scores, losses)

    return call


def made_of(function: Callable[..., Any]) -> Callable[..., None]:
    """Something that is only built."""

    def call(**arguments: Any) -> None:
        function(**arguments)

    return call


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
}


def _arcs() -> Arguments:
    return {
        "source": [0, 0, 1, 1],
        "destination": [1, 0, 0, 1],
        "token": [1, 2, 1, 2],
        "score": [-1.0, -0.5, -0.7, -1.2],
        "final_scores": [-0.3, -0.6],
    }


def _graph() -> Arguments:
    graph = topologies.build("compact", 3).graph()
    names = ("source", "destination", "input_label", "output_label", "score", "final_score")
    return {name: np.array(getattr(graph, name)) for name in names} | {"start": graph.start}


def _file(suffix: str, write: Callable[[Path], object]) -> Callable[[], Arguments]:
    """The arguments of a reader: the bytes of a good file."""

    def good() -> Arguments:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"file{suffix}"
            write(path)
            return {"file": path.read_bytes()}

    return good


def _reader(suffix: str, read: Callable[[Path], tuple[Any, None] | None]) -> Callable[..., Any]:
    """Write what is to be read to a file, then read it."""

    def call(file: Any) -> tuple[Any, None] | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"file{suffix}"
            if isinstance(file, bytes):
                path.write_bytes(file)
            elif file == "a folder":
                path.mkdir()
            return read(path)

    return call


def _write_graph(path: Path) -> None:
    from wfst_losses.graphs.files import write_graph_file

    write_graph_file(topologies.build("minimal", 4).graph(), path)


def _columns(graph: topologies.Graph) -> tuple[Any, None]:
    """All that a graph is, in one row."""
    columns = ("source", "destination", "input_label", "output_label", "score", "final_score")
    return np.concatenate([[graph.start], *(getattr(graph, name) for name in columns)]), None


def _read_graph(path: Path) -> tuple[Any, None]:
    from wfst_losses.graphs.files import read_graph_file

    return _columns(read_graph_file(path).graph)


ARPA = r"""\data\
ngram 1=4
ngram 2=2

\1-grams:
-0.6	<s>	-0.3
-0.6	</s>
-0.5	a	-0.2
-0.7	b

\2-grams:
-0.3	<s> a
-0.4	a b

\end\
"""


def _read_arpa(path: Path) -> None:
    LanguageModel.from_arpa(path, ["<blk>", "a", "b"])


def _read_tokens(path: Path) -> None:
    from wfst_losses.graphs.tokens import read_tokens

    read_tokens(path)


def command(**options: Any) -> None:
    """The command line, in this process; a refusal becomes the exception its exit status stands for."""
    from wfst_losses.cli.commands import run

    arguments = [options.pop("command")]
    with tempfile.TemporaryDirectory() as folder:
        for name, value in options.items():
            if value is not None:
                arguments += [f"--{name.replace('_', '-')}", str(value).replace("{folder}", folder)]
        status, message = run(arguments)
    if status in (1, 2, 3):
        raise {1: OSError, 2: ValueError, 3: MemoryError}[status](message)
    if status:
        raise RuntimeError(f"exit status {status}: {message}")


def _options(**options: Any) -> Callable[[], Arguments]:
    return lambda: dict(options)


def get_entries() -> list[Entry]:
    """Every entry that this environment can call."""
    sequence_peers = {"torch": peers.torch_ctc} | ({"k2": peers.k2_ctc} if HAS_K2 else {})
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
            "forced_alignment",
            made_of(wfst_losses.forced_alignment),
            plain,
            _common(topology="topology", blank="blank", from_logits="flag", check_normalised="flag"),
        ),
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
                **_POOLING,
            },
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
        Entry(
            "topologies.build",
            made_of(topologies.build),
            lambda: {"name": "correct", "num_labels": 5},
            {"name": "choice", "num_labels": "count"},
            aliases={"name": ("topology",)},
        ),
        Entry(
            "topologies.Graph",
            made_of(topologies.Graph),
            _graph,
            {
                "source": "states",
                "destination": "states",
                "input_label": "label_column",
                "output_label": "label_column",
                "score": "score_column",
                "final_score": "score_column",
                "start": "start",
            },
        ),
        Entry(
            "LanguageModel.from_arcs",
            made_of(LanguageModel.from_arcs),
            _arcs,
            {
                "source": "arc_states",
                "destination": "arc_states",
                "token": "arc_tokens",
                "score": "arc_scores",
                "final_scores": "arc_scores",
                "start": "start",
            },
        ),
        Entry(
            "LanguageModel.from_counts",
            made_of(LanguageModel.from_counts),
            lambda: {"sequences": [[1, 2], [3, 3], [4]], "num_labels": V, "order": 2},
            {"sequences": "sequences", "num_labels": "count", "order": "count", "discounting": "choice"},
        ),
        Entry(
            "LanguageModel.uniform",
            made_of(LanguageModel.uniform),
            lambda: {"num_labels": V},
            {"num_labels": "count", "blank": "plain_blank"},
        ),
        Entry(
            "LanguageModel.from_arpa",
            _reader(".arpa", _read_arpa),
            _file(".arpa", lambda path: path.write_text(ARPA)),
            {"file": "arpa"},
        ),
        Entry(
            "tokens.txt",
            _reader(".txt", _read_tokens),
            _file(".txt", lambda path: path.write_text("<blk> 0\na 1\nb 2\n")),
            {"file": "tokens_file"},
        ),
        Entry(
            "graph as OpenFst text",
            _reader(".fst.txt", _read_graph),
            _file(".fst.txt", _write_graph),
            {"file": "openfst_text"},
        ),
        Entry("graph as k2 .pt", _reader(".pt", _read_graph), _file(".pt", _write_graph), {"file": "k2_file"}),
        Entry(
            "wfst-losses inspect",
            command,
            _options(command="inspect", topology="compact", num_labels="50"),
            {"topology": "option_name", "num_labels": "option_count"},
            frozenset({("num_labels", "more than memory holds")}),  # sizes are closed forms
            prints=True,
        ),
        Entry(
            "wfst-losses compile",
            command,
            _options(command="compile", topology="compact", num_labels="50", output="{folder}/graph.fst.txt"),
            {
                "topology": "option_name",
                "num_labels": "option_count",
                "output": "option_output",
                "tokens": "option_tokens",
                "max_memory": "option_size",
            },
            prints=True,
        ),
    ]
    if HAS_K2:
        entries.append(_lattice_mwer())
    return entries


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
    }

    def good() -> Arguments:
        return {"ref_texts": [[1, 2], [3, 3], [4]], "reduction": "none"}

    return Entry("lattice_mwer_loss", call, good, kinds, peers={"k2": peers.k2_mwer}, has_threads=True)
