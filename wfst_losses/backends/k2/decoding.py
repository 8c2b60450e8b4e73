"""Decoding in k2: a pruned lattice, its best path, and its best distinct sequences."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from topologies import Graph, without_epsilons
from wfst_losses.backends.k2 import k2
from wfst_losses.backends.k2.convert import to_k2
from wfst_losses.backends.k2.lattice import read_lattice
from wfst_losses.backends.memory import k2_pruned_work
from wfst_losses.emissions import Emissions

if TYPE_CHECKING:
    from k2 import Fsa


def best_outputs(
    graph: Graph, emissions: Emissions, search_beam: float, output_beam: float, max_active_states: int
) -> tuple[list[list[int]], torch.Tensor]:
    """What the best path of each utterance writes, and its score; nothing and -inf where none is left."""
    sequences: list[list[int]] = [[] for _ in range(emissions.num_utterances)]
    scores = torch.full((emissions.num_utterances,), -torch.inf, dtype=torch.float64)
    lattice, order = _pruned(graph, emissions, search_beam, output_beam, max_active_states)
    if lattice is None:
        return sequences, scores
    best = k2.shortest_path(lattice, use_double_scores=True)
    totals = best.get_tot_scores(use_double_scores=True, log_semiring=False).cpu().double()
    written, splits = best.aux_labels.cpu(), best.arcs.shape().row_splits(1).cpu()
    arc_splits = best.arcs.shape().row_splits(2).cpu()[splits.long()]
    for row, utterance in enumerate(order.tolist()):
        labels = written[arc_splits[row] : arc_splits[row + 1]]
        sequences[utterance] = labels[labels > 0].tolist()
        scores[utterance] = totals[row]
    return sequences, scores


def nbest_outputs(
    graph: Graph,
    emissions: Emissions,
    num_paths: int,
    search_beam: float,
    output_beam: float,
    max_active_states: int,
) -> tuple[list[list[list[int]]], list[torch.Tensor]]:
    """The best distinct sequences that the lattice of each utterance writes, and the scores of their best paths."""
    sequences: list[list[list[int]]] = [[] for _ in range(emissions.num_utterances)]
    scores: list[list[float]] = [[] for _ in range(emissions.num_utterances)]
    lattice, order = _pruned(graph, emissions, search_beam, output_beam, max_active_states)
    if lattice is not None:
        read = dataclasses.replace(read_lattice(lattice), budget=emissions.budget)
        paths = read.best_sequences(num_paths)
        totals = read.path_scores(paths).detach().cpu().tolist()
        for row, tokens, total in zip(paths.utterances.tolist(), paths.tokens, totals, strict=True):
            sequences[order[row]].append(np.asarray(tokens).tolist())
            scores[order[row]].append(total)
    return sequences, [torch.tensor(row, dtype=torch.float64) for row in scores]


def _pruned(
    graph: Graph, emissions: Emissions, search_beam: float, output_beam: float, max_active_states: int
) -> tuple[Fsa | None, npt.NDArray[np.int64]]:
    """The lattice of the utterances that have frames, the longest first, and which those are; none if none has."""
    lengths = emissions.input_lengths
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    if not len(order):
        return None, order
    graph = without_epsilons(graph)
    if emissions.budget.is_given:
        emissions.require("k2's pruned lattices", k2_pruned_work(graph, emissions, max_active_states))
    supervisions = torch.tensor([[b, 0, int(lengths[b])] for b in order.tolist()], dtype=torch.int32)
    dense = k2.DenseFsaVec(emissions.log_probs.detach().float().contiguous(), supervisions)
    fsa = k2.create_fsa_vec([to_k2(graph)]).to(emissions.scores.device)
    return k2.intersect_dense_pruned(fsa, dense, search_beam, output_beam, 30, max_active_states), order
