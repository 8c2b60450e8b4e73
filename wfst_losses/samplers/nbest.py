"""The N best sequences."""

from __future__ import annotations

import dataclasses

import torch

from wfst_losses.graphs.paths import Paths
from wfst_losses.lattices import AbstractLattice
from wfst_losses.samplers.sampler import AbstractPathSampler
from wfst_losses.validation import check_count


@dataclasses.dataclass(frozen=True)
class NBest(AbstractPathSampler):
    """The ``num_paths`` best *distinct* sequences of each utterance, exactly, or all where there are fewer.

    A sequence ranks by the score of its best path (ranking by the sum over its paths is NP-hard); of equals the
    shorter comes first, then the first in lexicographic order. Each stands with its best path; scored it is by the
    sum over all its paths unless ``path_score="single"``. No chance is involved, and a scale changes no rank.
    """

    num_paths: int

    def __post_init__(self) -> None:
        check_count("num_paths", self.num_paths)

    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """Best first; scale and generator play no part."""
        del scale, generator
        return lattice.best_sequences(self.num_paths)
