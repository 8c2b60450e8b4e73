"""Decoding in k2: a pruned lattice, and its best path."""

from __future__ import annotations

import numpy as np
import torch

from topologies import Graph, without_epsilons
from wfst_losses.backends.k2 import k2
from wfst_losses.backends.k2.convert import to_k2
from wfst_losses.emissions import Emissions


def best_outputs(
    graph: Graph, emissions: Emissions, search_beam: float, output_beam: float, max_active_states: int
) -> tuple[list[list[int]], torch.Tensor]:
    """What the best path of each utterance writes, and its score; nothing and -inf where none is left."""
    lengths = emissions.input_lengths
    sequences: list[list[int]] = [[] for _ in range(emissions.num_utterances)]
    scores = torch.full((emissions.num_utterances,), -torch.inf, dtype=torch.float64)
    # k2 wants frames, and utterances by length.
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    if not len(order):
        return sequences, scores
    supervisions = torch.tensor([[b, 0, int(lengths[b])] for b in order.tolist()], dtype=torch.int32)
    dense = k2.DenseFsaVec(emissions.log_probs.detach().float().contiguous(), supervisions)
    fsa = k2.create_fsa_vec([to_k2(without_epsilons(graph))]).to(emissions.scores.device)
    lattice = k2.intersect_dense_pruned(fsa, dense, search_beam, output_beam, 30, max_active_states)
    best = k2.shortest_path(lattice, use_double_scores=True)
    totals = best.get_tot_scores(use_double_scores=True, log_semiring=False).cpu().double()
    written, splits = best.aux_labels.cpu(), best.arcs.shape().row_splits(1).cpu()
    arc_splits = best.arcs.shape().row_splits(2).cpu()[splits.long()]
    for row, utterance in enumerate(order.tolist()):
        labels = written[arc_splits[row] : arc_splits[row + 1]]
        sequences[utterance] = labels[labels > 0].tolist()
        scores[utterance] = totals[row]
    return sequences, scores
