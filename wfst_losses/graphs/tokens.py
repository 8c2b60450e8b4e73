"""tokens.txt: the names of a network's labels, as icefall and Kaldi write them."""

from __future__ import annotations

import re
from pathlib import Path

from wfst_losses.graphs.symbols import read_symbols

BLANK_NAMES = ("<blk>", "<eps>")
_DISAMBIGUATION = re.compile(r"#\d+")


def read_tokens(path: str | Path) -> list[str]:
    """The name of each label 0..V-1; disambiguation symbols are no labels and left out.

    Every line is ``token id``, parted by blanks or tabs: first ``<blk> 0`` or ``<eps> 0``, ids ascending without a
    gap, ``#0``, ``#1``, ... last.

    Raises:
        ValueError: naming the file, the line and what was found where what was expected.
        OSError: if the file cannot be read.
    """
    names = read_symbols(path, first=BLANK_NAMES, kind="token", first_is="blank, ")
    tokens: list[str] = []
    num_disambiguation = 0
    for number, token in enumerate(names, start=1):
        where = f"{path}, line {number}"
        disambiguation = _DISAMBIGUATION.fullmatch(token)
        # As text: Python itself refuses to read numbers of thousands of digits.
        if disambiguation and token != f"#{num_disambiguation}":
            raise ValueError(f"{where}: disambiguation symbol {token!r:.80}, expected '#{num_disambiguation}'")
        if num_disambiguation and not disambiguation:
            raise ValueError(f"{where}: token {token!r} comes after disambiguation symbols, expected those last")
        if disambiguation:
            num_disambiguation += 1
        else:
            tokens.append(token)
    return tokens
