"""The table of defects, by kind of argument. Data: a line is one way in which a call goes wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from case import Defect, Empty, Finite, Impossible, Refused, Unchanged
from changes import put, refused, to
from defects_of_graphs import GRAPH_DEFECTS
from defects_of_recipes import RECIPE_DEFECTS

import topologies
from wfst_losses import LanguageModel


def _none_at_all(good: Any) -> Any:
    return good[:0] if isinstance(good, (torch.Tensor, list)) else good


_EMPTY_BATCH = tuple(
    (name, _none_at_all)
    for name in (
        "targets",
        "input_lengths",
        "target_lengths",
        "windows",
        "labels",
        "keywords",
        "end_frames",
        "parts",
        "encoder_out_lens",
    )
)

_TYPES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("many"), refused("'many'", "str")),
    Defect("a dictionary", to({}), refused("{}", "dict")),
)


def _sparse(good: Any) -> torch.Tensor:
    return torch.as_tensor(good).to_sparse()


def _meta(good: Any) -> torch.Tensor:
    return torch.as_tensor(good).to("meta")


_TENSORS = (
    Defect("a sparse tensor", _sparse, refused("sparse")),
    Defect("a meta tensor", _meta, refused("meta")),
)

SHAPES = (
    *_TENSORS,
    Defect("quantized", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), refused("quint8")),
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
    *_TENSORS,
    Defect("beyond 64 bits", put(1, 2**70), refused(str(2**70), "object")),
    Defect("a scalar tensor", to(torch.tensor(6)), refused("()")),
    Defect("a complex tensor", to(torch.tensor([6j, 5, 4])), refused("complex64")),
    Defect("an object array", to(np.array([6, None, 4], dtype=object)), refused("object")),
    Defect("a set", to({6, 5, 4}), refused("{4, 5, 6}", "()")),
    Defect("a uint64 array", lambda x: np.array(x, dtype=np.uint64), Unchanged()),
    Defect("2^64 - 1", lambda x: np.array([x[0], 2**64 - 1, x[2]], dtype=np.uint64), refused(f"[1] is {2**64 - 1}")),
    Defect("not contiguous", lambda x: torch.tensor([[n, 0] for n in x])[:, 0], Unchanged()),
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
    Defect("a label of 2^31", put((1, 0), 2**31), refused(f"[1][0] is {2**31}")),
    Defect("a label beyond 64 bits", put((1, 0), 2**70), refused("targets[1]")),
    Defect("a sparse row", put(1, torch.tensor([3, 3]).to_sparse()), refused("targets[1]")),
    Defect("a meta row", put(1, torch.tensor([3, 3], device="meta")), refused("targets[1]")),
    Defect("a scalar tensor for a sequence", put(1, torch.tensor(3)), refused("targets[1]")),
    Defect("NaN inside", put((1, 0), float("nan")), refused("targets[1]")),
)

IMPOSSIBLE_TARGETS = (
    Defect("longer than the frames", put(1, [3, 4] * 20), Impossible(1)),
    Defect("one token too long for its repeats", put(1, [3, 3, 3, 3]), Impossible(1)),
)

PADDED = (
    *_TENSORS,
    Defect("a row spread over all", lambda x: x[:1].expand(3, -1), Finite()),
    Defect("not contiguous", lambda x: x.t().contiguous().t(), Unchanged()),
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
    Defect("an array", to(np.array(["mean", "sum"])), refused("mean")),
    Defect("a tensor", to(torch.zeros(2)), refused("tensor")),
    Defect("truth value", to(True), refused("True")),
    Defect("very long", to("x" * 5000), refused("xxx")),
)

FLAG = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("False"), refused("'False'")),
    Defect("a number", to(2), refused("2")),
    Defect("one", to(1), refused("1")),
    Defect("a list", to([]), refused("[]")),
    Defect("a tensor", to(torch.ones(2)), refused("tensor")),
    Defect("an array", to(np.array([True, False])), refused("True")),
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
    Defect("beyond float32", to(1e300), refused("1e+300")),
    Defect("an integer beyond any float", to(10**400), refused("1000000")),
    Defect("an array", to(np.array([0.5])), refused("0.5")),
    Defect("a tensor", to(torch.tensor(0.5)), refused("0.5")),
)

POSITIVE = (
    *NUMBER,
    Defect("zero", to(0.0), refused("0")),
    Defect("negative", to(-0.5), refused("-0.5")),
    Defect("next to nothing", to(1e-320), refused("1e-320")),
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
    Defect("2^31", to(2**31), refused(str(2**31))),
    Defect("beyond 64 bits", to(10**30), refused(str(10**30))),
    Defect("a tensor", to(torch.tensor(3)), refused("3")),
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

NOT_BELOW_ZERO = (*INTEGER, Defect("negative", to(-3), refused("-3")))

COUNT_OR_NONE = tuple(defect for defect in NOT_BELOW_ZERO if defect.name != "None")

PROBABILITY = (*NOT_NEGATIVE, Defect("above 1", to(1.5), refused("1.5")))

FUNCTION = (
    Defect("text", to("print"), refused("'print'")),
    Defect("a number", to(3), refused("3")),
)

ARC_SCORES = (
    Defect("text", to("none"), refused("'none'")),
    Defect("a list", lambda x: x.detach().tolist(), refused("[")),
    Defect("numpy", lambda x: x.detach().numpy(), refused("array")),
    Defect("one too few", lambda x: x[:-1], refused("expected a floating tensor of shape")),
    Defect("one too many", lambda x: torch.cat([x, x[:1]]), refused("expected a floating tensor of shape")),
    Defect("two dimensions", lambda x: x[None], refused("expected a floating tensor of shape")),
    Defect("integers", lambda x: x.long(), refused("expected a floating tensor of shape")),
    Defect("NaN", lambda x: put(1, float("nan"))(x.detach()), refused("[1] is nan")),
    Defect("+inf", lambda x: put(1, float("inf"))(x.detach()), refused("[1] is inf")),
    Defect("a meta tensor", _meta, refused("meta")),
    Defect("float32", lambda x: x.float(), Unchanged()),
    Defect("that require no gradient", lambda x: x.detach(), Unchanged()),
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
    "count_or_none": COUNT_OR_NONE,
    "probability": PROBABILITY,
    "function": FUNCTION,
    "arc_scores_tensor": ARC_SCORES,
    "optional_choice": tuple(defect for defect in CHOICE if defect.name != "None"),
    "diagnostics": tuple(defect for defect in CHOICE if defect.name != "truth value"),
    "max_memory": (
        Defect("text", to("8GiB"), refused("'8GiB'")),
        Defect("a fraction", to(1.5), refused("1.5")),
        Defect("zero", to(0), refused("0")),
        Defect("negative", to(-1), refused("-1")),
        Defect("truth value", to(True), refused("True")),
        Defect("too little", to(10), refused("limit is 10 bytes", under=("memory",))),
        Defect("enough", to(2**30), Unchanged()),
    ),
    "beam": tuple(defect for defect in NOT_NEGATIVE if defect.name != "inf"),
    "optional_object": tuple(defect for defect in OBJECT if defect.name != "None"),
    "windows": WINDOWS,
    "window_labels": (*SHAPED_INTEGERS, *COLUMNS),
    "keywords": KEYWORDS,
    "end_frames": END_FRAMES,
    "parts": PARTS,
    "outside": (*(defect for defect in CHOICE if defect.name != "a number"), Defect("V", to(5), refused("5"))),
    "lengths_from_one": (*LENGTHS, Defect("zero", put(1, 0), refused("[1] is 0"))),
    "optional_lengths": tuple(defect for defect in LENGTHS if defect.name != "None"),
    "optional_positive": tuple(defect for defect in POSITIVE if defect.name != "None"),
    "shape_of_scores": tuple(defect for defect in SHAPES if isinstance(defect.expected, Refused) and not defect.others),
    "scores_of_segments": tuple(
        defect
        for defect in (*SHAPES, *NONFINITE)
        if not defect.others and not any(words in defect.name for words in ("utterance", "a frame too few"))
    ),
    "step": NOT_BELOW_ZERO,
    **GRAPH_DEFECTS,
    **RECIPE_DEFECTS,
}
