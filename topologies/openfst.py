"""OpenFst's text format, out and in: labels are shifted by one, costs are negated scores.

OpenFst reserves label 0 for epsilon, so label ``k`` is written as ``k + 1`` and `EPSILON` as 0: blank is 1.
The first line's source state is the start state, as OpenFst reads it.

OpenFst has no comments, but passes over lines of nothing but blanks. A file written here begins with an empty one and
ends with one of blanks and tabs that spells a CRC-32 of what comes before: cut or changed, it is not read as another
graph. Text without the two, from elsewhere, is read as it is.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topologies.atomic import replacing
from topologies.graph import EPSILON, FloatColumn, Graph

_ARCS_PER_CHUNK = 1 << 16
_MAX_LABEL = 2**31 - 2


def format_openfst_text(graph: Graph) -> str:
    """The whole text of a graph; arcs with zero score carry no cost column."""
    return "".join(_chunks(graph))


def write_openfst_text(
    graph: Graph, path: Path, *, writes_words: bool = False, on_lines: Callable[[int], object] | None = None
) -> None:
    """Write the text to ``path`` in pieces; ``on_lines`` is told of each piece how many lines it had.

    There are as many lines as arcs and final states, and the two that guard them. The file appears whole or not at all
    (`topologies.atomic`).
    """
    with replacing(path) as file:
        file.write(b"\n")
        checksum = zlib.crc32(b"\n")
        for text in _chunks(graph, writes_words):
            content = text.encode("ascii")
            file.write(content)
            checksum = zlib.crc32(content, checksum)
            if on_lines is not None:
                on_lines(text.count("\n"))
        file.write(f"{_spelled(checksum)}\n".encode())


def _spelled(checksum: int) -> str:
    """32 blanks and tabs, a tab for each bit that is set."""
    return f"{checksum:032b}".replace("0", " ").replace("1", "\t")


def _without_guards(text: str, name: str) -> str:
    """The text as it is, or ours without its first and last line; those are checked.

    Raises:
        ValueError: if only one of them is there, or the checksum differs.
    """
    body, _, last = text.removesuffix("\n").rpartition("\n")
    if not text.strip() or (not text.startswith("\n") and (last.strip() or len(last) != len(_spelled(0)))):
        return text
    body += "\n"
    if not text.startswith("\n") or not text.endswith("\n") or last != _spelled(zlib.crc32(body.encode())):
        raise ValueError(
            f"{name}: is truncated or changed: the checksum in its last line differs; expected a graph as it was "
            "written (text edited by hand must lose its empty first and its blank last line)"
        )
    return body


def _chunks(graph: Graph, writes_words: bool = False) -> Iterator[str]:
    output = written_labels(graph, writes_words)
    in_order = graph.num_arcs == 0 or graph.source[0] == graph.start
    order = None if in_order else np.argsort(graph.source != graph.start, kind="stable")
    if graph.num_states and not np.any(graph.source == graph.start):
        # OpenFst takes the start state from the first line, whatever that line is.
        cost = _cost(graph.final_score[graph.start])
        yield f"{graph.start}{cost}\n" if cost is not None else f"{graph.start}\tInfinity\n"
    for begin in range(0, graph.num_arcs, _ARCS_PER_CHUNK):
        rows = slice(begin, begin + _ARCS_PER_CHUNK)
        picked = rows if order is None else order[rows]
        columns = (
            graph.source[picked].tolist(),
            graph.destination[picked].tolist(),
            (graph.input_label[picked] + 1).tolist(),
            output[picked].tolist(),
            graph.score[picked],
        )
        yield "".join(
            f"{source}\t{destination}\t{read}\t{written}{_cost(score) or f'{chr(9)}Infinity'}\n"
            if score != 0.0
            else f"{source}\t{destination}\t{read}\t{written}\n"
            for source, destination, read, written, score in zip(*columns, strict=True)
        )
    start_is_written = not np.any(graph.source == graph.start)
    for state in np.flatnonzero(graph.final_score > -np.inf).tolist():
        if not (start_is_written and state == graph.start):
            yield f"{state}{_cost(graph.final_score[state])}\n"


def _cost(score: np.float32) -> str | None:
    """The cost column with its tab; empty for the free score, ``None`` for an impossible one."""
    if score == -np.inf:
        return None
    return "" if score == 0 else f"\t{-float(score):.9g}"


def written_labels(graph: Graph, writes_words: bool) -> npt.NDArray[np.int32]:
    """OpenFst's output labels: words as they are, anything else shifted by one; nothing is 0."""
    if not writes_words:
        return graph.output_label + np.int32(1)
    if np.any(graph.output_label == 0):
        raise ValueError("graph writes word 0, expected ids of words.txt from 1 on: 0 is <eps> there")
    return np.maximum(graph.output_label, 0)


