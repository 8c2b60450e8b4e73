"""Graphs on disk: k2's ``.pt``, OpenFst text and binary, safetensors, Graphviz; told apart by what is in them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from topologies import Graph, without_epsilons
from topologies.atomic import replacing
from topologies.openfst import parse_openfst_text, write_openfst_text
from topologies.openfst_binary import MAGIC, read_openfst_binary, write_openfst_binary
from wfst_losses.graphs.container import read_container, write_container
from wfst_losses.graphs.dot import to_dot
from wfst_losses.graphs.k2_format import from_k2_dict, to_k2_dict
from wfst_losses.graphs.torch_archive import read_torch_archive
from wfst_losses.validation import check_callable, check_flag, check_instance, check_path

OPENFST_TEXT = "OpenFst text"
OPENFST_BINARY = "OpenFst binary"
K2 = "k2 .pt"
CONTAINER = "safetensors"
GRAPHVIZ = "Graphviz"
SUFFIXES = {
    ".txt": OPENFST_TEXT,
    ".fst": OPENFST_BINARY,
    ".pt": K2,
    ".safetensors": CONTAINER,
    ".dot": GRAPHVIZ,
}
"""The format of each ending; ``.dot`` is written only."""
_ZIP = b"PK\x03\x04"


@dataclasses.dataclass(frozen=True)
class GraphFile:
    """A graph read from a file, and which format that was in."""

    graph: Graph
    format: str


def format_by_name(path: str | Path) -> str:
    """The format that a name asks for, by its ending: one of `SUFFIXES`.

    Raises:
        ValueError: for any other ending.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        endings = ", ".join(f"{ending} ({name})" for ending, name in SUFFIXES.items())
        raise ValueError(f"{path}: ends in {suffix!r}, expected one of {endings}")
    return SUFFIXES[suffix]


def detect_format(path: str | Path) -> str:
    """The format a file is in, by its first bytes: its name plays no part.

    Raises:
        ValueError: for an empty file.
        OSError: if it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(9)
    if not head:
        raise ValueError(f"{path}: is empty, expected a graph")
    if head.startswith(MAGIC):
        return OPENFST_BINARY
    if head.startswith(_ZIP):
        return K2
    # The length of a header in JSON, then its brace.
    return CONTAINER if head[8:] == b"{" else OPENFST_TEXT


def read_graph_file(path: str | Path, *, writes_words: bool = False) -> GraphFile:
    """The graph of a file; nothing in it is executed.

    Args:
        path: of any format but Graphviz.
        writes_words: OpenFst's output labels are ids of a words.txt, which are not shifted by one as labels are.

    Raises:
        ValueError: for anything but a whole graph, naming the file, in text the line, and what was expected.
        OSError: if it cannot be read.
    """
    path = check_path("path", path)
    check_flag("writes_words", writes_words)
    found = detect_format(path)
    if found == K2:
        graph = from_k2_dict(read_torch_archive(path), str(path))
    elif found == OPENFST_BINARY:
        graph = read_openfst_binary(path, writes_words=writes_words)
    elif found == CONTAINER:
        graph = read_container(path)[0]
    else:
        graph = _read_text(path, writes_words)
    if not graph.final_score.max(initial=-torch.inf) > -torch.inf:
        raise ValueError(f"{path}: no state is final, expected one or more; the file may be truncated")
    return GraphFile(graph, found)


def write_graph_file(
    graph: Graph,
    path: str | Path,
    *,
    writes_words: bool = False,
    on_lines: Callable[[int], object] | None = None,
) -> Graph:
    """Write a graph in the format that the name asks for, whole or not at all; returns the graph as written.

    All formats keep virtual arcs but k2's, which has none: ``.pt`` holds the exact epsilon-free form
    (`topologies.without_epsilons`). OpenFst's labels are shifted by one, ids of words are not.

    Args:
        graph: to write.
        path: ends in one of `SUFFIXES`.
        writes_words: output labels are ids of a words.txt.
        on_lines: told the progress, in arcs and final states.

    Raises:
        ValueError: for any other ending, or a graph that the format cannot hold.
        OSError: if the disk does not take it; nothing is left over then.
    """
    check_instance("graph", graph, Graph, "a topologies.Graph")
    path = check_path("path", path)
    check_flag("writes_words", writes_words)
    check_callable("on_lines", on_lines)
    asked = format_by_name(path)
    if asked == K2:
        graph = without_epsilons(graph)
        _save(to_k2_dict(graph), path)
    elif asked == OPENFST_TEXT:
        write_openfst_text(graph, path, writes_words=writes_words, on_lines=on_lines)
    elif asked == OPENFST_BINARY:
        write_openfst_binary(graph, path, writes_words=writes_words, on_arcs=on_lines)
    elif asked == CONTAINER:
        write_container(graph, path, writes_words=writes_words)
    else:
        with replacing(path) as file:
            file.write(to_dot(graph).encode())
    return graph


def _read_text(path: Path, writes_words: bool) -> Graph:
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no text, expected a graph as OpenFst text or k2 .pt") from None
    return parse_openfst_text(text, name=str(path), writes_words=writes_words)


def _save(content: dict[str, torch.Tensor], path: Path) -> None:
    with replacing(path) as file:
        sink = _Sink(file)
        torch.save(content, sink)  # type: ignore[arg-type]  # write() is all it calls
        if sink.error is not None:
            raise sink.error


class _Sink(io.RawIOBase):
    """A file for torch.save that keeps an error for later: one that passes through torch 1.13 kills the process."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        """Pretends to have written all."""
        content = memoryview(data).cast("B")  # type: ignore[arg-type]
        try:
            if self.error is None:
                self.file.write(content)
        except BaseException as error:  # noqa: BLE001 (an interrupt too)
            self.error = error
        return len(content)
