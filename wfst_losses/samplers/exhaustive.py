"""Every path, for tests."""

from __future__ import annotations

import dataclasses

import torch

from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice
from wfst_losses.samplers.sampler import AbstractPathSampler


@dataclasses.dataclass(frozen=True)
class Exhaustive(AbstractPathSampler):
    """Every path of the lattice: exact, and exponential in the number of frames."""

    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """All paths; scale and generator play no part."""
        del scale, generator
        return lattice.enumerate()
