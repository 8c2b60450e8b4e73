"""A graph file that a command was given, read unless it is too large."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfst_losses.graphs.files import GraphFile


def read_limited(path: Path, max_memory: int) -> GraphFile:
    """The file's graph and format.

    Raises:
        MemoryLimitError: if reading it would take more than ``max_memory`` bytes.
        ValueError: if it is no whole graph file.
    """
    from wfst_losses.graphs.files import OPENFST_TEXT, detect_format, read_graph_file
    from wfst_losses.inspection.sizes import predicted_read_bytes
    from wfst_losses.memory_limit import MemoryLimitError

    predicted = predicted_read_bytes(path, is_text=detect_format(path) == OPENFST_TEXT)
    if predicted > max_memory:
        raise MemoryLimitError(f"reading {path}", predicted, max_memory)
    return read_graph_file(path)
