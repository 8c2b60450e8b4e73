"""Hypotheses near the best path: parts of it are hidden and the best of what is left is taken."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.graphs.paths import Paths, Segments, distinct
from wfst_losses.lattices import AbstractLattice
from wfst_losses.memory_formulas import Work
from wfst_losses.samplers.sampler import AbstractPathSampler
from wfst_losses.validation import check_choice, check_count, check_number


@dataclasses.dataclass(frozen=True)
class NegativeSampling(AbstractPathSampler):
    """The best path, and the best of all paths that avoid random parts of it; as few as survive pruning.

    Each of the other ``num_paths - 1`` hypotheses: hide units of the best path at random, take the best path through
    the topology (and language model) with what is left. Its score is that on the log-probs with nothing hidden. Pruned:
    of paths that write the same the best is kept, and none that lies more than ``beam`` nats below the best path. How
    many survive is the diagnostics' ``num_distinct``.

    Attributes:
        num_paths: hypotheses at most, the best path among them.
        mask_probability: of hiding a unit.
        unit: "segment", a whole token of the best path, its label hidden at all of its frames; or "frame", the label of
            a single frame, whatever it is: the literal transfer from decoders of tokens, which on CTC's frames gives
            hypotheses hundreds of nats away and so no gradient.
        beam: nats.
        p_blank: of hiding a run of blanks, with unit "segment".

    On a k2 lattice the arcs of the best path are hidden, by the same units: parallel arcs are not.

    Source: Gao et al. 2022 (arXiv 2206.08317), there for tokens of a decoder, masked with probability 0.5.
    """

    num_paths: int = 4
    mask_probability: float = 0.5
    unit: str = "segment"
    beam: float = math.inf
    p_blank: float = 0.02

    def __post_init__(self) -> None:
        check_count("num_paths", self.num_paths)
        check_choice("unit", self.unit, ("segment", "frame"))
        for name in ("mask_probability", "p_blank"):
            check_number(name, getattr(self, name), low=0.0)
            if getattr(self, name) > 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a probability, at most 1")
        if not (isinstance(self.beam, float) and self.beam == math.inf):
            check_number("beam", self.beam, low=0.0)

    def draw(self, lattice: AbstractLattice, scale: float, generator: torch.Generator | None) -> Paths:
        """Best first; a scale changes nothing."""
        del scale
        best = lattice.best_segments()
        if self.num_paths == 1:
            return best.paths
        lattice.require(f"{self.num_paths - 1:,} masks of each best path", self._work(best))
        others = lattice.best_paths_around(best.paths, self.masks(best, generator))
        return self._pruned(lattice, best.paths.joined(others))

    def _work(self, best: Segments) -> Work:
        """Uniform numbers, for segments once more in their places, and what is hidden; that stays."""
        num_bits = best.number.size * (self.num_paths - 1)
        return Work(room=(9 if self.unit == "segment" else 5) * num_bits, held=num_bits)

    def masks(self, best: Segments, generator: torch.Generator | None) -> npt.NDArray[np.bool_]:
        """``(P, num_paths - 1, L)`` which steps of the best paths are hidden."""
        num_paths, num_steps = best.number.shape
        shape = (num_paths, self.num_paths - 1, num_steps)
        uniform = torch.rand(shape, generator=generator).numpy()
        if self.unit == "frame":
            return (uniform < self.mask_probability) & (best.number >= 0)[:, None, :]
        # One draw per segment: that of its number.
        places = np.broadcast_to(np.maximum(best.number, 0)[:, None, :], shape)
        probability = np.where(best.is_blank, self.p_blank, self.mask_probability).astype(np.float32)
        return (np.take_along_axis(uniform, places, axis=2) < probability[:, None, :]) & (best.number >= 0)[:, None, :]

    def _pruned(self, lattice: AbstractLattice, paths: Paths) -> Paths:
        with torch.no_grad():
            scores = lattice.path_scores(paths).detach().cpu().double().numpy()
        order = np.lexsort((-scores, paths.utterances))
        peak = np.full(lattice.num_utterances, -np.inf)
        np.maximum.at(peak, paths.utterances, scores)
        near = ~(scores < peak[paths.utterances] - self.beam)
        return distinct(paths.select(order[near[order]]))[0]
