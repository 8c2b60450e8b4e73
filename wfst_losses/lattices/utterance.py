"""One utterance of a lattice, its states numbered from 0."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from wfst_losses.lattices.arcs import ArcLattice

IntColumn = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Utterance:
    """The columns of one utterance; its last state is its end.

    Attributes:
        arcs: which of the lattice's arcs are its own.
        source, destination: ``(A,)``, ascending in source.
        tokens, token_splits: as in the lattice; ``token_splits`` is its own part.
        num_states: 0 for an empty utterance.
    """

    arcs: slice
    source: IntColumn
    destination: IntColumn
    tokens: IntColumn
    token_splits: IntColumn
    num_states: int

    @classmethod
    def of(cls, lattice: ArcLattice, arcs: slice, low: int, high: int) -> Utterance:
        """The utterance with states ``low..high - 1``."""
        source, destination = lattice.source[arcs] - low, lattice.destination[arcs] - low
        token_splits = lattice.token_splits[arcs.start : arcs.stop + 1]
        return cls(arcs, source, destination, lattice.tokens, token_splits, high - low)

    @functools.cached_property
    def out_splits(self) -> IntColumn:
        """``(num_states + 1,)`` where the arcs that leave each state begin."""
        return np.searchsorted(self.source, np.arange(self.num_states + 1))

    @functools.cached_property
    def arcs_into(self) -> IntColumn:
        """The arcs in order of their destination."""
        return np.argsort(self.destination, kind="stable")

    @functools.cached_property
    def into_splits(self) -> IntColumn:
        """``(num_states + 1,)`` where the arcs that enter each state begin in ``arcs_into``."""
        return np.searchsorted(self.destination[self.arcs_into], np.arange(self.num_states + 1))
