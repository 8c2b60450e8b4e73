"""Graphs on disk: OpenFst text and k2's ``.pt``, told apart by what is in them."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from topologies import Graph, without_epsilons
from topologies.atomic import replacing
from topologies.openfst import parse_openfst_text, write_openfst_text
from wfst_losses.graphs.k2_format import from_k2_dict, to_k2_dict

OPENFST_TEXT = "OpenFst text"
K2 = "k2 .pt"
_SUFFIXES = {".txt": OPENFST_TEXT, ".pt": K2}
_OPENFST_BINARY = (0x7EB2FDD6).to_bytes(4, "little")
_ZIP = b"PK\x03\x04"


@dataclasses.dataclass(frozen=True)
class GraphFile:
    """A graph read from a file, and which format that was in."""

    graph: Graph
    format: str


def format_by_name(path: str | Path) -> str:
    """The format that a name asks for: ``.txt`` (``.fst.txt``) for OpenFst text, ``.pt`` for k2.

    Raises:
        ValueError: for any other ending.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{path}: ends in {suffix!r}, expected .txt or .fst.txt (OpenFst text) or .pt (k2)")
    return _SUFFIXES[suffix]


def detect_format(path: str | Path) -> str:
    """The format a file is in, by its first bytes: its name plays no part.

    Raises:
        ValueError: for an empty or an OpenFst binary file.
        OSError: if it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(len(_ZIP))
    if not head:
        raise ValueError(f"{path}: is empty, expected a graph as OpenFst text or k2 .pt")
    if head == _OPENFST_BINARY:
        raise ValueError(f"{path}: is OpenFst's binary format, expected text: fstprint {path} > {path}.txt")
    return K2 if head == _ZIP else OPENFST_TEXT


def read_graph_file(path: str | Path) -> GraphFile:
    """The graph of a file; nothing in it is executed.

    Raises:
        ValueError: for anything but a whole graph, naming the file, in text the line, and what was expected.
        OSError: if it cannot be read.
    """
    path = Path(path)
    found = detect_format(path)
    graph = _read_k2(path) if found == K2 else _read_text(path)
    if not graph.final_score.max(initial=-torch.inf) > -torch.inf:
        raise ValueError(f"{path}: no state is final, expected one or more; the file may be truncated")
    return GraphFile(graph, found)


def write_graph_file(graph: Graph, path: str | Path, *, on_lines: Callable[[int], object] | None = None) -> Graph:
    """Write a graph in the format that the name asks for, whole or not at all; returns the graph as written.

    Text keeps virtual arcs. k2 has none: ``.pt`` holds the exact epsilon-free form (`topologies.without_epsilons`).
    ``on_lines`` is told the progress, in lines of text.

    Raises:
        ValueError: for a name of neither format, or a graph that the format cannot hold.
        OSError: if the disk does not take it; nothing is left over then.
    """
    path = Path(path)
    if format_by_name(path) == OPENFST_TEXT:
        write_openfst_text(graph, path, on_lines=on_lines)
        return graph
    graph = without_epsilons(graph)
    _save(to_k2_dict(graph), path)
    return graph


def _read_text(path: Path) -> Graph:
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no text, expected a graph as OpenFst text or k2 .pt") from None
    return parse_openfst_text(text, name=str(path))


def _read_k2(path: Path) -> Graph:
    # torch checks no checksums; the archive has them, so that damage is not loaded as another graph.
    try:
        with zipfile.ZipFile(path) as archive:
            # torch never compresses: a bit that says so is damage.
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            damaged = packed[0] if packed else archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}), expected a k2 .pt file") from None
    if damaged is not None:
        raise ValueError(f"{path}: is damaged in {damaged!r}, its checksum differs; expected a k2 .pt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"{path}: holds more than tensors and plain values, which is not loaded ({reason:.200}); expected what "
            "torch.save({'arcs': ..., 'aux_labels': ...}) writes, ragged aux_labels expanded"
        ) from None
    except (RuntimeError, EOFError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: torch cannot load it ({reason:.200}), expected a k2 .pt file") from None
    return from_k2_dict(content, str(path))


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
