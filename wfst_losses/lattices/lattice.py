"""What a lattice is: graphs with emissions, whether built arc by arc or only implied."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.graphs.paths import Paths, Segments
from wfst_losses.memory_formulas import Work
from wfst_losses.validation import TokenSequence


class AbstractLattice(abc.ABC):
    """One weighted set of paths per utterance, to draw hypotheses from and to score them in."""

    @property
    @abc.abstractmethod
    def num_utterances(self) -> int:
        """B."""

    @property
    @abc.abstractmethod
    def scores(self) -> torch.Tensor:
        """What gradients flow to; results are attached to it and lie on its device."""

    @abc.abstractmethod
    def require(self, what: str, part: Work) -> None:
        """Refuse work before it allocates.

        Raises:
            MemoryLimitError: if with it the call would take more than it may.
        """

    @abc.abstractmethod
    def sample(self, num_paths: int, scale: float, generator: torch.Generator | None) -> Paths:
        """``num_paths`` independent paths per utterance, with probability ``softmax(scale * score)``."""

    def grid_paths(self, num_paths: int, scale: float, use_double_scores: bool) -> Paths:
        """The paths of ``k2.random_paths``; see `wfst_losses.GridPaths`.

        Raises:
            ValueError: but for lattices that k2 built.
        """
        del num_paths, scale, use_double_scores
        raise ValueError("sampler is GridPaths, which needs a k2 lattice; expected RandomPaths, which draws at random")

    @abc.abstractmethod
    def best_sequences(self, num_paths: int) -> Paths:
        """The ``num_paths`` best distinct sequences per utterance, or all, each with its best path, in order of rank.

        A sequence ranks by the score of its best path; of equals, the shorter first, then the first in lexicographic
        order. Of equally good paths of one sequence it is any. No path leads through NaN.
        """

    @abc.abstractmethod
    def best_segments(self) -> Segments:
        """The best path of each utterance that has any, cut into its tokens and blanks."""

    @abc.abstractmethod
    def best_paths_around(self, paths: Paths, masks: npt.NDArray[np.bool_]) -> Paths:
        """For each path and mask, the best path that takes none of the path's steps where the mask is true.

        Args:
            paths: P.
            masks: ``(P, N, L)``.

        Returns:
            Up to P N paths; none where none is left. Of emissions, a step is a label at its frame.
        """

    @abc.abstractmethod
    def enumerate(self) -> Paths:
        """Every path: for tiny lattices only.

        Raises:
            ValueError: where there are more than a million.
        """

    @abc.abstractmethod
    def sequence_scores(self, sequences: Sequence[TokenSequence], utterances: npt.NDArray[np.int64]) -> torch.Tensor:
        """``Z(y)``: ``(P,)`` logsumexp over all paths that write each sequence, differentiable; -inf if none."""

    @abc.abstractmethod
    def total_scores(self) -> torch.Tensor:
        """``Z``: ``(B,)`` logsumexp over all paths of each utterance, without gradient; -inf if there is none."""

    @abc.abstractmethod
    def path_scores(self, paths: Paths) -> torch.Tensor:
        """``(P,)`` the score of each path alone, differentiable."""
