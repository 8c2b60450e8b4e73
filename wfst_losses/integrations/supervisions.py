"""The supervisions of a lhotse dataset's batch, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from wfst_losses.validation import MOST, check_instance, shown, to_numpy

COLUMNS = ("sequence_idx", "start_frame", "num_frames")


def read_supervisions(batch: object) -> Mapping[str, Any]:
    """The supervisions, with all that is asked of them."""
    check_instance("batch", batch, Mapping, "a K2 dataset's batch")
    supervisions = cast("Mapping[str, Any]", batch).get("supervisions")
    found: set[str] = set(supervisions) if isinstance(supervisions, Mapping) else set()
    missing = {"text", *COLUMNS} - found
    if missing:
        raise ValueError(f"batch has no {', '.join(sorted(missing))} of supervisions; expected a K2 dataset's batch")
    return cast("Mapping[str, Any]", supervisions)


def check_sequences(sequence: torch.Tensor, num_sequences: int) -> None:
    """Each supervision lies in a sequence of the network's output."""
    wrong = (sequence < 0) | (sequence >= num_sequences)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"batch: supervisions['sequence_idx'][{row}] is {int(sequence[row])}, expected 0..{num_sequences - 1}"
        )


def read_column(supervisions: Mapping[str, Any], name: str, count: int) -> torch.Tensor:
    """``(S,)`` whole numbers, of whatever type the dataset gives them."""
    values = supervisions[name]
    try:
        column = to_numpy(name, values) if isinstance(values, torch.Tensor) else np.asarray(values)
    except ValueError:  # ragged
        column = np.asarray(None)
    is_whole = column.dtype.kind in "iuf" and column.shape == (count,) and np.array_equal(column, np.floor(column))
    if not is_whole or np.any(np.abs(column) > MOST):
        raise ValueError(f"batch: supervisions[{name!r}] is {shown(values)}, expected {count} whole numbers")
    return torch.from_numpy(column.astype(np.int64))
