"""The table of defects of graphs, language models, files and the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from case import Defect, Finite, Noticed, Refused
from changes import Change, put, refused, to


def element(index: int, value: Any) -> Change:
    """One element of a numpy column or list replaced."""

    def change(good: Any) -> Any:
        spoilt = list(good)
        spoilt[index] = value
        return np.array(spoilt) if isinstance(good, np.ndarray) else spoilt

    return change


def _unsigned(index: int, value: int) -> Change:
    """Labels without a sign, epsilon among them 0."""
    return lambda good: np.maximum(element(index, value)(np.asarray(good)), 0).astype(np.uint32)


def swap(old: str, new: str) -> Change:
    """Text of a file replaced once; that there is something to replace is checked."""

    def change(good: bytes) -> bytes:
        if old.encode() not in good:
            raise AssertionError(f"nothing to replace: {old!r}")
        return good.replace(old.encode(), new.encode(), 1)

    return change


def cut(part: float) -> Change:
    """The first part of a file."""
    return lambda good: good[: int(part * len(good))]


def flipped(part: float) -> Change:
    """One bit of a file turned over."""

    def change(good: bytes) -> bytes:
        place = int(part * len(good))
        return good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :]

    return change


_FILE = ("file.", "/file")


def noticed() -> Noticed:
    """A file that is damaged: refused by its name, or read as what was written."""
    return Noticed((":",), _FILE)


_COLUMN = (
    Defect("two dimensions", lambda x: np.array([x]), refused("2 dimensions", "(1,")),
    Defect(
        "a row too many", lambda x: np.array([*x, 0]), refused("rows", "[", under=("source", "destination", "score"))
    ),
    Defect("None", to(None), refused("None", "0 dimensions", "()")),
    Defect("text", to("many"), refused("many", "0 dimensions", "()")),
    Defect(
        "a parameter",
        lambda x: torch.nn.Parameter(torch.ones(len(x))),
        refused("0 dimensions", "float32", "requires_grad"),
    ),
)

STATES = (
    *_COLUMN,
    Defect("negative", element(1, -1), refused("[1] is -1")),
    Defect("beyond the states", element(1, 99), refused("[1] is 99")),
    Defect("beyond 32 bits", element(1, 2**40), refused(f"[1] is {2**40}")),
    Defect("beyond 32 bits, unsigned", _unsigned(1, 2**32 - 1), refused(f"[1] is {2**32 - 1}")),
    Defect("fractions", element(1, 0.5), refused("float64")),
    Defect("truth values", lambda x: np.array(x) > 0, refused("bool")),
)

LABEL_COLUMN = (
    *_COLUMN,
    Defect("below epsilon", element(1, -2), refused("[1] is -2")),
    Defect("beyond 32 bits", element(1, 2**40), refused(f"[1] is {2**40}")),
    Defect("beyond 32 bits, unsigned", _unsigned(1, 2**32 - 1), refused(f"[1] is {2**32 - 1}")),
    Defect("fractions", element(1, 0.5), refused("float64")),
    Defect("truth values", lambda x: np.array(x) > 0, refused("bool")),
)

SCORE_COLUMN = (
    Defect("two dimensions", lambda x: np.array([x]), refused("2 dimensions", "(1,")),
    Defect("NaN", element(1, float("nan")), refused("[1] is nan")),
    Defect("+inf", element(1, float("inf")), refused("[1] is inf")),
    Defect("text", to("many"), refused("many", "0 dimensions", "()")),
    Defect("complex numbers", lambda x: np.array(x) + 1j, refused("complex")),
    Defect("of no states or arcs", lambda x: x[:0], refused("0 rows", "no states")),
)

START = (
    Defect("negative", to(-1), refused("-1")),
    Defect("beyond the states", to(99), refused("99")),
    Defect("None", to(None), refused("None")),
    Defect("text", to("0"), refused("'0'")),
    Defect("a fraction", to(0.5), refused("0.5")),
)

SEQUENCES = (
    Defect("None", to(None), refused("None")),
    Defect("a number", to(3), refused("3", "int")),
    Defect("a label that is V", put((1, 0), 5), refused("[1][0] is 5")),
    Defect("a negative label", put((1, 0), -1), refused("[1][0] is -1")),
    Defect("blank", put((1, 0), 0), refused("[1][0] is 0")),
    Defect("a fraction", put((1, 0), 1.5), refused("[1][0] is 1.5", "[1]")),
    Defect("text inside", put(1, ["a"]), refused("[1]")),
    Defect("nested too deep", put(1, [[1], [2]]), refused("[1]")),
    Defect("a truth value", put((1, 0), True), refused("[1][0] is True")),
    Defect("a list for a label", put((1, 0), [1]), refused("[1][0] is [1]")),
    Defect("a sparse sequence", put(1, torch.ones(2, dtype=torch.int64).to_sparse()), refused("[1] is a tensor")),
    Defect("one without values", put(1, torch.ones(2, device="meta")), refused("[1] is a tensor")),
    Defect("a tensor", put(1, torch.tensor([1, 2])), Finite()),
    Defect("an empty sequence", put(1, []), Finite()),
)

COST = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("1"), refused("'1'")),
    Defect("a fraction", to(0.5), refused("0.5")),
    Defect("negative", to(-1), refused("-1")),
    Defect("NaN", to(float("nan")), refused("nan")),
    Defect("inf", to(float("inf")), refused("inf")),
    Defect("truth value", to(True), refused("True")),
)

NAMES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("abc"), refused("'abc'")),
    Defect("numbers", to([1, 2]), refused("[1, 2]")),
    Defect("no word mark", to(["<blk>", "a"]), refused("\u2581")),
    Defect("nothing", to([]), refused("\u2581", "[]")),
)

ARPA = (
    Defect("nothing", to(b""), refused("empty", "line 1", "\\data\\", under=_FILE)),
    Defect("a folder", to("a folder"), refused("directory", under=_FILE)),
    Defect("no file", to("no file"), refused("No such", "does not exist", under=_FILE)),
    Defect("a number that is none", swap("-0.5\ta", "x\ta"), refused("line 8", under=_FILE)),
    Defect("NaN", swap("-0.5\ta", "nan\ta"), refused("line 8", under=_FILE)),
    Defect("an underscore", swap("-0.5\ta", "-0_5\ta"), refused("line 8", under=_FILE)),
    Defect("other digits", swap("-0.5\ta", "-\u0660.\u0665\ta"), refused("line 8", under=_FILE)),
    Defect("a log-prob of -1e308", swap("-0.5\ta", "-1e308\ta"), refused("line 8", under=_FILE)),
    Defect("a count of 5,000 digits", swap("ngram 1=4", "ngram 1=" + "9" * 5000), refused("line 2", under=_FILE)),
    Defect("a positive log-prob", swap("-0.5\ta", "0.5\ta"), refused("line 8", under=_FILE)),
    Defect("an unknown token", swap("-0.5\ta", "-0.5\tz"), refused("'z'", under=_FILE)),
    Defect("a count that is wrong", swap("ngram 1=4", "ngram 1=5"), refused("5", under=_FILE)),
    Defect("a count that is none", swap("ngram 1=4", "ngram 1=x"), refused("line 2", under=_FILE)),
    Defect("a negative count", swap("ngram 1=4", "ngram 1=-4"), refused("line 2", "-4", under=_FILE)),
    Defect("an order left out", swap("ngram 1=4\n", ""), refused("1", under=_FILE)),
    Defect("an n-gram twice", swap("-0.7\tb", "-0.7\ta"), refused("line 9", "'a'", under=_FILE)),
    Defect("a bigram of one token", swap("-0.4\ta b", "-0.4\ta"), refused("line 13", under=_FILE)),
    Defect("a field too many", swap("-0.4\ta b", "-0.4\ta b -0.1 c"), refused("line 13", under=_FILE)),
    Defect("no end", swap("\\end\\\n", ""), refused("\\end\\", under=_FILE)),
    Defect("cut in the middle", cut(0.5), refused(":", under=_FILE)),
    Defect("cut near the end", cut(0.9), refused(":", under=_FILE)),
    Defect("binary", to(bytes(range(256))), refused("byte", "line 1", ":1", under=_FILE)),
    Defect("another section's name", swap("\\2-grams:", "\\3-grams:"), refused("line 11", "3-grams", under=_FILE)),
)

TOKENS_FILE = (
    Defect("nothing", to(b""), refused("empty", "line 1", "no token", under=_FILE)),
    Defect("no file", to("no file"), refused("No such", "does not exist", under=_FILE)),
    Defect("an id that is none", swap("a 1", "a x"), refused("2", under=_FILE)),
    Defect("an id twice", swap("a 1", "a 0"), refused("2", under=_FILE)),
    Defect("an id left out", swap("b 2", "b 3"), refused("3", under=_FILE)),
    Defect("a negative id", swap("a 1", "a -1"), refused("-1", under=_FILE)),
    Defect("a name twice", swap("b 2", "a 2"), refused("'a'", under=_FILE)),
    Defect("one field", swap("a 1", "a"), refused("2", under=_FILE)),
    Defect("three fields", swap("a 1", "a 1 2"), refused("2", under=_FILE)),
    Defect("binary", to(bytes(range(256))), refused("byte", "line 1", ":1", under=_FILE)),
)


def changed(*mentions: object) -> Refused:
    """A text that is refused at the place, or as a whole because its checksum differs."""
    return refused(*mentions, "checksum", under=_FILE)


OPENFST_TEXT = (
    Defect("nothing", to(b""), changed("empty")),
    Defect("no file", to("no file"), changed("No such")),
    Defect("a folder", to("a folder"), changed("directory")),
    Defect("cut in a line", cut(0.5), changed("newline")),
    *(Defect(f"cut at {part:.0%}", cut(part), noticed()) for part in (0.1, 0.3, 0.7, 0.9)),
    Defect("a label that is none", swap("0\t0\t2\t2", "0\t0\tx\t2"), changed("'x'")),
    Defect("a negative label", swap("0\t0\t2\t2", "0\t0\t-7\t2"), changed("'-7'")),
    Defect("a cost that is none", swap("0\t0\t2\t2", "0\t0\t2\t2\tlow"), changed("'low'")),
    Defect("a cost of NaN", swap("0\t0\t2\t2", "0\t0\t2\t2\tnan"), changed("'nan'")),
    Defect("a state of 2^40", swap("0\t0\t2\t2", f"0\t{2**40}\t2\t2"), changed(str(2**40))),
    Defect(
        "a state far beyond the arcs",
        swap("0\t0\t2\t2", "0\t99999999\t2\t2"),
        changed("99999999"),
    ),
    Defect("a label beyond 32 bits", swap("0\t0\t2\t2", f"0\t0\t{2**33}\t2"), changed(str(2**33))),
    Defect("six fields", swap("0\t0\t2\t2", "0\t0\t2\t2\t1\t1"), changed(":")),
    Defect("three fields", swap("0\t0\t2\t2", "0\t0\t2"), changed(":")),
    Defect("OpenFst's binary", to(b"\xd6\xfd\xb2\x7e\x06\x00\x00\x00vector"), changed("binary")),
    Defect("bytes that are no text", to(b"0\t0\t\xff\xfe\n"), changed("byte")),
    Defect("prose", to(b"This is not a graph.\n"), changed("1")),
)

K2_FILE = (
    Defect("nothing", to(b""), refused("empty", under=_FILE)),
    Defect("no file", to("no file"), refused("No such", "does not exist", under=_FILE)),
    *(Defect(f"cut at {part:.0%}", cut(part), noticed()) for part in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)),
    *(Defect(f"a bit flipped at {part:.0%}", flipped(part), noticed()) for part in np.arange(0.02, 1.0, 0.07)),
    Defect(
        "a pickle",
        to(b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
        refused(":", under=_FILE),
    ),
    Defect("prose", to(b"This is not a graph.\n"), refused(":", under=_FILE)),
)

OPTION_NAME = (
    Defect("unknown", to("other"), refused("'other'")),
    Defect("nothing", to(""), refused("''")),
    Defect("upper case", to("COMPACT"), refused("'COMPACT'")),
)

OPTION_COUNT = (
    Defect("zero", to("0"), refused("0", under=("num-labels", "num_labels"))),
    Defect("negative", to("-5"), refused("-5", under=("num-labels", "num_labels"))),
    Defect("a fraction", to("1.5"), refused("1.5", under=("num-labels", "num_labels"))),
    Defect("text", to("many"), refused("many", under=("num-labels", "num_labels"))),
    Defect("left out", to(None), refused("num-labels", under=("num-labels", "num_labels"))),
    Defect(
        "more than memory holds",
        to("99999999999"),
        refused("99,999,999,999", "99999999999", under=("num-labels", "labels")),
    ),
)

OPTION_OUTPUT = (
    Defect("another ending", to("{folder}/graph.bin"), refused("graph.bin")),
    Defect("no ending", to("{folder}/graph"), refused("graph")),
    Defect("no such folder", to("{folder}/none/graph.pt"), refused("none")),
    Defect("a folder", to("{folder}"), refused("/")),
    Defect("left out", to(None), refused("output")),
)

OPTION_TOKENS = (
    Defect("beside num-labels", to(__file__), refused("num-labels")),
    Defect("no file", to("{folder}/tokens.txt"), refused("tokens.txt")),
)

OPTION_SIZE = (
    Defect("text", to("much"), refused("'much'", under=("max-memory",))),
    Defect("negative", to("-1"), refused("-1", under=("max-memory",))),
    Defect("too small for the graph", to("10"), refused("10 bytes", under=("memory",))),
    Defect("a unit that is none", to("8parsec"), refused("'8parsec'", under=("max-memory",))),
)

LATTICE_REFERENCES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("abc"), refused("'abc'")),
    Defect("one too few", lambda x: x[:2], refused("2 references")),
    Defect("one too many", lambda x: [*x, [1]], refused("4 references")),
    Defect("none", to([]), refused("0 references")),
    Defect("a fraction", put((1, 0), 1.5), refused("[1]")),
    Defect("epsilon", put((1, 0), 0), refused("[1][0] is 0")),
    Defect("a negative token", put((1, 0), -1), refused("[1][0] is -1")),
    Defect("text inside", put(1, ["a"]), refused("[1]")),
    Defect("a number for a sequence", put(1, 3), refused("[1]")),
    Defect("an empty reference", put(1, []), Finite()),
    Defect("a token the lattice never writes", put((1, 0), 999), Finite()),
)

GRAPH_DEFECTS = {
    "states": STATES,
    "label_column": LABEL_COLUMN,
    "score_column": SCORE_COLUMN,
    "start": START,
    "arc_states": STATES,
    "arc_tokens": LABEL_COLUMN,
    "arc_scores": SCORE_COLUMN,
    "sequences": SEQUENCES,
    "cost": COST,
    "names": NAMES,
    "mark": (
        Defect("None", to(None), refused("None")),
        Defect("a number", to(1), refused("1")),
        Defect("nothing", to(""), refused("''")),
    ),
    "plain_blank": (
        Defect("negative", to(-1), refused("-1")),
        Defect("V", to(5), refused("5")),
        Defect("None", to(None), refused("None")),
        Defect("text", to("0"), refused("'0'")),
    ),
    "arpa": ARPA,
    "tokens_file": TOKENS_FILE,
    "openfst_text": OPENFST_TEXT,
    "k2_file": K2_FILE,
    "option_name": OPTION_NAME,
    "option_count": OPTION_COUNT,
    "option_output": OPTION_OUTPUT,
    "option_tokens": OPTION_TOKENS,
    "option_size": OPTION_SIZE,
    "lattice_references": LATTICE_REFERENCES,
}
