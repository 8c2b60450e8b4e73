"""Decoding: lexicons, decoding graphs, best paths, and the commands around them."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from case import Arguments, Entry
from entries_of_graphs import ARPA, command, made_of, options, read_file, written
from good_calls import language_model, log_probs

import topologies
import wfst_losses
from wfst_losses import GraphStore, Lexicon

LEXICON = "ab a b\na a\nb b\n"
TOKENS = "<blk> 0\na 1\nb 2\n"
WORDS = "<eps> 0\nab 1\na 2\nb 3\n"
_NAMES = ["<blk>", "a", "b"]


def _graph() -> wfst_losses.DecodingGraph:
    return wfst_losses.decoding_graph(topologies.build("correct", 5), language_model())


def best_outputs(**arguments: Any) -> tuple[Any, Any]:
    """Scores, and the sequences in place of a gradient."""
    found = wfst_losses.decode(**arguments)
    tokens = np.zeros((len(found.sequences), 6, 1))
    for row, sequence in enumerate(found.sequences):
        tokens[row, : len(sequence), 0] = sequence
    return -found.scores.numpy(), tokens


def nbest_outputs(**arguments: Any) -> tuple[Any, Any]:
    """The best scores, and the best sequences in place of a gradient."""
    found = wfst_losses.decode_nbest(**arguments)
    tokens = np.zeros((len(found.sequences), 6, 1))
    for row, sequences in enumerate(found.sequences):
        if sequences:
            tokens[row, : len(sequences[0]), 0] = sequences[0]
    return -np.array([float(scores[0]) if len(scores) else -np.inf for scores in found.scores]), tokens


def _lexicon() -> Arguments:
    return {"tokens": tuple(_NAMES), "words": ("<eps>", "ab"), "entries": ((1, (1, 2), 0),)}


def _from_lexicon(**arguments: Any) -> None:
    """A lexicon is nothing until its transducer is made."""
    Lexicon(**arguments).graph  # noqa: B018 (made when asked for)


def _read_lexicon(path: Path) -> None:
    Lexicon.from_file(path, _NAMES)


def _from_file(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lexicon.txt"
        path.write_text(LEXICON, encoding="utf-8")
        Lexicon.from_file(**{"path": path, **arguments})


def _store(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        GraphStore(arguments.pop("folder", folder)).decoding_graph(**arguments)


def _saved(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wfst_losses.write_graph_file(**{"path": Path(folder) / "graph.fst.txt", **arguments})


def _read(**arguments: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.fst.txt"
        wfst_losses.write_graph_file(topologies.build("minimal", 4).graph(), path)
        wfst_losses.read_graph_file(**{"path": path, **arguments})


def decoded() -> Arguments:
    """What both are given."""
    return {"graph": _graph(), "log_probs": log_probs(), "input_lengths": [6, 5, 4]}


def _decoding() -> Arguments:
    return {"topology": topologies.build("correct", 5), "language_model": language_model()}


def _cuts() -> bytes:
    supervision = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "text": "ab b"}
    cut = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [supervision], "type": "MonoCut"}
    return "".join(json.dumps(cut | {"id": f"c{number}"}) + "\n" for number in range(3)).encode()


def with_files(name: str, positional: tuple[str, ...] = ()) -> Callable[..., None]:
    """A command that is given files: an argument of bytes is written to one, whose path stands in its place."""

    def call(**given: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments: dict[str, Any] = {}
            for option, value in given.items():
                arguments[option] = value
                if isinstance(value, bytes) or value == "a folder":
                    path = Path(folder) / _FILE_NAMES.get(option, f"file-{option}")
                    path.write_bytes(value) if isinstance(value, bytes) else path.mkdir()
                    arguments[option] = str(path)
                elif value == "no file":
                    arguments[option] = f"{folder}/none"
            command(command=name, positional=positional, **arguments)

    return call


_FILE_NAMES = {"lm": "file-lm.arpa", "manifest": "file-manifest.jsonl", "file": "file.fst.txt"}
_DECODED = {
    "graph": "decoding_graph",
    "log_probs": "logits",
    "input_lengths": "lengths",
    "backend": "choice",
    "from_logits": "flag",
    "search_beam": "positive",
    "output_beam": "positive",
    "max_active_states": "count",
    "nonfinite": "choice",
    "max_memory": "max_memory",
}
_DECODING = {
    "topology": "object",
    "language_model": "optional_object",
    "lexicon": "optional_object",
    "backoff": "choice",
    "engine": "choice",
    "lossless": "optional_choice",
}


def get_decoding_entries() -> list[Entry]:
    """Every entry around decoding, and the commands that take files."""
    compiled: Arguments = {
        "topology": "compact",
        "tokens": TOKENS.encode(),
        "lexicon": LEXICON.encode(),
        "words": WORDS.encode(),
        "lm": ARPA.encode(),
        "output": "{folder}/graph.fst.txt",
    }
    manifest: Arguments = {"manifest": _cuts(), "tokens": TOKENS.encode(), "subsampling": "1"}
    return [
        Entry("decode", best_outputs, decoded, _DECODED),
        Entry("decode_nbest", nbest_outputs, lambda: decoded() | {"num_paths": 3}, _DECODED | {"num_paths": "count"}),
        Entry("decoding_graph", made_of(wfst_losses.decoding_graph), _decoding, _DECODING | {"on_stage": "function"}),
        Entry("GraphStore", _store, _decoding, _DECODING | {"folder": "path"}),
        Entry(
            "lossless_compact",
            made_of(wfst_losses.lossless_compact),
            lambda: {"grammar": language_model().graph()},
            {"grammar": "object", "form": "choice"},
        ),
        Entry("Lexicon", _from_lexicon, _lexicon, {"tokens": "any_names", "words": "any_names", "entries": "entries"}),
        Entry(
            "Lexicon.from_file",
            _from_file,
            lambda: {"tokens": _NAMES},
            {"path": "path", "tokens": "any_names", "words": "optional_names", "silence": "name"},
        ),
        Entry("lexicon.txt", read_file(".txt", _read_lexicon), written(".txt", LEXICON), {"file": "lexicon_file"}),
        Entry("write_graph_file", _saved, lambda: {"graph": _graph().graph}, {"graph": "object", "path": "path"}),
        Entry(
            "read_graph_file",
            _read,
            dict,
            {"path": "path", "writes_words": "flag"},
        ),
        Entry(
            "wfst-losses compile, decoding graph",
            with_files("compile"),
            lambda: dict(compiled),
            {
                "topology": "option_name",
                "tokens": "tokens_file",
                "lexicon": "lexicon_file",
                "words": "words_file",
                "lm": "lm_file",
                "output": "option_output",
                "backoff": "option_name",
                "lossless": "option_lossless",
                "engine": "option_name",
                "silence": "option_name",
                "silence_probability": "option_probability",
                "max_memory": "option_size_of_job",
            },
            prints=True,
        ),
        Entry(
            "wfst-losses inspect, file",
            with_files("inspect", ("file",)),
            lambda: {"file": topologies.build("minimal", 4).graph().to_openfst_text().encode()},
            {"file": "graph_file", "max_memory": "option_size_of_job"},
            prints=True,
        ),
        Entry(
            "wfst-losses check-manifest",
            with_files("check-manifest", ("manifest",)),
            lambda: dict(manifest),
            {
                "manifest": "manifest_file",
                "tokens": "tokens_file",
                "topology": "option_name",
                "units": "option_name",
                "subsampling": "option_number",
                "lost_frames": "option_frames",
                "frame_shift": "option_seconds",
                "max_listed": "option_frames",
                "output": "option_new_file",
                "findings": "option_new_file",
                "bpe_model": "no_model",
            },
            prints=True,
        ),
        Entry(
            "wfst-losses check-manifest, lexicon",
            with_files("check-manifest", ("manifest",)),
            lambda: manifest | {"lexicon": LEXICON.encode()},
            {"lexicon": "lexicon_file"},
            prints=True,
        ),
        Entry(
            "wfst-losses check-manifest, packed",
            with_files("check-manifest", ("manifest",)),
            lambda: manifest | {"manifest": gzip.compress(_cuts(), mtime=0)},
            {"manifest": "packed_file"},
            prints=True,
        ),
        Entry("wfst-losses list", command, options(command="list"), {"nothing": "no_such_option"}, prints=True),
        Entry("wfst-losses doctor", command, options(command="doctor"), {"nothing": "no_such_option"}, prints=True),
        Entry(
            "wfst-losses",
            command,
            options(command="list"),
            {"command": "option_name"},
            frozenset({("command", "nothing")}),
            prints=True,
        ),
    ]
