"""Paths drawn at random from the posterior."""

from __future__ import annotations

import dataclasses

import torch

from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice
from wfst_losses.samplers.sampler import AbstractPathSampler
from wfst_losses.validation import check_count


@dataclasses.dataclass(frozen=True)
class RandomPaths(AbstractPathSampler):
    """``num_paths`` independent paths per utterance, each with probability ``exp(score(path) - Z)``.

    Truly random, from the given torch.Generator or torch's own, where ``k2.random_paths`` takes fixed points of the
    distribution and returns the same paths at every call. On a pruned lattice the draws are exact for the pruned
    posterior.
    """

    num_paths: int
    is_posterior = True

    def __post_init__(self) -> None:
        check_count("num_paths", self.num_paths)

    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """Sum backwards, walk forwards."""
        return lattice.sample(self.num_paths, scale, generator)
