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

    def joined(self, other: Paths) -> Paths:
        """The paths of both, by utterance, within it those of this first."""
        utterances = np.concatenate([self.utterances, other.utterances])
        width = max(self.steps.shape[1], other.steps.shape[1])
        padded = [
            np.pad(part.steps, ((0, 0), (0, width - part.steps.shape[1])), constant_values=-1) for part in (self, other)
        ]
        graph_scores = np.concatenate([self.graph_scores, other.graph_scores])
        both = Paths(np.concatenate(padded), [*self.tokens, *other.tokens], utterances, graph_scores)
        return both.select(np.argsort(utterances, kind="stable"))


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Paths cut where they begin another token or blank, or go on to another label.

    Attributes:
        paths: at most one per utterance.
        number: ``(P, L)`` int64 the segment of each step, counted from 0; -1 beyond a path's end.
        is_blank: ``(P, L)`` whether the step reads the blank or nothing.
    """

    paths: Paths
    number: npt.NDArray[np.int64]
    is_blank: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, paths: Paths, labels: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_], blank: int) -> Segments:
        """Cut paths that read ``labels`` where ``begins`` says so and where labels change; both ``(P, L)``."""
        live = paths.steps >= 0
        changes = begins.copy()
        changes[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        changes[:, :1] = False
        return cls(paths, np.where(live, np.cumsum(changes, axis=1), -1), (labels == blank) | (labels < 0))


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
