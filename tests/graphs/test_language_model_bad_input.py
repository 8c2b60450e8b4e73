"""Malformed models: each gets a ValueError that names the line or the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.graphs.random_ngrams import NAMES
from topologies import EPSILON
from wfst_losses import LanguageModel

GOOD = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.5
-1 </s>
-0.5 a -0.25
-0.6 b

\\2-grams:
-0.2 <s> a
-0.3 a </s>

\\end\\
"""

BAD_ARPA = {
    "nothing": (lambda text: "", "line 1: the file ends here"),
    "no data": (lambda text: text.replace("\\data\\", "data"), "the file ends here, expected an ARPA model"),
    "no counts": (
        lambda text: text.replace("ngram 1=4\nngram 2=2\n", ""),
        "line 3: is '\\\\1-grams:', expected 'ngram",
    ),
    "a count left out": (lambda text: text.replace("ngram 1=4\n", ""), "line 2: count of order 2, expected of order 1"),
    "a count too small": (lambda text: text.replace("1=4", "1=3"), "line 9: is '-0.6 b', expected '\\2-grams:'"),
    "a count too large": (
        lambda text: text.replace("1=4", "1=5"),
        "line 11: 4 1-grams end here, expected 5 as counted at the top",
    ),
    "too many n-grams": (
        lambda text: text.replace("\n\\end", "-0.1 a a\n\n\\end"),
        "line 14: is '-0.1 a a', expected '\\end\\'",
    ),
    "a section left out": (
        lambda text: text.replace("\\2-grams:\n", ""),
        "line 11: is '-0.2 <s> a', expected '\\2-grams:'",
    ),
    "no number": (
        lambda text: text.replace("-0.6 b", "x b"),
        "line 9: log-probability is 'x', expected a finite number",
    ),
    "NaN": (lambda text: text.replace("-0.25", "nan"), "line 8: back-off is 'nan', expected a finite number"),
    "minus infinity": (lambda text: text.replace("-0.6 b", "-inf b"), "line 9: log-probability is '-inf', expected"),
    "an underscore": (lambda text: text.replace("-0.6 b", "-1_0 b"), "line 9: log-probability is '-1_0', expected"),
    "other digits": (
        lambda text: text.replace("-0.6 b", "-\u0660.\u0666 b"),
        "line 9: log-probability is '-\u0660.\u0666', expected",
    ),
    "beyond what natural logs hold": (
        lambda text: text.replace("-0.6 b", "-1e308 b"),
        "line 9: log-probability is '-1e308', expected a finite number",
    ),
    "a huge back-off": (lambda text: text.replace("-0.25", "1e308"), "line 8: back-off is '1e308', expected"),
    "a number of 5,000 digits": (
        lambda text: text.replace("-0.6 b", "-" + "9" * 5000 + " b"),
        "line 9: log-probability is '-999",
    ),
    "a count of 5,000 digits": (lambda text: text.replace("1=4", "1=" + "9" * 5000), "line 2: is 'ngram 1=999"),
    "a count in other digits": (lambda text: text.replace("1=4", "1=\u0664"), "line 2: is 'ngram 1=\u0664', expected"),
    "a probability above 1": (
        lambda text: text.replace("-0.6 b", "0.6 b"),
        "line 9: log-probability is 0.6, expected at most 0",
    ),
    "a column too few": (lambda text: text.replace("-0.2 <s> a", "-0.2 a"), "line 12: has 2 columns, expected"),
    "columns too many": (lambda text: text.replace("-0.6 b", "-0.6 b c d"), "line 9: has 4 columns, expected"),
    "an unknown token": (
        lambda text: text.replace("-0.6 b", "-0.6 z"),
        "line 9: token 'z' is not among the network's tokens",
    ),
    "the blank": (lambda text: text.replace("-0.6 b", "-0.6 <blk>"), "line 9: token '<blk>' is the blank"),
    "an n-gram twice": (
        lambda text: text.replace("-0.6 b", "-0.6 a"),
        "line 9: 'a' is on line 8 already, expected it once",
    ),
    "a history not listed": (
        lambda text: text.replace("<s> a", "c a"),
        "line 12: history 'c' is not listed, expected it among the 1-grams",
    ),
    "a start inside": (lambda text: text.replace("<s> a", "a <s>"), "line 12: '<s>' is token 2 of 2, expected"),
    "an end inside": (lambda text: text.replace("<s> a", "</s> a"), "line 12: '</s>' is token 1 of 2, expected"),
}


def read(text: str, folder: Path) -> LanguageModel:
    path = folder / "model.arpa"
    path.write_text(text, encoding="utf-8")
    return LanguageModel.from_arpa(path, NAMES)


def test_the_good_file(tmp_path: Path) -> None:
    model = read(GOOD, tmp_path)
    assert model.score([1]) / np.log(10) == pytest.approx(-0.5)
    assert read(GOOD.replace("\n", "\r\n").replace(" ", "\t\t"), tmp_path).score([1]) == model.score([1])
    assert read("\ufeff" + GOOD, tmp_path).score([1]) == model.score([1])
    assert read("a header\n\n" + GOOD + "\nwhat follows", tmp_path).score([1]) == model.score([1])


@pytest.mark.parametrize("case", BAD_ARPA)
def test_malformed_arpa(case: str, tmp_path: Path) -> None:
    change, message = BAD_ARPA[case]
    text = change(GOOD)
    assert text != GOOD
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(text, tmp_path)
    assert str(tmp_path / "model.arpa") in str(error.value)


