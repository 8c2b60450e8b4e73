"""The table of defects of what a network gives, and of scores of arcs."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from case import Defect, Empty, Finite, Impossible, Refused, Unchanged
from changes import put, refused, to


def sparse(good: Any) -> torch.Tensor:
    """The same numbers in another layout."""
    return torch.as_tensor(good).to_sparse()


def meta(good: Any) -> torch.Tensor:
    """The same shape, no values."""
    return torch.as_tensor(good).to("meta")


TENSORS = (
    Defect("a sparse tensor", sparse, refused("sparse")),
    Defect("a meta tensor", meta, refused("meta")),
)


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

SHAPES = (
    *TENSORS,
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
    Defect("a view that negates", lambda x: torch._neg_view(-x), Unchanged()),  # noqa: SLF001 (autograd makes them)
    Defect("a masked tensor", lambda x: torch.masked.masked_tensor(x, x < 0), refused("MaskedTensor")),
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
    Defect(
        "transposed",
        lambda x: x.transpose(0, 1),
        refused(
            "(3,", "3 rows", "3 sequences", under=("input_lengths", "targets", "keywords", "labels", "windows", "parts")
        ),
    ),
    Defect("no frames", lambda x: x[:, :0], refused("[0] is 6", under=("input_lengths",))),
    Defect("a frame too few", lambda x: x[:, :5], refused("[0] is 6", "6", under=("input_lengths",))),
)

NONFINITE = (
    Defect("NaN", put((1, 2, 3), float("nan")), refused("[1, 2, 3] is nan")),
    Defect("+inf", put((1, 2, 3), float("inf")), refused("[1, 2, 3] is inf")),
    Defect("NaN in the first frame", put((0, 0, 0), float("nan")), refused("[0, 0, 0] is nan")),
    Defect("NaN in the last frame", put((2, 3, 4), float("nan")), refused("[2, 3, 4] is nan")),
    Defect("a frame of NaN", put((1, 2), float("nan")), refused("[1, 2")),
)

LEFT_OUT = tuple(
    dataclasses.replace(defect, expected=Impossible(2 if "last" in defect.name else 0 if "first" in defect.name else 1))
    for defect in NONFINITE
)

NORMALISED = (
    Defect("probabilities", lambda x: x.exp(), refused("from", "probabilities"), is_ours=True),
    Defect("logits", lambda x: x + 2.0, refused("logits", "[0, 0]"), is_ours=True),
    Defect("an unnormalised row", put((1, 2), 0.0), refused("[1, 2]"), is_ours=True),
    Defect("a row of -inf", put((1, 2), -float("inf")), refused("[1, 2]"), is_ours=True),
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
    Defect("a meta tensor", meta, refused("meta")),
    Defect("float32", lambda x: x.float(), Unchanged()),
    Defect("that require no gradient", lambda x: x.detach(), Unchanged()),
)

SCORE_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "log_probs": (*SHAPES, *NONFINITE, *NORMALISED),
    "log_probs_left_out": LEFT_OUT,
    "log_probs_let_pass": tuple(
        dataclasses.replace(defect, expected=Finite()) for defect in NONFINITE if defect.name != "a frame of NaN"
    ),
    "logits": (*SHAPES, *NONFINITE),
    "arc_scores_tensor": ARC_SCORES,
    "shape_of_scores": tuple(defect for defect in SHAPES if isinstance(defect.expected, Refused) and not defect.others),
    "scores_of_segments": tuple(
        defect
        for defect in (*SHAPES, *NONFINITE)
        if not defect.others
        and not any(words in defect.name for words in ("utterance", "a frame too few", "transposed", "no frames"))
    ),
}
