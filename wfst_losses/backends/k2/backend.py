"""The k2 backend: training graphs intersected with dense scores, with a beam that prunes nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from topologies import Graph, GraphBatch
from wfst_losses.backends.backend import AbstractBackend
from wfst_losses.backends.k2 import k2
from wfst_losses.backends.k2.convert import to_k2
from wfst_losses.backends.memory import k2_work
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.emissions import Emissions
from wfst_losses.memory_formulas import Work
from wfst_losses.runs import note

_MAX_FRAMES = 65_534
_MAX_LABELS = 65_534
_MAX_GRAPHS = 65_534
_MAX_STATES = 65_533


@dataclasses.dataclass(frozen=True)
class K2Backend(AbstractBackend):
    """``k2.intersect_dense``: scores in float32, sums in float64.

    Attributes:
        output_beam: arcs further than this below the best path are pruned, nats; the default keeps all.
        max_states, max_arcs: k2 silently lowers the beam above these; the defaults are its own limits.
    """

    output_beam: float = 1e9
    max_states: int = 2**31 - 1
    max_arcs: int = 2**30

    name = "k2"
    needs_epsilon_free = True

    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """Lattices of all graphs at once; utterances of no frames, which k2 refuses, are summed by hand."""
        _check_limits(emissions, graphs)
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "backend is 'k2', which does not run under torch.inference_mode(): use torch.no_grad() or another one"
            )
        if not emissions.is_finite:
            # k2's maxima skip NaN and give a finite value; the definition passes it on.
            return ReferenceBackend().total_scores(graphs, emissions, utterances)
        work = self.total_work(graphs, emissions, utterances)
        emissions.require(f"k2's lattices of {graphs.num_graphs:,} graphs", work)
        log_probs = emissions.log_probs
        lengths = emissions.input_lengths
        framed = np.flatnonzero(lengths[utterances.numpy()] > 0)
        totals = self._without_frames(graphs).to(log_probs.device, torch.float64) + emissions.anchor
        if len(framed) == 0:
            return totals
        # k2 wants no graph without arcs or final states.
        possible = np.array([index for index in framed.tolist() if _has_paths(graphs.graph(index))], dtype=np.int64)
        totals = totals.index_fill(0, torch.from_numpy(framed).to(totals.device), -torch.inf)
        if len(possible) == 0:
            return totals
        used = np.unique(utterances.numpy()[possible])
        by_length = used[np.argsort(-lengths[used], kind="stable")]
        place = np.zeros(len(lengths), dtype=np.int64)
        place[by_length] = np.arange(len(by_length))
        # k2 wants the map from graphs to utterances ascending too.
        possible = possible[np.argsort(place[utterances.numpy()[possible]], kind="stable")]
        supervisions = torch.tensor([[b, 0, int(lengths[b])] for b in by_length.tolist()], dtype=torch.int32)
        # k2 carries gradients for float32 leaves of its own making only.
        dense = k2.DenseFsaVec(log_probs.float().contiguous(), supervisions)
        fsas = k2.create_fsa_vec([to_k2(graphs.graph(index)) for index in possible.tolist()])
        to_dense = torch.from_numpy(place[utterances.numpy()[possible]].astype(np.int32))
        note(self.name, "graph per utterance", [f"k2 lattice, beam {self.output_beam:g}"] * graphs.num_graphs)
        lattice = k2.intersect_dense(
            fsas.to(log_probs.device),
            dense,
            self.output_beam,
            max_states=self.max_states,
            max_arcs=self.max_arcs,
            a_to_b_map=to_dense.to(log_probs.device),
        )
        scores = lattice.get_tot_scores(use_double_scores=True, log_semiring=True)
        return totals.index_copy(0, torch.from_numpy(possible).to(totals.device), scores)

    def total_work(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> Work:
        """An upper bound: k2 drops states that lead nowhere."""
        if not emissions.is_finite:
            return ReferenceBackend().total_work(graphs, emissions, utterances)
        return k2_work(graphs, emissions, utterances.numpy())

    @staticmethod
    def _without_frames(graphs: GraphBatch) -> torch.Tensor:
        return torch.from_numpy(graphs.final_score[graphs.starts].copy())


def _has_paths(graph: Graph) -> bool:
    return graph.num_arcs > 0 and bool(np.any(graph.final_score > -np.inf))


def _check_limits(emissions: Emissions, graphs: GraphBatch) -> None:
    """What k2 counts in 16 bits, where it dies or is wrong without a word."""
    if graphs.num_graphs > _MAX_GRAPHS:
        raise ValueError(f"backend is 'k2' with {graphs.num_graphs} graphs, expected at most {_MAX_GRAPHS} with k2")
    num_states = int(np.diff(graphs.state_splits).max(initial=0))
    if num_states > _MAX_STATES:
        raise ValueError(f"backend is 'k2' with a graph of {num_states} states, expected at most {_MAX_STATES} with k2")
    num_frames, num_labels = emissions.scores.shape[1:]
    if num_labels > _MAX_LABELS:
        raise ValueError(f"log_probs has {num_labels} columns, expected at most {_MAX_LABELS} with backend='k2'")
    if num_frames > _MAX_FRAMES:
        raise ValueError(f"log_probs has {num_frames} frames, expected at most {_MAX_FRAMES} with backend='k2'")
