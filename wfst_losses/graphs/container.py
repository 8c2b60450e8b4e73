"""Graphs in safetensors: columns, a version and a checksum over all of it; nothing in such a file can run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from topologies import Graph
from topologies.atomic import replacing

FORMAT = "wfst-losses graph"
VERSION = "1"
_COLUMNS = {
    "source": "i4",
    "destination": "i4",
    "input_label": "i4",
    "output_label": "i4",
    "score": "f4 f8",
    "final_score": "f4 f8",
}


def write_container(
    graph: Graph, path: Path, *, writes_words: bool = False, about: Mapping[str, str] | None = None
) -> None:
    """Write a graph, whole or not at all; ``about`` is kept as it is, under names of its own."""
    columns = {name: np.ascontiguousarray(getattr(graph, name)) for name in _COLUMNS}
    metadata = {
        **(about or {}),
        "format": FORMAT,
        "version": VERSION,
        "start": str(graph.start),
        "writes": "words" if writes_words else "tokens",
    }
    metadata["sha256"] = _checksum(columns, metadata)
    with replacing(path) as file:
        file.write(safetensors.numpy.save(columns, metadata))


def read_container(path: Path) -> tuple[Graph, dict[str, str]]:
    """The graph of a file and its metadata.

    Raises:
        ValueError: for anything but a whole file of this version whose checksum fits.
        OSError: if it cannot be read.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            columns: dict[str, npt.NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error!s:.200}), expected a graph in safetensors") from None
    if metadata.get("format") != FORMAT or set(columns) != set(_COLUMNS):
        raise ValueError(f"{path}: holds something else in safetensors, expected a graph that this package wrote")
    if metadata.get("version") != VERSION:
        raise ValueError(f"{path}: has version {metadata.get('version')!r:.20} of the format, expected {VERSION!r}")
    given = metadata.pop("sha256", "")
    if given != _checksum(columns, metadata):
        raise ValueError(f"{path}: is damaged, its checksum differs; expected a graph as it was written")
    for name, kinds in _COLUMNS.items():
        if columns[name].ndim != 1 or columns[name].dtype.str[1:] not in kinds.split():
            raise ValueError(f"{path}: column {name} is {columns[name].dtype}, expected one of {kinds}")
    try:
        return Graph(**columns, start=int(metadata["start"])), metadata
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _checksum(columns: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(columns):
        digest.update(f"{name} {columns[name].dtype.str} {columns[name].shape}".encode())
        digest.update(columns[name].data)
    return digest.hexdigest()
