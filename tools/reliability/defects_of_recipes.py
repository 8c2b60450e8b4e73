"""The table of defects of recipes' doors, lexicons, manifests and commands that take files."""

from __future__ import annotations

import gzip
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from case import Defect, Noticed, Unchanged
from changes import put, refused, to
from defects_of_graphs import ARPA, OPENFST_TEXT, OPTION_SIZE, cut, flipped, swap

PATH = (
    Defect("None", to(None), refused("None")),
    Defect("a number", to(0), refused("0")),
    Defect("bytes", to(b"graph"), refused("b'graph'")),
    Defect("nothing", to(""), refused("''")),
    Defect("a zero byte", to("graph\0.txt"), refused("\\x00")),
    Defect("a list", to(["graph"]), refused("['graph']")),
)

ANY_NAMES = (
    Defect("None", to(None), refused("None")),
    Defect("numbers", to([1, 2, 3]), refused("[0] is 1", "[1, 2, 3]")),
    Defect("one that is none", lambda x: [*x[:1], None, *x[2:]], refused("[1] is None", "None")),
    Defect("nothing", to([]), refused("[]")),
    Defect("a dictionary", to({}), refused("{}")),
)

ENTRIES = (
    Defect("None", to(None), refused("None")),
    Defect("nothing", to(()), refused("()")),
    Defect("text", to("ab"), refused("'ab'")),
    Defect("an unknown word", to(((7, (1, 2), 0),)), refused("[0][0] is 7")),
    Defect("<eps>", to(((0, (1, 2), 0),)), refused("[0][0] is 0")),
    Defect("an unknown label", to(((1, (1, 9), 0),)), refused("[0][1][1] is 9")),
    Defect("blank", to(((1, (0, 1), 0),)), refused("[0][1][0] is 0")),
    Defect("no label", to(((1, (), 0),)), refused("[0] is (1, (), 0)")),
    Defect("a negative mark", to(((1, (1, 2), -1),)), refused("[0][2] is -1")),
    Defect("two columns", to(((1, (1, 2)),)), refused("[0] is (1, (1, 2))")),
    Defect("a fraction", to(((1, (1.5, 2), 0),)), refused("[0][1][0] is 1.5")),
    Defect("a beginning of another", to(((1, (1, 2), 0), (1, (1,), 0))), refused("[0] is (1, (1, 2)")),
    Defect("a pronunciation twice", to(((1, (1, 2), 0), (1, (1, 2), 0))), refused("[1] is (1, (1, 2)")),
    Defect("a mark beyond 31 bits", to(((1, (1, 2), 2**31),)), refused("[0][2] is 2147483648")),
)

NAME = (
    Defect("another's", to("z"), refused("'z'")),
    Defect("a number", to(1), refused("1")),
    Defect("blank", to("<blk>"), refused("'<blk>'")),
    Defect("nothing", to(""), refused("''")),
    Defect("an array", to(np.array(["a", "b"])), refused("array(['a'")),
)

_FILE = ("file", "line")

LEXICON_FILE = (
    Defect("nothing", to(b""), refused("no words", "empty", under=_FILE)),
    Defect("no file", to("no file"), refused("No such", "does not exist", under=("none",))),
    Defect("a folder", to("a folder"), refused("directory", under=_FILE)),
    Defect("an unknown token", swap("ab a b", "ab a z"), refused("'z'", under=_FILE)),
    Defect("no pronunciation", swap("a a", "a"), refused("'a'", "line 2", under=_FILE)),
    Defect("a symbol of 5,000 digits", swap("ab a b", "ab a b #" + "9" * 5000), refused("line 1", under=_FILE)),
    Defect("blank inside", swap("ab a b", "ab <blk> b"), refused("'<blk>'", "blank", under=_FILE)),
    Defect("binary", to(bytes(range(128, 256))), refused("byte", "line 1", "UTF-8", under=_FILE)),
)

WORDS_FILE = (
    Defect("nothing", to(b""), refused("empty", under=_FILE)),
    Defect("no file", to("no file"), refused("does not exist", under=_FILE)),
    Defect("an id left out", swap("b 3", "b 4"), refused("'4'", under=_FILE)),
    Defect("no <eps>", swap("<eps> 0", "eps 0"), refused("'eps'", under=_FILE)),
    Defect("a word left out", swap("b 3\n", ""), refused("'b'", under=_FILE)),
)

