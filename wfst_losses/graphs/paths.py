"""Paths taken through graphs with emissions, or through lattices."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from wfst_losses.validation import TokenSequence


@dataclasses.dataclass(frozen=True, eq=False)
class Paths:
    """``P`` paths over a batch of utterances, in ascending order of utterance.

    Attributes:
        steps: ``(P, L)`` int64, -1 beyond a path's end: the label read at each frame for graphs with emissions, the
            arc taken for lattices.
        tokens: the ``P`` sequences the paths write.
        utterances: ``(P,)`` int64.
        graph_scores: ``(P,)`` float64: what the path's score holds beside its steps' scores, a language model's share.
    """

    steps: npt.NDArray[np.int64]
    tokens: list[TokenSequence]
    utterances: npt.NDArray[np.int64]
    graph_scores: npt.NDArray[np.float64]

    @property
    def num_paths(self) -> int:
        """P."""
        return len(self.utterances)

    def select(self, rows: npt.NDArray[np.int64]) -> Paths:
        """Some of the paths."""
        tokens = [self.tokens[row] for row in rows.tolist()]
        return Paths(self.steps[rows], tokens, self.utterances[rows], self.graph_scores[rows])


def distinct(paths: Paths) -> tuple[Paths, npt.NDArray[np.int64]]:
    """One path per distinct sequence of each utterance, the first; and how often each came."""
    seen: dict[tuple[int, bytes], int] = {}
    first: list[int] = []
    counts: list[int] = []
    for row, (utterance, tokens) in enumerate(zip(paths.utterances.tolist(), paths.tokens, strict=True)):
        place = seen.setdefault((utterance, tokens.tobytes()), len(first))
        if place == len(first):
            first.append(row)
            counts.append(0)
        counts[place] += 1
    return paths.select(np.array(first, dtype=np.int64)), np.array(counts, dtype=np.int64)
