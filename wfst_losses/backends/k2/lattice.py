"""k2 lattices as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.backends.k2 import k2
from wfst_losses.lattices import ArcLattice

if TYPE_CHECKING:
    from k2 import Fsa


def read_lattice(lattice: Fsa) -> ArcLattice:
    """The columns of an FsaVec, its scores attached as they are. The caller's lattice is not changed.

    Tokens are its ``aux_labels`` above 0, plain or ragged, or its labels where it has none.

    Raises:
        ValueError: if it is no FsaVec, or not acyclic.
    """
    if not isinstance(lattice, k2.Fsa):
        raise ValueError(f"lattice is {lattice!r:.80}, expected a k2.Fsa with one graph per utterance")
    if len(lattice.shape) != 3:
        raise ValueError(f"lattice has shape {tuple(lattice.shape)}, expected an FsaVec: one graph per utterance")
    arcs = lattice.arcs.values().cpu().numpy()
    state_splits = lattice.arcs.shape().row_splits(1).cpu().numpy().astype(np.int64)
    source = lattice.arcs.shape().row_ids(2).cpu().numpy().astype(np.int64)
    utterance_of_state = lattice.arcs.shape().row_ids(1).cpu().numpy().astype(np.int64)
    offset = state_splits[utterance_of_state[source]]
    destination = arcs[:, 1].astype(np.int64) + offset
    if np.any(destination <= source):
        return read_lattice(_sorted(lattice))
    token_splits, tokens = _tokens(lattice)
    return ArcLattice(source, destination, token_splits, tokens, lattice.scores, state_splits)


def _sorted(lattice: Fsa) -> Fsa:
    cyclic = "lattice has a cycle, expected an acyclic lattice"
    try:
        sorted_lattice = k2.top_sort(lattice)
    except RuntimeError as error:
        # k2 sorts around most cycles, but not one through the start.
        raise ValueError(cyclic) from error
    if not sorted_lattice.properties & k2.fsa_properties.TOPSORTED_AND_ACYCLIC:
        raise ValueError(cyclic)
    return sorted_lattice


def _tokens(lattice: Fsa) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row splits and values of what each arc writes: epsilons (0) and the final arcs' -1 left out."""
    written = getattr(lattice, "aux_labels", lattice.labels)
    if isinstance(written, torch.Tensor):
        values = written.cpu().numpy().astype(np.int64)
        splits = np.arange(len(values) + 1)
    else:
        values = written.values.cpu().numpy().astype(np.int64)
        splits = written.shape.row_splits(1).cpu().numpy().astype(np.int64)
    kept = values > 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return before[splits], values[kept]
