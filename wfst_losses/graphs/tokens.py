"""tokens.txt: the names of a network's labels, as icefall and Kaldi write them."""

from __future__ import annotations

import re
from pathlib import Path

BLANK_NAMES = ("<blk>", "<eps>")
_DISAMBIGUATION = re.compile(r"#(\d+)")


def read_tokens(path: str | Path) -> list[str]:
    """The name of each label 0..V-1; disambiguation symbols are no labels and left out.

    Every line is ``token id``, parted by blanks or tabs: first ``<blk> 0`` or ``<eps> 0``, ids ascending without a
    gap, ``#0``, ``#1``, ... last.

    Raises:
        ValueError: naming the file, the line and what was found where what was expected.
        OSError: if the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        num_before = path.read_bytes()[: error.start].count(b"\n")
        raise ValueError(
            f"{path}, line {num_before + 1}: byte {error.start} is not UTF-8; expected 'token id'"
        ) from None
    # Not splitlines(): a token may be one of the rarer characters that it takes for ends of lines.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: is empty, expected lines of 'token id', first '<blk> 0'")
    tokens: list[str] = []
    line_of: dict[str, int] = {}
    num_disambiguation = 0
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        token = _token(line, number - 1, where)
        if token in line_of:
            raise ValueError(f"{where}: token {token!r} is on line {line_of[token]} already, expected it once")
        line_of[token] = number
        disambiguation = _DISAMBIGUATION.fullmatch(token)
        if disambiguation and int(disambiguation[1]) != num_disambiguation:
            raise ValueError(f"{where}: disambiguation symbol {token!r}, expected '#{num_disambiguation}'")
        if num_disambiguation and not disambiguation:
            raise ValueError(f"{where}: token {token!r} comes after disambiguation symbols, expected those last")
        if disambiguation:
            num_disambiguation += 1
        else:
            tokens.append(token)
    return tokens


def _token(line: str, label: int, where: str) -> str:
    fields = re.split(r"[ \t]+", line.strip(" \t\r"))
    if len(fields) != 2:
        raise ValueError(f"{where}: is {line!r:.80}, expected two columns, 'token id'")
    token, number = fields
    if number != str(label):
        raise ValueError(f"{where}: id is {number!r:.80}, expected {label} (ids ascend from 0 without a gap)")
    if label == 0 and token not in BLANK_NAMES:
        raise ValueError(f"{where}: token 0 is {token!r:.80}, expected blank, '<blk>' or '<eps>'")
    return token
