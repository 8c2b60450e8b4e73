"""The reference backend: float64 torch, one line per step of the definition, differentiated by autograd."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, GraphBatch
from wfst_losses.backends.backend import AbstractBackend, GraphScores
from wfst_losses.backends.memory import reference_work
from wfst_losses.emissions import Emissions
from wfst_losses.memory_formulas import Work
from wfst_losses.runs import note
from wfst_losses.semiring import segment_logsumexp


@dataclasses.dataclass(frozen=True)
class ReferenceBackend(AbstractBackend):
    """Forward recursion over all arcs of all graphs at once, frame by frame, in the log domain and in float64."""

    name = "reference"

    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """The definition itself; memory grows with frames times arcs."""
        emissions.require("the sums of the definition", self.total_work(graphs, emissions, utterances))
        note(self.name, "graph per utterance", ["float64, logarithms"] * graphs.num_graphs)
        return _totals(graphs, Arcs.of(graphs, utterances, emissions.scores.device), emissions)

    def total_work(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> Work:
        """Frames times arcs, with a gradient."""
        return reference_work(graphs, emissions, utterances.numpy())

    def shared_total_work(
        self,
        graph: GraphBatch,
        emissions: Emissions,
        scores: GraphScores | None = None,  # noqa: ARG002 (take no more)
        memory: str = "full",  # noqa: ARG002
    ) -> Work:
        """As many copies of the graph as utterances."""
        utterances = np.arange(emissions.num_utterances)
        return reference_work(graph, emissions, utterances, num_copies=len(utterances))

    def shared_total_scores(
        self,
        graph: GraphBatch,
        emissions: Emissions,
        scores: GraphScores | None = None,
        memory: str = "full",  # noqa: ARG002 (for backends that know how)
    ) -> torch.Tensor:
        """As many copies of the graph as utterances."""
        note(self.name, "shared graph", ["float64, logarithms"] * emissions.num_utterances)
        emissions.require("the sums of the definition", self.shared_total_work(graph, emissions))
        graphs, device = graph.repeated(emissions.num_utterances), emissions.scores.device
        arcs = Arcs.of(graphs, torch.arange(emissions.num_utterances), device)
        if scores is not None:
            arcs = arcs.scored(graphs, GraphScores(*(part.to(device).repeat(graphs.num_graphs) for part in scores)))
        return _totals(graphs, arcs, emissions)


def _totals(graphs: GraphBatch, arcs: Arcs, emissions: Emissions) -> torch.Tensor:
    """Forward over all frames."""
    log_probs = emissions.log_probs.double()
    lengths = torch.as_tensor(emissions.input_lengths, device=log_probs.device)[arcs.utterance_of_state]
    alpha = torch.full((graphs.num_states,), -torch.inf, dtype=torch.float64, device=log_probs.device)
    alpha[torch.as_tensor(graphs.starts, dtype=torch.int64)] = 0.0
    alpha = arcs.follow_epsilons(alpha)
    for frame in range(int(lengths.max()) if len(lengths) else 0):
        scores = alpha[arcs.source] + arcs.score + log_probs[arcs.utterance, frame, arcs.label]
        reached = arcs.follow_epsilons(segment_logsumexp(scores, arcs.destination, graphs.num_states))
        alpha = torch.where(frame < lengths, reached, alpha)
    graph_of_state = torch.as_tensor(graphs.graph_of_state, dtype=torch.int64, device=log_probs.device)
    totals = segment_logsumexp(alpha + arcs.final_score, graph_of_state, graphs.num_graphs)
    return totals + emissions.anchor


@dataclasses.dataclass(frozen=True, eq=False)
class Arcs:
    """A batch of graphs as torch columns: arcs that read a label, and virtual arcs in layers."""

    source: torch.Tensor
    destination: torch.Tensor
    label: torch.Tensor
    output: torch.Tensor
    score: torch.Tensor
    utterance: torch.Tensor
    utterance_of_state: torch.Tensor
    final_score: torch.Tensor
    virtual_source: torch.Tensor
    virtual_destination: torch.Tensor
    virtual_output: torch.Tensor
    virtual_score: torch.Tensor
    virtual_layers: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, graphs: GraphBatch, utterances: torch.Tensor, device: torch.device) -> Arcs:
        """Columns of ``graphs`` on ``device``."""
        reads = graphs.input_label != EPSILON
        utterance_of_state = utterances.numpy()[graphs.graph_of_state]

        def column(values: npt.NDArray[Any], dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.as_tensor(np.array(values), dtype=dtype, device=device)

        source, destination = graphs.source, graphs.destination
        return cls(
            source=column(source[reads]),
            destination=column(destination[reads]),
            label=column(graphs.input_label[reads]),
            output=column(graphs.output_label[reads]),
            score=column(graphs.score[reads], torch.float64),
            utterance=column(utterance_of_state[source[reads]]),
            utterance_of_state=column(utterance_of_state),
            final_score=column(graphs.final_score, torch.float64),
            virtual_source=column(source[~reads]),
            virtual_destination=column(destination[~reads]),
            virtual_output=column(graphs.output_label[~reads]),
            virtual_score=column(graphs.score[~reads], torch.float64),
            virtual_layers=tuple(column(layer) for layer in _layers(source[~reads], destination[~reads])),
        )

    def scored(self, graphs: GraphBatch, scores: GraphScores) -> Arcs:
        """The same arcs with other scores, given in the order of the graphs' columns."""
        reads = torch.from_numpy(graphs.input_label != EPSILON).to(self.score.device)
        return dataclasses.replace(
            self, score=scores.arcs[reads], virtual_score=scores.arcs[~reads], final_score=scores.finals
        )

    def follow_epsilons(self, alpha: torch.Tensor) -> torch.Tensor:
        """Add to each state what reaches it by virtual arcs, in the same frame."""
        for layer in self.virtual_layers:
            scores = alpha[self.virtual_source[layer]] + self.virtual_score[layer]
            arriving = segment_logsumexp(scores, self.virtual_destination[layer], len(alpha))
            alpha = segment_logsumexp(
                torch.cat([alpha, arriving]), torch.arange(len(alpha), device=alpha.device).repeat(2), len(alpha)
            )
        return alpha


def _layers(source: npt.NDArray[np.int32], destination: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int64]]:
    """Virtual arcs grouped so that all arcs into an arc's source lie in earlier groups."""
    depth: dict[int, int] = {}
    layer = np.zeros(len(source), dtype=np.int64)
    # Virtual arcs lead upwards, so ascending sources meet every arc after those that feed it.
    for arc in np.argsort(source, kind="stable").tolist():
        layer[arc] = depth.get(int(source[arc]), 0)
        target = int(destination[arc])
        depth[target] = max(depth.get(target, 0), int(layer[arc]) + 1)
    return [np.flatnonzero(layer == index) for index in range(int(layer.max(initial=-1)) + 1)]