def read_labels(output: npt.NDArray[np.int32], writes_words: bool) -> npt.NDArray[np.int32]:
    """The inverse of `written_labels`."""
    return np.where(output == 0, EPSILON, output if writes_words else output - 1).astype(np.int32)


def parse_openfst_text(text: str, *, name: str = "text", writes_words: bool = False) -> Graph:
    """Read a graph; every line is checked.

    Raises:
        ValueError: naming ``name``, the line number and what was found where what was expected: a line of
            neither 1-2 (final) nor 4-5 (arc) columns, a field that is no number, a NaN or -inf cost, an empty text.
    """
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r:.80}, expected a string")
    rows: list[tuple[int, int, int, int]] = []
    scores: list[float] = []
    finals: dict[int, float] = {}
    start = -1
    for number, line in enumerate(io.StringIO(_without_guards(text, name)), start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{name}, line {number}"
        if not line.endswith("\n"):
            raise ValueError(f"{where}: no newline at the end; the file is truncated")
        if len(fields) in (1, 2):
            state = _integer(fields[0], where, "state")
            if finals.get(state, -np.inf) > -np.inf:
                raise ValueError(f"{where}: state {state} is final twice")
            finals[state] = -_number(fields[1], where) if len(fields) == 2 else 0.0
        elif len(fields) in (4, 5):
            source, destination = (_integer(field, where, "state") for field in fields[:2])
            read, written = (_integer(field, where, "label") for field in fields[2:4])
            rows.append((source, destination, read - 1, written))
            scores.append(-_number(fields[4], where) if len(fields) == 5 else 0.0)
            state = source
        else:
            raise ValueError(
                f"{where}: {len(fields)} columns, expected 4 or 5 (arc: source destination input output [cost]) "
                "or 1 or 2 (final state [cost])"
            )
        start = state if start < 0 else start
    if start < 0:
        raise ValueError(f"{name}: no arcs and no states, expected a graph in OpenFst's text format")
    return _assemble(rows, scores, finals, start, name, writes_words)


def _assemble(
    rows: list[tuple[int, int, int, int]],
    scores: list[float],
    finals: dict[int, float],
    start: int,
    name: str,
    writes_words: bool,
) -> Graph:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4)
    num_states = 1 + max(int(columns[:, :2].max(initial=0)), max(finals, default=0), start)
    # A graph names its states 0..n-1; a number far beyond them is damage, not a reason to allocate gigabytes.
    if num_states > 10 * (len(rows) + len(finals)) + 1000:
        raise ValueError(f"{name}: state {num_states - 1} in a text of {len(rows)} arcs; the file is damaged")
    final_score: FloatColumn = np.full(num_states, -np.inf, dtype=np.float32)
    for state, score in finals.items():
        final_score[state] = score
    source, destination, read, written = columns.astype(np.int32).T
    written = read_labels(written, writes_words)
    return Graph(source, destination, read, written, np.array(scores, dtype=np.float32), final_score, start)


def _integer(field: str, where: str, what: str) -> int:
    if not (field.isascii() and field.isdigit()) or int(field) > _MAX_LABEL:
        raise ValueError(f"{where}: {what} is {field!r}, expected an integer 0..{_MAX_LABEL}")
    return int(field)


def _number(field: str, where: str) -> float:
    if field in ("Infinity", "inf"):
        return np.inf
    try:
        value = float(field)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{where}: cost is {field!r}, expected a finite number or Infinity")
    return value