MANIFEST = (
    Defect("no file", to("no file"), refused("does not exist", under=("MANIFEST",))),
    Defect("a folder", to("a folder"), refused("directory", under=("MANIFEST",))),
    Defect("prose", to(b"This is no manifest.\n"), refused("line 1", under=_FILE)),
    Defect("a number", to(b"7\n"), refused("line 1", under=_FILE)),
    Defect("a list", to(b"[1, 2]\n"), refused("line 1", under=_FILE)),
    Defect("no duration", swap('"duration": 1.0, "channel"', '"channel"'), refused("line 1", under=_FILE)),
    Defect("a duration of text", swap('"duration": 1.0, "channel"', '"duration": "x", "channel"'), refused("line 1")),
    Defect("NaN", swap('"duration": 1.0, "text"', '"duration": NaN, "text"'), refused("line 1", under=_FILE)),
    Defect("infinity", swap('"duration": 1.0, "channel"', '"duration": Infinity, "channel"'), refused("line 1")),
    *(
        Defect(
            f"a duration of {value}",
            swap('"duration": 1.0, "channel"', f'"duration": {value}, "channel"'),
            refused("line 1"),
        )
        for value in ("NaN", '"1"', "true", "-1", "1e30")
    ),
    Defect(
        "a negative start",
        swap('"start": 0.0, "duration": 1.0, "text"', '"start": -5, "duration": 1.0, "text"'),
        refused("line 1"),
    ),
    Defect("an id that is a list", swap('"id": "c0"', '"id": ["c0"]'), refused("line 1")),
    Defect("nested too deep", to(b"[" * 100_000), refused("line 1")),
    Defect("a text that is none", swap('"text": "ab b"', '"text": 7'), refused("line 1", under=_FILE)),
    Defect("cut in the middle", cut(0.5), refused("line 2", under=_FILE)),
    Defect("binary", to(bytes(range(128, 256))), refused("line 1", under=_FILE)),
)

PACKED = (
    Defect("cut in the middle", cut(0.5), refused("damaged", under=_FILE)),
    *(Defect(f"a bit flipped at {part:.0%}", flipped(part), Noticed((":",), _FILE)) for part in (0.3, 0.5, 0.7, 0.95)),
    Defect("prose, packed", to(gzip.compress(b"prose\n", mtime=0)), refused("line 1", under=_FILE)),
)


def _option(name: str) -> tuple[str, ...]:
    return (name, name.replace("_", "-"))


OPTION_NUMBER = (
    Defect("zero", to("0"), refused("0")),
    Defect("negative", to("-1"), refused("-1")),
    Defect("text", to("many"), refused("many")),
    Defect("a fraction", to("1.5"), refused("1.5")),
)

_FRAMES_NAMES = ("lost-frames", "max-listed")

OPTION_FRAMES = (
    Defect("negative", to("-1"), refused("-1", under=_FRAMES_NAMES)),
    Defect("text", to("many"), refused("many", under=_FRAMES_NAMES)),
)

OPTION_SECONDS = tuple(
    Defect(f"of {value}", to(value), refused(value, under=("frame-shift",)))
    for value in ("0", "-1", "nan", "inf", "text", "1e-300")
)

OPTION_PROBABILITY = tuple(
    Defect(f"of {value}", to(value), refused(value, under=("silence-probability",)))
    for value in ("0", "1", "-1", "2", "text")
)

NO_MODEL = (
    Defect("no file", to("no file"), refused("does not exist", under=("bpe-model",))),
    Defect("prose", to(b"no model"), refused("bpe_model", "bpe-model", under=_FILE)),
    Defect("nothing", to(b""), refused("bpe_model", "bpe-model", under=_FILE)),
)

SEGMENTS = (
    Defect("None", to(None), refused("()")),
    Defect("text", to("many"), refused("()")),
    Defect("ragged", to([[0, 0, 6], [1, 0]]), refused("()")),
    Defect("two columns", lambda x: x[:, :2], refused("(3, 2)")),
    Defect("floats", lambda x: x.float(), refused("float32")),
    Defect("a sequence that is not there", put((1, 0), 7), refused("[1] is [7")),
    Defect("a negative sequence", put((1, 0), -1), refused("[1] is [-1")),
    Defect("a negative start", put((1, 1), -1), refused("[1] is [1, -1")),
    Defect("negative frames", put((1, 2), -1), refused("[1] is [1, 0, -1")),
    Defect("an end beyond the frames", put((1, 2), 7), refused("[1] is [1, 0, 7")),
    Defect("one too few", lambda x: x[:2], refused("3 entries", "3", under=("token_ids", "targets"))),
    Defect("a meta tensor", lambda x: x.to("meta"), refused("meta")),
    Defect("a sparse tensor", lambda x: x.to_sparse(), refused("sparse")),
    Defect("int64", lambda x: x.long(), Unchanged()),
    Defect("numpy", lambda x: x.numpy(), Unchanged()),
)

