"""Where each keyword may have its maximum: windows checked and cut to their utterances, on the CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.validation import check_dense, check_lengths, integer_column, odd_one, to_numpy

IntegerArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The N windows of a batch, all utterances' one after another.

    Attributes:
        utterances: ``(N,)``.
        labels: ``(N,)``, the column whose maximum is taken.
        starts: ``(N,)``, first frame, inside the utterance.
        stops: ``(N,)``, one past the last frame; more than ``starts``.
        impossible: ``(B,)`` bool: utterances with a window that is empty, before or after cutting. They have no
            windows here.
    """

    utterances: IntegerArray
    labels: IntegerArray
    starts: IntegerArray
    stops: IntegerArray
    impossible: npt.NDArray[np.bool_]

    @property
    def longest(self) -> int:
        """Frames of the longest window, at least 1."""
        return int((self.stops - self.starts).max(initial=1))

    def without(self, dropped: npt.NDArray[np.bool_]) -> Windows:
        """The same without the windows of ``dropped`` utterances, which become impossible."""
        kept = ~np.isin(self.utterances, np.flatnonzero(dropped))
        return Windows(
            self.utterances[kept],
            self.labels[kept],
            self.starts[kept],
            self.stops[kept],
            np.asarray(self.impossible | dropped),
        )

    def table(self, device: torch.device) -> torch.Tensor:
        """``(4, N)`` int64 rows utterances, labels, starts, stops: one copy to the device."""
        rows = np.stack([self.utterances, self.labels, self.starts, self.stops])
        return torch.from_numpy(rows).to(device, non_blocking=True)


def cut_windows(labels: IntegerArray, starts: IntegerArray, stops: IntegerArray, lengths: IntegerArray) -> Windows:
    """Windows ``[starts, stops)`` cut to ``[0, lengths)``; arrays ``(B, M)``, a label of -1 marks an empty place."""
    used = labels >= 0
    starts = np.maximum(starts, 0)
    stops = np.minimum(stops, lengths[:, None])
    impossible: npt.NDArray[np.bool_] = np.any(used & (starts >= stops), axis=1)
    utterances, places = np.nonzero(used & ~impossible[:, None])
    return Windows(
        utterances, labels[utterances, places], starts[utterances, places], stops[utterances, places], impossible
    )


def read_integers(**columns: Any) -> dict[str, IntegerArray]:
    """Integer arguments, each a tensor, array or (nested) sequence, as int64 arrays.

    All tensors that lie on an accelerator come over in one copy; those on the CPU need no synchronisation.
    """
    arrays: dict[str, IntegerArray] = {}
    away: dict[str, torch.Tensor] = {}
    for name, column in columns.items():
        if isinstance(column, torch.Tensor):
            if column.is_floating_point() or column.is_complex() or column.dtype == torch.bool:
                raise ValueError(f"{name} has dtype {column.dtype}, expected an integer dtype")
            check_dense(name, column)
            if column.device.type != "cpu":
                away[name] = column.detach()
                continue
            column = to_numpy(name, column)  # noqa: PLW2901
        arrays[name] = _as_integers(name, column)
    if away:
        joined = torch.cat([tensor.reshape(-1).long() for tensor in away.values()]).cpu().numpy()
        edges = np.cumsum([tensor.numel() for tensor in away.values()])[:-1]
        for (name, tensor), part in zip(away.items(), np.split(joined, edges), strict=True):
            arrays[name] = part.reshape(tuple(tensor.shape))
    return arrays


def check_frames(lengths: IntegerArray, num_utterances: int, num_frames: int) -> IntegerArray:
    """``(B,)`` lengths of 1 frame or more: without a frame there is nothing to pool."""
    lengths = check_lengths("input_lengths", lengths, num_utterances, num_frames, of="the scores")
    if (lengths == 0).any():
        index = int(np.argmax(lengths == 0))
        raise ValueError(f"input_lengths[{index}] is 0 (utterance {index}), expected 1..{num_frames}")
    return lengths


def check_places(name: str, array: IntegerArray, shape: tuple[int | str, ...], like: tuple[int, ...]) -> None:
    """``array`` must have exactly the shape ``like``, written ``shape`` in the message."""
    if array.shape != like:
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} has shape {array.shape}, expected ({wanted}) = {like}")


def check_labels(name: str, labels: IntegerArray, num_labels: int, *, low: int = -1) -> None:
    """Each label must be a column of the scores, or -1 for none."""
    wrong = (labels < low) | (labels >= num_labels)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        where = "".join(f"[{index}]" for index in place)
        none = ", -1 for none" if low < 0 else ""
        raise ValueError(
            f"{name}{where} is {labels[place]} (utterance {place[0]}) but there are {num_labels} columns, "
            f"expected 0..{num_labels - 1}{none}"
        )


def _as_integers(name: str, column: Any) -> IntegerArray:
    array, rows = integer_column(name, column), _rows(column)
    if any(map(_has_truth_values, rows)):
        for index, row in enumerate(column):
            _as_integers(f"{name}[{index}]", row)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        odd = "" if rows else odd_one(name, column)
        raise ValueError(f"{name} is {column!r:.80}, expected integers in a rectangular array{odd}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        place = np.unravel_index(int(array.argmax()), array.shape)
        where = "".join(f"[{index}]" for index in place)
        raise ValueError(f"{name}{where} is {array[place]}, expected a 64-bit integer")
    return array.astype(np.int64)


def _rows(values: Any) -> list[Any]:
    """The rows of nested sequences; of others none."""
    return [row for row in values if isinstance(row, (list, tuple))] if isinstance(values, (list, tuple)) else []


def _has_truth_values(row: Any) -> bool:
    """At any depth: numpy takes True for 1 where there are integers beside it."""
    return not {bool, np.bool_}.isdisjoint(map(type, row)) or any(map(_has_truth_values, _rows(row)))
