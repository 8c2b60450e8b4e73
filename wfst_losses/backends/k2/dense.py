"""Network outputs in k2's form, in and out, and the lattices k2 prunes from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.backends.k2 import k2
from wfst_losses.validation import shown

if TYPE_CHECKING:
    from k2 import DenseFsaVec, Fsa


def read_dense(dense_fsa_vec: DenseFsaVec) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """``(S, T, V)`` scores, attached to what the DenseFsaVec was made of, and ``(S,)`` lengths, in its order.

    Raises:
        ValueError: if it is no k2.DenseFsaVec.
    """
    if not isinstance(dense_fsa_vec, k2.DenseFsaVec):
        raise ValueError(f"dense_fsa_vec is {shown(dense_fsa_vec)}, expected a k2.DenseFsaVec")
    lengths = dense_fsa_vec.duration.cpu().numpy().astype(np.int64)
    # Each utterance has one more row, for the final arcs, and one more column, for their label -1.
    first = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
    index = first[:, None] + np.minimum(np.arange(lengths.max(initial=0)), lengths[:, None])
    scores = dense_fsa_vec.scores
    return scores[torch.from_numpy(index).to(scores.device), 1:], lengths


def pruned_lattices(
    decoding_graph: Fsa,
    log_probs: torch.Tensor,
    lengths: npt.NDArray[np.int64],
    *,
    search_beam: float,
    output_beam: float,
    min_active_states: int,
    max_active_states: int,
) -> tuple[Fsa, npt.NDArray[np.int64]]:
    """``k2.intersect_dense_pruned`` of the utterances that have frames, in the order given, and which those are.

    Raises:
        ValueError: under ``torch.inference_mode()``, which k2's autograd functions do not survive, or for a graph that
            reads labels the network lacks, which k2 would look up beyond the scores.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("k2 lattices cannot be made under torch.inference_mode(): use torch.no_grad()")
    num_labels = log_probs.shape[2]
    highest = int(decoding_graph.labels.max()) if decoding_graph.labels.numel() else 0
    if highest >= num_labels:
        raise ValueError(
            f"decoding_graph reads label {highest} but there are {num_labels}, expected 0..{num_labels - 1}"
        )
    framed = np.flatnonzero(lengths > 0)
    segments = torch.zeros(len(framed), 3, dtype=torch.int32)
    segments[:, 0] = torch.from_numpy(framed.astype(np.int32))
    segments[:, 2] = torch.from_numpy(lengths[framed].astype(np.int32))
    dense = k2.DenseFsaVec(log_probs.float().contiguous(), segments)
    lattice = k2.intersect_dense_pruned(
        decoding_graph.to(log_probs.device),
        dense,
        search_beam=search_beam,
        output_beam=output_beam,
        min_active_states=min_active_states,
        max_active_states=max_active_states,
    )
    return lattice, framed
