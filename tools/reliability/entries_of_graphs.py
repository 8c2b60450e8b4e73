"""Graphs, language models, files and the command line: what is called, and the arguments of a good call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from case import Arguments, Entry

import topologies
from wfst_losses import LanguageModel


def made_of(function: Callable[..., Any]) -> Callable[..., None]:
    """Something that is only built."""

    def call(**arguments: Any) -> None:
        function(**arguments)

    return call


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


def written(suffix: str, text: str) -> Callable[[], Arguments]:
    """The arguments of a reader of text."""
    return _file(suffix, lambda path: path.write_text(text, encoding="utf-8"))


def read_file(suffix: str, read: Callable[[Path], tuple[Any, None] | None]) -> Callable[..., Any]:
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
    """The command line, in this process; a refusal becomes the exception its exit status stands for. True is a flag."""
    from wfst_losses.cli.commands import run

    name, positional = options.pop("command"), options.pop("positional", ())
    arguments = [str(name)] if name else []
    arguments += [str(options.pop(each)) for each in positional if options[each] is not None]
    with tempfile.TemporaryDirectory() as folder:
        for name, value in options.items():
            if value is True:
                arguments += [f"--{name.replace('_', '-')}"]
            elif value is not None:
                arguments += [f"--{name.replace('_', '-')}", str(value).replace("{folder}", folder)]
        status, message = run(arguments)
    if status in (1, 2, 3):
        raise {1: OSError, 2: ValueError, 3: MemoryError}[status](message)
    if status:
        raise RuntimeError(f"exit status {status}: {message}")


def options(**options: Any) -> Callable[[], Arguments]:
    """The arguments of a command."""
    return lambda: dict(options)


def get_graph_entries() -> list[Entry]:
    """Every entry beside the losses."""
    return [
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
            lambda: {"sequences": [[1, 2], [3, 3], [4]], "num_labels": 5, "order": 2},
            {"sequences": "sequences", "num_labels": "count", "order": "count", "discounting": "choice"},
        ),
        Entry(
            "LanguageModel.uniform",
            made_of(LanguageModel.uniform),
            lambda: {"num_labels": 5},
            {"num_labels": "count", "blank": "plain_blank"},
        ),
        Entry(
            "LanguageModel.from_arpa",
            read_file(".arpa", _read_arpa),
            written(".arpa", ARPA),
            {"file": "arpa"},
        ),
        Entry(
            "tokens.txt",
            read_file(".txt", _read_tokens),
            written(".txt", "<blk> 0\na 1\nb 2\n"),
            {"file": "tokens_file"},
        ),
        Entry(
            "graph as OpenFst text",
            read_file(".fst.txt", _read_graph),
            _file(".fst.txt", _write_graph),
            {"file": "openfst_text"},
        ),
        Entry("graph as k2 .pt", read_file(".pt", _read_graph), _file(".pt", _write_graph), {"file": "k2_file"}),
        Entry(
            "wfst-losses inspect",
            command,
            options(command="inspect", topology="compact", num_labels="50"),
            {"topology": "option_name", "num_labels": "option_count"},
            prints=True,
        ),
        Entry(
            "wfst-losses compile",
            command,
            options(command="compile", topology="compact", num_labels="50", output="{folder}/graph.fst.txt"),
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
