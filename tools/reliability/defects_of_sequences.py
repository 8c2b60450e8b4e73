"""The table of defects of targets and lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from case import Defect, Finite, Impossible, Unchanged
from changes import put, refused, to
from defects_of_scores import TENSORS

TYPES = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("many"), refused("'many'", "str")),
    Defect("a dictionary", to({}), refused("{}", "dict")),
)

LENGTHS = (
    *TYPES,
    *TENSORS,
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
    Defect("a truth value inside", put(1, True), refused("[1] is True")),
    Defect("a meta tensor inside", put(1, torch.tensor(5, device="meta")), refused("[1] is tensor")),
    Defect("behind a mask", lambda x: np.ma.array(x, mask=[0, 1, 0]), refused("masked")),
)

TARGETS = (
    *TYPES,
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
    Defect("a truth value at the end", put((1, 1), True), refused("targets[1][1] is True")),
    Defect("a label of 2^63", put((1, 0), 2**63), refused(f"[1][0] is {2**63}")),
    Defect("behind a mask", put(1, np.ma.array([3, 3], mask=[0, 1])), refused("targets[1]")),
)

IMPOSSIBLE_TARGETS = (
    Defect("longer than the frames", put(1, [3, 4] * 20), Impossible(1)),
    Defect("one token too long for its repeats", put(1, [3, 3, 3, 3]), Impossible(1)),
)

PADDED = (
    *TENSORS,
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

SEQUENCE_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "targets": (*TARGETS, *IMPOSSIBLE_TARGETS),
    "references": (*TARGETS, *(dataclasses.replace(defect, expected=Finite()) for defect in IMPOSSIBLE_TARGETS)),
    "padded": PADDED,
    "lengths": LENGTHS,
    "target_lengths": TARGET_LENGTHS,
    "lengths_from_one": (*LENGTHS, Defect("zero", put(1, 0), refused("[1] is 0"))),
    "optional_lengths": tuple(defect for defect in LENGTHS if defect.name != "None"),
}
