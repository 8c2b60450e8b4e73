"""The table of defects of options: names, flags, numbers, objects."""

from __future__ import annotations

import numpy as np
import torch
from case import Defect, Unchanged
from changes import refused, to

import topologies
from wfst_losses import LanguageModel

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
    Defect("two numbers", to(torch.tensor([0.5, 1.0])), refused("0.5")),
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


def reading(label: int) -> topologies.AbstractTopology:
    """A topology of 5 labels whose graph reads another."""
    graph = topologies.Graph([0, 0], [0, 0], [0, label], [-1, 1], [0.0, 0.0], [0.0])
    return type("Reading", (topologies.TOPOLOGIES["minimal"],), {"graph": lambda _: graph})(5)


TOPOLOGY = (
    *CHOICE,
    Defect("another number of labels", lambda _: topologies.build("correct", 7), refused("7 labels")),
    Defect("a class", to(topologies.TOPOLOGIES["correct"]), refused("class")),
    Defect("a value", lambda _: topologies.build("correct", 5), Unchanged()),
    Defect("a graph that reads another label", to(reading(99)), refused("99")),
    Defect("a graph that reads 2^31 - 2", to(reading(2**31 - 2)), refused(2**31 - 2)),
)

LANGUAGE_MODEL = (
    Defect("text", to("model.arpa"), refused("'model.arpa'")),
    Defect("a number", to(2), refused("2")),
    Defect("a class", to(LanguageModel), refused("class")),
    Defect("another number of labels", lambda _: LanguageModel.uniform(7), refused("7 labels")),
)

OPTION_DEFECTS: dict[str, tuple[Defect, ...]] = {
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
    "outside": (*(defect for defect in CHOICE if defect.name != "a number"), Defect("V", to(5), refused("5"))),
    "optional_positive": tuple(defect for defect in POSITIVE if defect.name != "None"),
    "step": NOT_BELOW_ZERO,
}
