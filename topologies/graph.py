"""A weighted transducer as numpy columns: what every topology, model and decoding graph is here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

EPSILON = -1
"""The label of a tape on which an arc reads or writes nothing. Blank is an ordinary input label."""

IntColumn = npt.NDArray[np.int32]
FloatColumn: TypeAlias = "npt.NDArray[np.floating[Any]]"


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A weighted finite-state transducer: one row per arc, one final score per state.

    ``score(path)`` is the sum of the scores of its arcs plus the final score of its last state. Arcs whose
    ``input_label`` is `EPSILON` take no frame; they must not form a cycle. Columns are read-only.

    Attributes:
        source, destination: ``(num_arcs,)`` int32, states.
        input_label, output_label: ``(num_arcs,)`` int32, `EPSILON` or ``>= 0``. Blank is input label 0.
        score: ``(num_arcs,)`` float32, nats; float64 where a float64 array is given.
        final_score: ``(num_states,)``, likewise; ``-inf`` means not final.
        start: the state every path leaves from.
    """

    source: IntColumn
    destination: IntColumn
    input_label: IntColumn
    output_label: IntColumn
    score: FloatColumn
    final_score: FloatColumn
    start: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "destination", "input_label", "output_label"):
            _freeze(self, name, np.int32)
        for name in ("score", "final_score"):
            is_double = getattr(getattr(self, name), "dtype", None) == np.float64
            _freeze(self, name, np.float64 if is_double else np.float32)
        for name in ("destination", "input_label", "output_label", "score"):
            if len(getattr(self, name)) != len(self.source):
                raise ValueError(
                    f"Graph: column {name} has {len(getattr(self, name))} rows, expected {len(self.source)}, "
                    "as many as source"
                )
        _check_range("source", self.source, 0, self.num_states)
        _check_range("destination", self.destination, 0, self.num_states)
        for name in ("input_label", "output_label"):
            _check_range(name, getattr(self, name), EPSILON, np.iinfo(np.int32).max)
        if not isinstance(self.start, (int, np.integer)) or isinstance(self.start, bool):
            raise ValueError(f"Graph: start is {self.start!r:.80}, expected a state, 0..{self.num_states - 1}")
        if self.num_states and not 0 <= self.start < self.num_states:
            raise ValueError(f"Graph: start is {self.start}, expected 0..{self.num_states - 1}")
        for name in ("score", "final_score"):
            _check_not_nan(name, getattr(self, name))

    @property
    def num_states(self) -> int:
        """How many states the graph has."""
        return len(self.final_score)

    @property
    def num_arcs(self) -> int:
        """How many arcs the graph has, epsilon arcs included."""
        return len(self.source)

    @property
    def num_epsilon_arcs(self) -> int:
        """How many arcs read nothing (virtual arcs)."""
        return int(np.count_nonzero(self.input_label == EPSILON))

    @property
    def num_bytes(self) -> int:
        """Bytes of all columns, shared columns counted once."""
        columns = {
            column.__array_interface__["data"]: column.nbytes
            for column in (
                self.source,
                self.destination,
                self.input_label,
                self.output_label,
                self.score,
                self.final_score,
            )
        }
        return sum(columns.values())

    def to_openfst_text(self) -> str:
        """The graph in OpenFst's text format (see `topologies.openfst`)."""
        from topologies.openfst import format_openfst_text

        return format_openfst_text(self)

    @classmethod
    def from_openfst_text(cls, text: str, *, name: str = "text") -> Graph:
        """A graph read from OpenFst's text format; errors name the line (see `topologies.openfst`)."""
        from topologies.openfst import parse_openfst_text

        return parse_openfst_text(text, name=name)

    def save_openfst_text(self, path: str | Path) -> None:
        """Write the OpenFst text to ``path``: to a temporary name first, then renamed."""
        from topologies.openfst import write_openfst_text

        if not isinstance(path, (str, Path)) or not str(path) or "\0" in str(path):
            raise ValueError(f"path is {path!r:.80}, expected the path of a file")
        write_openfst_text(self, Path(path))


def check_num_arcs(name: str, num_arcs: int) -> None:
    """As many arcs as 31 bits can number."""
    if num_arcs > np.iinfo(np.int32).max:
        raise ValueError(f"{name} has {num_arcs:,} arcs, expected at most {np.iinfo(np.int32).max:,} in one graph")


def check_graph(name: str, value: object) -> None:
    """A `Graph`, and nothing else."""
    if not isinstance(value, Graph):
        raise ValueError(f"{name} is {value!r:.80}, expected a topologies.Graph")


def _freeze(graph: Graph, name: str, dtype: type[np.generic]) -> None:
    try:
        column = np.asarray(getattr(graph, name))
    except (ValueError, TypeError, RuntimeError):  # ragged, or a tensor that has no values or requires grad
        column = np.asarray(None)
    if column.ndim != 1:
        raise ValueError(f"Graph: column {name} has {column.ndim} dimensions, expected 1")
    if np.issubdtype(dtype, np.integer):
        if column.dtype.kind not in "iu" and column.size:
            raise ValueError(f"Graph: column {name} has dtype {column.dtype}, expected an integer dtype")
        if not np.can_cast(column.dtype, dtype):
            _check_range(name, column, int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max) + 1)
    elif column.dtype.kind not in "iuf":
        raise ValueError(f"Graph: column {name} has dtype {column.dtype}, expected a floating dtype")
    column = np.ascontiguousarray(column, dtype=dtype)
    if column.flags.writeable:
        column = column.view()
        column.flags.writeable = False
    object.__setattr__(graph, name, column)


def _check_range(name: str, column: IntColumn, low: int, high: int) -> None:
    if len(column) and not (low <= column.min() and column.max() < high):
        row = int(np.argmax((column < low) | (column >= high)))
        if high < 1:
            raise ValueError(f"Graph: {name}[{row}] is {column[row]}, but final_score has no states")
        raise ValueError(f"Graph: {name}[{row}] is {column[row]}, expected {low}..{high - 1}")


def _check_not_nan(name: str, column: FloatColumn) -> None:
    # min() propagates NaN and needs no temporary column, unlike isnan.
    if len(column) and (np.isnan(column.min()) or column.max() == np.inf):
        row = int(np.argmax(np.isnan(column) | (column == np.inf)))
        raise ValueError(f"Graph: {name}[{row}] is {column[row]}, expected a number or -inf")