@pytest.mark.parametrize("length", range(len(GOOD) - 1))
def test_a_truncated_file(length: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line"):
        read(GOOD[:length], tmp_path)


def test_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_bytes(GOOD.encode().replace(b" b", b" \xff"))
    with pytest.raises(ValueError, match="line 9: byte"):
        LanguageModel.from_arpa(path, NAMES)


def test_unknown_words_are_left_out_unless_a_token(tmp_path: Path) -> None:
    text = GOOD.replace("1=4", "1=5").replace("2=2", "2=4")
    text = text.replace("-0.6 b", "-0.6 b\n-0.1 <unk> -3").replace("-0.3 a", "-0.7 a <unk>\n-0.7 <unk> a\n-0.3 a")
    assert read(text, tmp_path).score([1, 2]) == read(GOOD, tmp_path).score([1, 2])
    path = tmp_path / "unknown.arpa"
    path.write_text(text)
    assert LanguageModel.from_arpa(path, ["<blk>", "a", "b", "<unk>"]).score([3]) > -np.inf


def test_tokens_from_a_file_and_any_blank(tmp_path: Path) -> None:
    tokens, path = tmp_path / "tokens.txt", tmp_path / "model.arpa"
    tokens.write_text("<blk> 0\na 1\nb 2\n")
    path.write_text(GOOD)
    model = LanguageModel.from_arpa(path, tokens)
    assert model.num_labels == 3
    assert LanguageModel.from_arpa(path, ["a", "b", "<blk>"], blank=2).score([0, 1]) == model.score([1, 2])
    with pytest.raises(ValueError, match="tokens holds a name twice"):
        LanguageModel.from_arpa(path, ["<blk>", "a", "a", "b"])


FROM_ARCS: dict[str, tuple[dict, str]] = {
    "columns of other lengths": ({"score": [0.0]}, "column score has 1 rows, expected 2"),
    "a state too many": ({"destination": [0, 2]}, "destination[1] is 2, expected 0..1"),
    "a negative token": ({"token": [1, -2]}, "token[1] is -2, expected a label, or -1 to back off"),
    "tokens of floats": (
        {"token": [1.0, 2.0]},
        "token is [1.0, 2.0], of shape (2,) and dtype float64, expected (A,) integers",
    ),
    "a score that is NaN": ({"score": [0.0, np.nan]}, "score[1] is nan, expected a number or -inf"),
    "a start too far": ({"start": 2}, "start is 2, expected 0..1"),
    "a token twice": ({"source": [0, 0], "token": [1, 1]}, "arcs 0 and 1 of state 0 both read token 1, expected one"),
    "two back-offs": ({"source": [0, 0], "token": [EPSILON] * 2}, "arcs 0 and 1 of state 0 both back off"),
    "back-off in a circle": ({"token": [EPSILON] * 2}, "back-off from state 0 never ends"),
}


@pytest.mark.parametrize("case", FROM_ARCS)
def test_malformed_arcs(case: str) -> None:
    change, message = FROM_ARCS[case]
    good = {"source": [0, 1], "destination": [1, 0], "token": [1, 2], "score": [0.0, 0.0], "final_scores": [0.0, 0.0]}
    LanguageModel.from_arcs(**good)
    with pytest.raises(ValueError, match=re.escape(message)):
        LanguageModel.from_arcs(**{**good, **change})


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "counted blank": (
        lambda: LanguageModel.from_counts([[1], [2, 0]], 3, 2),
        "sequences[1][1] is 0, expected a label 0..2 other than blank, 0",
    ),
    "a label too large": (
        lambda: LanguageModel.from_counts([[3]], 3, 2),
        "sequences[0][0] is 3, expected a label 0..2",
    ),
    "a truth value among floats": (
        lambda: LanguageModel.from_counts([[2], [1.0, True]], 3, 2),
        "sequences[1][0] is 1.0, expected an integer",
    ),
    "a truth value among integers": (
        lambda: LanguageModel.from_counts([[True, 2]], 3, 2),
        "sequences[0][0] is True, expected an integer",
    ),
    "a token that is a list": (
        lambda: LanguageModel.from_counts([[1, [2]]], 3, 2),
        "sequences[0][1] is [2], expected an integer",
    ),
    "a row without values": (
        lambda: LanguageModel.from_counts([[1], torch.ones(2, dtype=torch.int64, device="meta")], 3, 2),
        "sequences[1] is a tensor on the meta device, expected a dense one with values",
    ),
    "a row of bytes": (lambda: LanguageModel.from_counts([b"\x01"], 3, 2), "sequences[0] is b'\\x01'"),
    "a sparse row": (
        lambda: LanguageModel.from_counts([torch.ones(2, dtype=torch.int64).to_sparse()], 3, 2),
        "sequences[0] is a tensor of layout torch.sparse_coo",
    ),
    "order 0": (lambda: LanguageModel.from_counts([[1]], 3, 0), "order is 0, expected >= 1"),
    "another discounting": (
        lambda: LanguageModel.from_counts([[1]], 3, 2, "kneser_ney"),
        "discounting is 'kneser_ney', expected one of 'absolute', 'witten_bell'",
    ),
    "no labels": (lambda: LanguageModel.uniform(0), "num_labels is 0, expected >= 1"),
    "another back-off": (
        lambda: LanguageModel.uniform(3).graph("phi"),
        "backoff is 'phi', expected one of 'failure', 'epsilon'",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_bad_calls(case: str) -> None:
    call, message = CALLS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
