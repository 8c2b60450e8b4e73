"""What a sampler is: a way to pick paths from a lattice."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch

from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice


@dataclasses.dataclass(frozen=True)
class AbstractPathSampler(abc.ABC):
    """Picks the paths whose sequences become hypotheses."""

    is_posterior: ClassVar[bool] = False
    """Whether paths are independent draws from the lattice's posterior: what the sampled estimator needs."""

    @abc.abstractmethod
    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """Paths of every utterance; duplicates are kept. ``scale`` multiplies scores while drawing only."""
