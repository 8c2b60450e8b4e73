"""The paths that k2 takes."""

from __future__ import annotations

import dataclasses

import torch

from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice
from wfst_losses.samplers.sampler import AbstractPathSampler
from wfst_losses.validation import check_count, check_flag


@dataclasses.dataclass(frozen=True)
class GridPaths(AbstractPathSampler):
    """The paths of ``k2.random_paths``, for comparison with ``k2.mwer_loss``: no chance is involved.

    Path i lies at the point ``(i + 0.5) / num_paths`` of the posterior's cumulative distribution, so that every call
    gives the same paths, the best one may be missed, and their mean is biased. With ``path_score="single"`` the loss is
    ``k2.mwer_loss``'s. k2 lattices only.

    Attributes:
        num_paths: per utterance.
        use_double_scores: whether k2 computes the distribution in float64.
    """

    num_paths: int
    use_double_scores: bool = True

    def __post_init__(self) -> None:
        check_count("num_paths", self.num_paths)
        check_flag("use_double_scores", self.use_double_scores)

    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """The generator plays no part."""
        del generator
        return lattice.grid_paths(self.num_paths, scale, self.use_double_scores)
