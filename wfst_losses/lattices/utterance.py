"""One utterance of a lattice, its states numbered from 0."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from wfst_losses.lattices.arcs import ArcLattice

_EVERY_ARC = np.empty(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Utterance:
    """The columns of one utterance; its last state is its end.

    Attributes:
        arcs: which of the lattice's arcs are its own.
        out_splits: ``(num_states + 1,)`` where the arcs that leave each state begin, counted from its first arc.
        destination: ``(A,)`` int32.
        tokens, token_splits: arc ``a`` writes ``tokens[token_splits[a]:token_splits[a + 1]]``; where there are no
            splits it writes ``tokens[a]``, and nothing where that is not above 0. See `written`.
        scores: ``(A,)`` nats, float32 or float64.
        num_states: 0 for an empty utterance.
    """

    arcs: slice
    out_splits: npt.NDArray[np.int64]
    destination: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    token_splits: npt.NDArray[np.int64]
    scores: npt.NDArray[np.floating[Any]]
    num_states: int

    @classmethod
    def of(cls, lattice: ArcLattice, low: int, high: int) -> Utterance:
        """The utterance with states ``low..high - 1``."""
        out_splits = lattice.out_splits[low : high + 1]
        first, end = int(out_splits[0]), int(out_splits[-1])
        plain = lattice.token_splits is None
        return cls(
            slice(first, end),
            out_splits - first,
            lattice.destination[first:end],
            lattice.tokens[first:end] if plain else lattice.tokens,
            _EVERY_ARC if lattice.token_splits is None else lattice.token_splits[first : end + 1],
            lattice.values()[first:end],
            high - low,
        )

    def every_token(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """All tokens that arcs write, and their splits, whichever way they are held here."""
        if len(self.token_splits):
            return self.tokens.astype(np.int64), self.token_splits
        writes = self.tokens > 0
        return self.tokens[writes].astype(np.int64), np.concatenate([[0], np.cumsum(writes)])
