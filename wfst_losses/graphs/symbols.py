"""Symbol tables: names by number, as OpenFst, Kaldi and icefall write them, read strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from topologies.atomic import replacing

EPSILON_NAME = "<eps>"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BESIDE_WORDS = ("#0", "<s>", "</s>")


def read_lines(path: Path, expected: str) -> list[str]:
    """The lines of a file in UTF-8.

    Raises:
        ValueError: naming the file and the line of the first byte that is not UTF-8, and ``expected``.
        OSError: if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: byte {error.start} is not UTF-8; expected {expected}") from None
    # Not splitlines(): a symbol may be one of the rarer characters that it takes for ends of lines.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def columns(line: str) -> list[str]:
    """The parts of a line between blanks or tabs; other kinds of space belong to names."""
    stripped = line.strip(" \t\r")
    return re.split(r"[ \t]+", stripped) if stripped else []


def read_symbols(path: str | Path, *, first: Sequence[str], kind: str = "symbol", first_is: str = "") -> list[str]:
    """The names of the numbers 0, 1, ...: lines of ``name id``, ids ascending without a gap, every name once.

    Args:
        path: the file.
        first: what number 0 may be named.
        kind: what messages call a name.
        first_is: what messages call number 0.

    Raises:
        ValueError: naming the file, the line and what was found where what was expected.
        OSError: if the file cannot be read.
    """
    path = Path(path)
    lines = read_lines(path, f"'{kind} id'")
    if not lines:
        raise ValueError(f"{path}: is empty, expected lines of '{kind} id', first '{first[0]} 0'")
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        where, fields = f"{path}, line {number}", columns(line)
        if len(fields) != 2:
            raise ValueError(
                f"{where}: is {line.strip(' ' + chr(9) + chr(13))!r:.80}, expected two columns, '{kind} id'"
            )
        name, label = fields
        if _CONTROL.search(name):
            raise ValueError(f"{where}: {kind} is {name!r:.80}, expected a name without control characters")
        if label != str(number - 1):
            raise ValueError(f"{where}: id is {label!r:.80}, expected {number - 1} (ids ascend from 0 without a gap)")
        if number == 1 and name not in first:
            names = " or ".join(map(repr, first))
            raise ValueError(f"{where}: {kind} 0 is {name!r:.80}, expected {first_is}{names}")
        if name in line_of:
            raise ValueError(f"{where}: {kind} {name!r} is on line {line_of[name]} already, expected it once")
        line_of[name] = number
    return list(line_of)


def read_words(path: str | Path) -> list[str]:
    """The words of a words.txt by id, ``<eps>`` first; ``#0``, ``<s>`` and ``</s>``, at the end, are no words.

    Raises:
        ValueError: naming the file and the line, also for one of those three before a word.
        OSError: if the file cannot be read.
    """
    names = read_symbols(path, first=(EPSILON_NAME,), kind="word")
    num_words = min((names.index(name) for name in _BESIDE_WORDS if name in names), default=len(names))
    for number, name in enumerate(names[num_words:], start=num_words + 1):
        if name not in _BESIDE_WORDS:
            raise ValueError(
                f"{path}, line {number}: word {name!r} comes after {names[num_words]!r}, expected it before"
            )
    return names[:num_words]


def write_symbols(names: Sequence[str], path: str | Path) -> None:
    """Write ``name id`` lines, whole or not at all."""
    with replacing(Path(path)) as file:
        file.write("".join(f"{name} {number}\n" for number, name in enumerate(names)).encode())