TOKEN_IDS = (
    Defect("None", to(None), refused("None", under=("texts",))),
    Defect("text", to("abc"), refused("abc", "[0]")),
    Defect("one too few", lambda x: x[:2], refused("2 entries")),
    Defect("one too many", lambda x: [*x, [1]], refused("4 entries")),
    Defect("a label that is V", put((1, 0), 5), refused("[1][0] is 5")),
    Defect("a negative label", put((1, 0), -1), refused("[1][0] is -1")),
    Defect("blank", put((1, 0), 0), refused("[1][0] is 0")),
    Defect("a fraction", put((1, 0), 1.5), refused("[1]")),
    Defect("tuples", lambda x: [tuple(row) for row in x], Unchanged()),
)

CONCATENATED = (
    Defect("None", to(None), refused("None")),
    Defect("a list", lambda x: x.tolist(), refused("[1, 2")),
    Defect("floats", lambda x: x.float(), refused("tensor")),
    Defect("truth values", lambda x: x > 0, refused("tensor")),
    Defect("two dimensions", lambda x: x[None], refused("tensor")),
    Defect("a label that is V", put(2, 5), refused("[1][0] is 5")),
    Defect("one too few", lambda x: x[:4], refused("5", "4")),
    Defect("one too many", lambda x: torch.cat([x, x[:1]]), refused("6")),
    Defect("int32", lambda x: x.int(), Unchanged()),
    Defect("a meta tensor", lambda x: x.to("meta"), refused("meta")),
)

LENGTHS_OF_CONCATENATED = (
    Defect("None", to(None), refused("None")),
    Defect("a number", to(5), refused("5")),
    Defect("negative", put(1, -1), refused("[1] is -1")),
    Defect("beyond the targets", put(1, 9), refused("[1] is 9")),
    Defect("another sum", put(1, 1), refused("4")),
    Defect("one too few", lambda x: x[:2], refused("4", "3", "(2,)")),
    Defect("fractions", put(1, 1.5), refused("1.5")),
)


def _second_cut(**changes: Any) -> Any:
    return lambda cuts: [cuts[0], SimpleNamespace(**{**vars(cuts[1]), **changes})]


def _aligned(alignment: Any) -> Any:
    supervision = SimpleNamespace(start=0.0, alignment=alignment, custom=None, text="go")
    return _second_cut(supervisions=[supervision])


CUTS = (
    *(
        Defect(f"a duration of {value}", _second_cut(duration=value), refused("cut b: duration", under=("cut b",)))
        for value in (float("nan"), None, -1.0, "1")
    ),
    Defect("an alignment that is a list", _aligned([1]), refused("[1]", under=("cut b",))),
    *(
        Defect(f"a word from {time}", _aligned({"word": [("go", time, 0.1)]}), refused("start is", under=("cut b",)))
        for time in (float("nan"), float("inf"), 1e300, "0.1", None)
    ),
    Defect("None", to(None), refused("None")),
    Defect("a number", to(7), refused("7")),
    Defect("dictionaries", to([{"id": "a"}]), refused("[0]")),
    Defect("None inside", put(1, None), refused("[1] is None")),
)

KEYWORD_NAMES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("go"), refused("'go'")),
    Defect("numbers", to([1, 2]), refused("1")),
    Defect("an empty one", to(["go", ""]), refused("''")),
    Defect("one twice", to(["go", "go"]), refused("'go' twice")),
    Defect("a negative column", to({"go": -1}), refused("-1")),
    Defect("a column that is a fraction", to({"go": 0.5}), refused("0.5")),
)


def _without(name: str) -> Any:
    def change(batch: Any) -> Any:
        return {"supervisions": {key: value for key, value in batch["supervisions"].items() if key != name}}

    return change


def _with(name: str, value: Any) -> Any:
    return lambda batch: {"supervisions": {**batch["supervisions"], name: value}}


BATCH = (
    Defect("None", to(None), refused("None")),
    Defect("a list", to([]), refused("[]")),
    Defect("no supervisions", to({}), refused("supervisions")),
    Defect("supervisions that are none", to({"supervisions": 3}), refused("supervisions")),
    *(Defect(f"no {name}", _without(name), refused(name)) for name in ("text", "start_frame", "num_frames")),
    Defect("one start too few", _with("start_frame", torch.zeros(2)), refused("start_frame")),
    Defect("fractions", _with("num_frames", torch.tensor([5.5, 5, 4])), refused("num_frames")),
    Defect("NaN", _with("num_frames", torch.tensor([float("nan"), 5, 4])), refused("num_frames")),
    Defect("text for numbers", _with("num_frames", ["6", "5", "4"]), refused("num_frames")),
    Defect(
        "a row that is not there",
        _with("sequence_idx", torch.tensor([0, 1, 9])),
        refused("[2] is 9"),
    ),
)

