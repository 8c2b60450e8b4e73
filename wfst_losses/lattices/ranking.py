"""What searches found, as paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wfst_losses.graphs.paths import Paths

if TYPE_CHECKING:
    from wfst_losses.lattices.best_sequences import Found


def ranked_paths(found: Sequence[Found | None], utterances: npt.NDArray[np.int64] | None = None) -> Paths:
    """What was found in each utterance, or in those given, as paths, their steps the arcs taken; nothing for None."""
    present = [(number, part) for number, part in enumerate(found) if part is not None]
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.arc_splits) for _, part in present)])
    steps = np.full((len(lengths), int(lengths.max(initial=0))), -1, dtype=np.int64)
    steps[np.arange(steps.shape[1]) < lengths[:, None]] = np.concatenate(
        [np.empty(0, np.int64), *(part.arcs for _, part in present)]
    )
    tokens = [row for _, part in present for row in np.split(part.tokens, part.token_splits[1:-1])[: len(part.scores)]]
    numbers = np.repeat([number for number, _ in present], [len(part.scores) for _, part in present]).astype(np.int64)
    owners = numbers if utterances is None else utterances[numbers]
    return Paths(steps, tokens, owners, np.zeros(len(lengths)))
