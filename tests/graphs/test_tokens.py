"""tokens.txt is read strictly, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from wfst_losses.graphs.tokens import read_tokens


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("<blk> 0\n", ["<blk>"]),
        ("<eps> 0\na 1\n#0 2\n#1 3\n", ["<eps>", "a"]),
        ("<blk>\t0\n\u2581the  1\n# 2\n\u0085 3", ["<blk>", "\u2581the", "#", "\u0085"]),
        ("<blk> 0\r\n\u3000 1\r\n", ["<blk>", "\u3000"]),
    ],
)
def test_labels_without_disambiguation(tmp_path: Path, content: str, tokens: list[str]) -> None:
    assert read_tokens(write(tmp_path, content)) == tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "tokens.txt: is empty"),
        ("a 0\n", "line 1: token 0 is 'a', expected blank"),
        ("<blk> 1\n", "line 1: id is '1', expected 0"),
        ("<blk> 0\na 2\n", "line 2: id is '2', expected 1"),
        ("<blk> 0\na 01\n", "line 2: id is '01'"),
        ("<blk> 0\na\n", "line 2: is 'a', expected two columns"),
        ("<blk> 0\na 1 2\n", "line 2: is 'a 1 2', expected two columns"),
        ("<blk> 0\n\na 1\n", "line 2: is '', expected two columns"),
        ("<blk> 0\na 1\na 2\n", "line 3: token 'a' is on line 2 already"),
        ("<blk> 0\n#0 1\na 2\n", "line 3: token 'a' comes after disambiguation"),
        ("<blk> 0\n#1 1\n", "line 2: disambiguation symbol '#1', expected '#0'"),
        ("<blk> 0\na\0 1\n", "line 2: token is 'a\\x00', expected a name without control characters"),
        ("\ufeff<blk> 0\n", "line 1: token 0 is '\\ufeff<blk>'"),
        (b"<blk> 0\na 1\n\xff 2\n", "line 3: byte 12 is not UTF-8"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        read_tokens(write(tmp_path, content))
    assert message in str(caught.value)
