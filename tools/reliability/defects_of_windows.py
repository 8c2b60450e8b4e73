"""The table of defects of keywords and their windows."""

from __future__ import annotations

import torch
from case import Defect, Impossible, Unchanged
from changes import put, refused, to

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

WINDOW_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "windows": WINDOWS,
    "window_labels": (*SHAPED_INTEGERS, *COLUMNS),
    "keywords": KEYWORDS,
    "end_frames": END_FRAMES,
    "parts": PARTS,
}