TEXTS_TO_IDS = (
    Defect("None", to(None), refused("None")),
    Defect("a list", to([[1], [2], [3]]), refused("[[1]")),
    Defect("one too few", to(lambda _: [[1], [2]]), refused("2")),
    Defect("text", to(lambda texts: texts), refused("'a'")),
    Defect("fractions", to(lambda _: [[1.5], [2], [3]]), refused("[1.5]")),
)

GRAPHS = (
    Defect("None", to(None), refused("None")),
    Defect("a number", to(3), refused("3")),
    Defect("one that is none", put(1, None), refused("[1] is None")),
)

ROWS = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("abc"), refused("'abc'")),
    Defect("a number", to(3), refused("3")),
    Defect("a negative label", put((1, 0), -1), refused("[1][0] is -1")),
    Defect("fractions", put((1, 0), 1.5), refused("[1]")),
    Defect("text inside", put(1, ["a"]), refused("[1]")),
    Defect("nested too deep", put(1, [[3], [3]]), refused("[1]")),
    Defect("beyond 32 bits", put((1, 0), 2**40), refused(f"[1][0] is {2**40}")),
)

TERMS = (
    Defect("None", to(None), refused("None")),
    Defect("a list", to([1.0]), refused("[1.0]")),
    Defect("one too few", to({"ctc": torch.ones(3)}), refused("'mwer'")),
    Defect("one too many", lambda x: x | {"other": torch.ones(3)}, refused("'other'")),
    Defect("a number", lambda x: x | {"mwer": 1.0}, refused("'mwer'")),
    Defect("another shape", lambda x: x | {"mwer": torch.ones(4)}, refused("(4,)")),
    Defect("sparse", lambda x: x | {"mwer": torch.ones(3).to_sparse()}, refused("'mwer'")),
    Defect("without values", lambda x: x | {"mwer": torch.ones(3, device="meta")}, refused("'mwer'")),
    Defect("integers", lambda x: x | {"mwer": torch.ones(3, dtype=torch.int64)}, refused("int64")),
    Defect("complex numbers", lambda x: x | {"mwer": torch.ones(3) + 1j}, refused("complex64")),
    Defect("two dimensions", lambda x: {name: torch.ones(3, 1) for name in x}, refused("(3, 1)")),
    Defect("a function that returns None", lambda x: x | {"mwer": lambda: None}, refused("'mwer'")),
)

PART_LENGTHS = (
    Defect("text", to("many"), refused("many")),
    Defect("negative", put(1, -1), refused("[1] is -1")),
    Defect("beyond the padding", put(1, 3), refused("[1] is 3")),
    Defect("fractions", to([2.0, 1.0, 0.0]), refused("2.0", "float")),
    Defect("one too few", lambda x: x[:2], refused("(2,)")),
)

DEVICE = (
    Defect("None", to(None), refused("None")),
    Defect("an unknown name", to("toaster"), refused("'toaster'")),
    Defect("a fraction", to(0.5), refused("0.5")),
)

RECIPE_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "path": PATH,
    "any_names": ANY_NAMES,
    "optional_names": tuple(defect for defect in ANY_NAMES if defect.name not in ("None", "one that is none")),
    "entries": ENTRIES,
    "name": NAME,
    "lexicon_file": LEXICON_FILE,
    "words_file": WORDS_FILE,
    "lm_file": tuple(defect for defect in ARPA if defect.name != "an order left out"),
    "graph_file": tuple(defect for defect in OPENFST_TEXT if defect.name not in ("nothing", "no file", "a folder")),
    "manifest_file": MANIFEST,
    "packed_file": PACKED,
    "no_model": NO_MODEL,
    "option_number": OPTION_NUMBER,
    "option_frames": OPTION_FRAMES,
    "option_seconds": OPTION_SECONDS,
    "option_probability": OPTION_PROBABILITY,
    "option_lossless": (
        Defect("unknown", to("other"), refused("'other'")),
        Defect("not of compact", to("shared"), refused("correct")),
    ),
    "option_new_file": (
        Defect("no such folder", to("{folder}/none/new"), refused("none")),
        Defect("a folder", to("{folder}"), refused("/")),
    ),
    "option_size_of_job": tuple(defect for defect in OPTION_SIZE if defect.name != "negative"),
    "no_such_option": (Defect("given", to("x"), refused("--nothing")),),
    "segments": SEGMENTS,
    "token_ids": TOKEN_IDS,
    "concatenated": CONCATENATED,
    "lengths_of_concatenated": LENGTHS_OF_CONCATENATED,
    "cuts": CUTS,
    "keyword_names": KEYWORD_NAMES,
    "batch": BATCH,
    "texts_to_ids": TEXTS_TO_IDS,
    "graphs": GRAPHS,
    "rows": ROWS,
    "terms": TERMS,
    "part_lengths": PART_LENGTHS,
    "device": DEVICE,
}
