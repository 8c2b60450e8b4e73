"""The table of defects, by kind of argument. Data: a line is one way in which a call goes wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from case import Defect, Empty, Finite, Impossible, Unchanged
from changes import put, refused, to
from defects_of_graphs import GRAPH_DEFECTS

import topologies
from wfst_losses import LanguageModel


def _none_at_all(good: Any) -> Any:
    return good[:0] if isinstance(good, (torch.Tensor, list)) else good


_EMPTY_BATCH = tuple(
    (name, _none_at_all)
    for name in ("targets", "input_lengths", "target_lengths", "windows", "labels", "keywords", "end_frames", "parts")
)

_TYPES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("many"), refused("'many'", "str")),
    Defect("a dictionary", to({}), refused("{}", "dict")),
)

SHAPES = (
    Defect("None", to(None), refused("None")),
    Defect("a list", lambda x: x.tolist(), refused("list")),
    Defect("numpy", lambda x: x.numpy(), refused("ndarray")),
    Defect("text", to("scores"), refused("str")),
    Defect("a number", to(0.5), refused("float")),
    Defect("two dimensions", lambda x: x[0], refused("(6, 5)")),
    Defect("four dimensions", lambda x: x[None], refused("(1, 3, 6, 5)")),
    Defect("integers", lambda x: x.long(), refused("int64")),
    Defect("truth values", lambda x: x > 0, refused("bool")),
    Defect("complex numbers", lambda x: x + 0j, refused("complex")),
    Defect("no labels", lambda x: x[:, :, :0], refused("(3, 6, 0)")),
    Defect("float64", lambda x: x.double(), Unchanged(1e-4)),
    Defect("half", lambda x: x.half(), Unchanged(3e-2)),
    Defect("bfloat16", lambda x: x.bfloat16(), Unchanged(2e-1)),
    Defect("not contiguous", lambda x: x.transpose(0, 2).contiguous().transpose(0, 2), Unchanged()),
    Defect("NaN beyond the length", put((1, 5), float("nan")), Unchanged()),
    Defect("+inf beyond the length", put((2, 4), float("inf")), Unchanged()),
    Defect("more frames than any length", lambda x: torch.cat([x, x[:, :2]], dim=1), Unchanged()),
    Defect("no utterances", lambda x: x[:0], Empty(), _EMPTY_BATCH),
    Defect(
        "an utterance too few",
        lambda x: x[:2],
        refused("3", under=("targets", "input_lengths", "keywords", "labels", "windows", "parts", "end_frames")),
    ),
    Defect(
        "an utterance too many",
        lambda x: torch.cat([x, x[:1]]),
        refused("3", under=("targets", "input_lengths", "keywords", "labels", "windows", "parts", "end_frames")),
    ),
    Defect("a frame too few", lambda x: x[:, :5], refused("[0] is 6", "6", under=("input_lengths",))),
)

NONFINITE = (
    Defect("NaN", put((1, 2, 3), float("nan")), refused("[1, 2, 3] is nan")),
    Defect("+inf", put((1, 2, 3), float("inf")), refused("[1, 2, 3] is inf")),
    Defect("NaN in the first frame", put((0, 0, 0), float("nan")), refused("[0, 0, 0] is nan")),
    Defect("NaN in the last frame", put((2, 3, 4), float("nan")), refused("[2, 3, 4] is nan")),
    Defect("a frame of NaN", put((1, 2), float("nan")), refused("[1, 2")),
)

NORMALISED = (
    Defect("probabilities", lambda x: x.exp(), refused("from", "probabilities"), is_ours=True),
    Defect("logits", lambda x: x + 2.0, refused("logits", "[0, 0]"), is_ours=True),
    Defect("an unnormalised row", put((1, 2), 0.0), refused("[1, 2]"), is_ours=True),
    Defect("a row of -inf", put((1, 2), -float("inf")), refused("[1, 2]"), is_ours=True),
)

LENGTHS = (
    *_TYPES,
    Defect("negative", put(1, -1), refused("[1] is -1")),
    Defect("beyond the frames", put(1, 7), refused("[1] is 7")),
    Defect("far beyond", put(1, 2**40), refused(f"[1] is {2**40}")),
    Defect("fractions", to([5.5, 5.0, 4.0]), refused("5.5")),
    Defect("a float tensor", to(torch.tensor([6.0, 5.0, 4.0])), refused("float32")),
    Defect("truth values", to([True, True, False]), refused("True")),
    Defect("NaN", to([float("nan"), 5, 4]), refused("nan")),
    Defect("None inside", to([6, None, 4]), refused("object", "None")),
    Defect("text inside", to(["6", "5", "4"]), refused("<U", "'6'")),
    Defect("one too few", lambda x: x[:2], refused("(2,)")),
    Defect("one too many", lambda x: [*x, 1], refused("(4,)")),
    Defect("a single number", to(6), refused("()")),
    Defect("two dimensions", to([[6], [5], [4]]), refused("(3, 1)")),
    Defect("ragged", to([[6], [5, 4], [4]]), refused("[5, 4]")),
    Defect("an int32 tensor", lambda x: torch.tensor(x, dtype=torch.int32), Unchanged()),
    Defect("a uint8 tensor", lambda x: torch.tensor(x, dtype=torch.uint8), Unchanged()),
    Defect("numpy", np.asarray, Unchanged()),
    Defect("a tuple", tuple, Unchanged()),
)

TARGETS = (
    *_TYPES,
    Defect("a number", to(3), refused("int", "3")),
    Defect("a label that is V", put((1, 0), 5), refused("[1][0] is 5")),
    Defect("a label beyond V", put((1, 0), 105), refused("[1][0] is 105")),
    Defect("a label of 65,536", put((1, 0), 65536), refused("[1][0] is 65536")),
    Defect("a label of 2^40", put((1, 0), 2**40), refused(f"[1][0] is {2**40}")),
    Defect("a negative label", put((1, 1), -1), refused("[1][1] is -1")),
    Defect("blank", put((1, 0), 0), refused("[1][0] is 0")),
    Defect("fractions", put((1, 0), 1.5), refused("targets[1]")),
    Defect("whole floats", put(1, [3.0, 3.0]), refused("targets[1]")),
    Defect("truth values", put(1, [True, True]), refused("targets[1]")),
    Defect("None inside", put((1, 0), None), refused("targets[1]")),
    Defect("None for a sequence", put(1, None), refused("targets[1]")),
    Defect("text inside", put(1, ["a", "b"]), refused("targets[1]")),
    Defect("text for a sequence", put(1, "ab"), refused("targets[1]")),
    Defect("a number for a sequence", put(1, 3), refused("targets[1]")),
    Defect("nested too deep", put(1, [[3], [3]]), refused("targets[1]")),
    Defect("one too few", lambda x: x[:2], refused("2 sequences")),
    Defect("one too many", lambda x: [*x, [1]], refused("4 sequences")),
    Defect("none", to([]), refused("0 sequences")),
    Defect("concatenated", to(torch.tensor([1, 2, 3, 3, 4])), refused("(5,)")),
    Defect("a set", to({1, 2}), refused("{1, 2}")),
    Defect("tensors in a list", lambda x: [torch.tensor(row) for row in x], Unchanged()),
    Defect("tuples", lambda x: tuple(tuple(row) for row in x), Unchanged()),
    Defect("numpy rows", lambda x: [np.array(row) for row in x], Unchanged()),
    Defect("an empty target", put(1, []), Finite()),
    Defect("numpy strings", put(1, np.array(["a"])), refused("targets[1]")),
)

IMPOSSIBLE_TARGETS = (
    Defect("longer than the frames", put(1, [3, 4] * 20), Impossible(1)),
    Defect("one token too long for its repeats", put(1, [3, 3, 3, 3]), Impossible(1)),
)

PADDED = (
    Defect("no lengths", lambda x: x, refused("None", under=("target_lengths",)), (("target_lengths", to(None)),)),
    Defect("floats", lambda x: x.float(), refused("float32")),
    Defect("truth values", lambda x: x > 0, refused("bool")),
    Defect("three dimensions", lambda x: x[None], refused("(1, 3, 2)")),
    Defect("a row too few", lambda x: x[:2], refused("2 rows")),
    Defect("a row too many", lambda x: torch.cat([x, x[:1]]), refused("4 rows")),
    Defect("a label that is V", put((1, 0), 5), refused("[1][0] is 5")),
    Defect("a negative label", put((1, 1), -1), refused("[1][1] is -1")),
    Defect("blank", put((1, 0), 0), refused("[1][0] is 0")),
    Defect("int32", lambda x: x.int(), Unchanged()),
    Defect("int16", lambda x: x.short(), Unchanged()),
    Defect("anything in the padding", put((2, 1), 99), Unchanged()),
    Defect("no columns", lambda x: x[:, :0], refused("[0] is 2", under=("target_lengths",))),
)

TARGET_LENGTHS = (
    Defect("text", to("many"), refused("<U", "'many'", "()")),
    Defect("negative", put(1, -1), refused("[1] is -1")),
    Defect("beyond the padding", put(1, 3), refused("[1] is 3")),
    Defect("fractions", to([2.0, 2.0, 1.0]), refused("float")),
    Defect("truth values", to([True, True, True]), refused("bool")),
    Defect("one too few", lambda x: x[:2], refused("(2,)")),
    Defect("one too many", lambda x: [*x, 1], refused("(4,)")),
    Defect("a single number", to(2), refused("()")),
    Defect("zero", put(1, 0), Finite()),
)

CHOICE = (
    Defect("None", to(None), refused("None")),
    Defect("an unknown name", to("other"), refused("'other'")),
    Defect("an empty name", to(""), refused("''")),
    Defect("upper case", lambda x: str(x).upper(), refused("'")),
    Defect("a number", to(1), refused("1")),
    Defect("bytes", to(b"none"), refused("b'none'")),
    Defect("a list", to([]), refused("[]", "list")),
)

FLAG = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("False"), refused("'False'")),
    Defect("a number", to(2), refused("2")),
    Defect("a list", to([]), refused("[]")),
)

NUMBER = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("1"), refused("'1'")),
    Defect("truth value", to(True), refused("True")),
    Defect("NaN", to(float("nan")), refused("nan")),
    Defect("inf", to(float("inf")), refused("inf")),
    Defect("-inf", to(-float("inf")), refused("-inf")),
    Defect("a list", to([1.0]), refused("[1.0]")),
    Defect("complex", to(1j), refused("1j")),
)

POSITIVE = (
    *NUMBER,
    Defect("zero", to(0.0), refused("0")),
    Defect("negative", to(-0.5), refused("-0.5")),
)

NOT_NEGATIVE = (*NUMBER, Defect("negative", to(-0.5), refused("-0.5")))

INTEGER = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("1"), refused("'1'")),
    Defect("truth value", to(True), refused("True")),
    Defect("a fraction", to(1.5), refused("1.5")),
    Defect("a whole float", to(3.0), refused("3.0")),
    Defect("NaN", to(float("nan")), refused("nan")),
    Defect("a list", to([1]), refused("[1]")),
)

COUNT = (
    *INTEGER,
    Defect("zero", to(0), refused("0")),
    Defect("negative", to(-3), refused("-3")),
)

BLANK = (
    *INTEGER,
    Defect("negative", to(-1), refused("-1")),
    Defect("V", to(5), refused("5")),
    Defect("a label of a target", to(3), refused("[1][0] is 3", under=("targets", "blank"))),
)

ODD = (
    *COUNT,
    Defect("even", to(4), refused("4")),
)

OBJECT = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("best"), refused("'best'")),
    Defect("a number", to(4), refused("4")),
    Defect("a class", to(int), refused("int")),
)

GENERATOR = (
    Defect("a seed", to(7), refused("7", "int")),
    Defect("text", to("seed"), refused("'seed'", "str")),
    Defect("numpy's", to(np.random.default_rng(0)), refused("Generator")),
)

TOPOLOGY = (
    *CHOICE,
    Defect("another number of labels", lambda _: topologies.build("correct", 7), refused("7 labels")),
    Defect("a class", to(topologies.TOPOLOGIES["correct"]), refused("class")),
    Defect("a value", lambda _: topologies.build("correct", 5), Unchanged()),
)

LANGUAGE_MODEL = (
    Defect("text", to("model.arpa"), refused("'model.arpa'")),
    Defect("a number", to(2), refused("2")),
    Defect("a class", to(LanguageModel), refused("class")),
    Defect("another number of labels", lambda _: LanguageModel.uniform(7), refused("7 labels")),
)

SHAPED_INTEGERS = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("many"), refused("'many'")),
    Defect("floats", lambda x: torch.as_tensor(x).float(), refused("float32")),
    Defect("truth values", lambda x: torch.as_tensor(x) > 0, refused("bool")),
    Defect("an utterance too few", lambda x: x[:2], refused("(2,")),
    Defect("an utterance too many", lambda x: torch.cat([x, x[:1]]), refused("(4,")),
    Defect("numpy", lambda x: x.numpy(), Unchanged()),
    Defect("a list", lambda x: x.tolist(), Unchanged()),
    Defect("int32", lambda x: x.int(), Unchanged()),
    Defect("ragged", to([[1], [2, 3], [4]]), refused("[[1], [2, 3], [4]]", "(")),
)

WINDOWS = (
    *SHAPED_INTEGERS,
    Defect("two dimensions", lambda x: x[0], refused("(2, 2)")),
    Defect("three numbers", lambda x: torch.cat([x, x[..., :1]], dim=2), refused("(3, 2, 3)")),
    Defect("start after end", put((1, 0), torch.tensor([4, 1])), refused("[1][0]", "[1, 0]")),
    Defect("negative length in the second", put((0, 1), torch.tensor([5, 2])), refused("[0][1]", "[0, 1]")),
    Defect("outside the utterance", put((1, 0), torch.tensor([9, 12])), Impossible(1)),
    Defect("before the utterance", put((1, 0), torch.tensor([-5, -1])), Impossible(1)),
    Defect("empty", put((1, 0), torch.tensor([2, 2])), Impossible(1)),
    Defect("anything where there is no label", put((1, 1), torch.tensor([3, 9])), Unchanged()),
)

COLUMNS = (
    Defect("a label that is V", put((1, 0), 5), refused("[1][0] is 5")),
    Defect("a label far beyond", put((1, 0), 2**40), refused(f"[1][0] is {2**40}")),
    Defect("below none", put((1, 0), -2), refused("[1][0] is -2")),
)

KEYWORDS = (
    *SHAPED_INTEGERS,
    Defect("a keyword that is K", put(1, 5), refused("[1] is 5")),
    Defect("a keyword far beyond", put(1, 2**40), refused(f"[1] is {2**40}")),
    Defect("below none", put(1, -2), refused("[1] is -2")),
)

END_FRAMES = (
    *SHAPED_INTEGERS,
    Defect("beyond the utterance", put(1, 50), Impossible(1)),
    Defect("far beyond", put(1, 2**40), Impossible(1)),
    Defect("far before", put(1, -(2**40)), Impossible(1)),
    Defect("anything where there is no keyword", put(2, 77), Unchanged()),
)

PARTS = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("abc"), refused("'abc'")),
    Defect("fractions", put((0, 0), 1.5), refused("1.5", "[0]")),
    Defect("a part that is V", put((0, 1), 5), refused("[0][1] is 5")),
    Defect("a negative part", put((0, 1), -3), refused("[0][1] is -3")),
    Defect("one too few", lambda x: x[:2], refused("(2,")),
    Defect("one too many", lambda x: [*x, [1]], refused("(4,")),
)

DEFECTS: dict[str, tuple[Defect, ...]] = {
    "log_probs": (*SHAPES, *NONFINITE, *NORMALISED),
    "logits": (*SHAPES, *NONFINITE),
    "targets": (*TARGETS, *IMPOSSIBLE_TARGETS),
    "references": (*TARGETS, *(dataclasses.replace(defect, expected=Finite()) for defect in IMPOSSIBLE_TARGETS)),
    "padded": PADDED,
    "lengths": LENGTHS,
    "target_lengths": TARGET_LENGTHS,
    "choice": CHOICE,
    "flag": FLAG,
    "positive": POSITIVE,
    "not_negative": NOT_NEGATIVE,
    "number": NUMBER,
    "integer": INTEGER,
    "count": COUNT,
    "odd": ODD,
    "blank": BLANK,
    "object": OBJECT,
    "generator": GENERATOR,
    "topology": TOPOLOGY,
    "language_model": LANGUAGE_MODEL,
    "required_language_model": (Defect("None", to(None), refused("None")), *LANGUAGE_MODEL),
    "optional_object": tuple(defect for defect in OBJECT if defect.name != "None"),
    "windows": WINDOWS,
    "window_labels": (*SHAPED_INTEGERS, *COLUMNS),
    "keywords": KEYWORDS,
    "end_frames": END_FRAMES,
    "parts": PARTS,
    "outside": (*(defect for defect in CHOICE if defect.name != "a number"), Defect("V", to(5), refused("5"))),
    "lengths_from_one": (*LENGTHS, Defect("zero", put(1, 0), refused("[1] is 0"))),
    **GRAPH_DEFECTS,
}
