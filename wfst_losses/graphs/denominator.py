"""The denominator graph of MMI: a topology composed with a language model, the same for all utterances."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch

from topologies import (
    EPSILON,
    AbstractTopology,
    Composition,
    Graph,
    GraphBatch,
    compose_graph,
    contracted,
    is_inner,
    without_epsilons,
)
from topologies.topology import factored_of, graph_of
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.language_model import LanguageModel


@functools.lru_cache(maxsize=4)
def denominator(
    topology: AbstractTopology,
    model: LanguageModel,
    *,
    backoff: str = "failure",
    blank: int = 0,
    epsilon_free: bool = False,
    factored: bool = False,
) -> GraphBatch:
    """The topology's paths, each with the model's score of what it writes: a batch of one, kept between calls.

    Input labels are columns of the network's output, output labels tokens as graphs number them (blank 0). With
    ``factored`` the topology's `factored` graph takes part in place of its own: about as many arcs as labels and
    n-grams, where a unigram state behind the correct topology has as many as pairs of labels.

    Raises:
        ValueError: if the model reads the blank.
    """
    batch = _joined(topology, _inside(model.graph(backoff), blank), factored).batch
    if epsilon_free:
        batch = GraphBatch.from_graphs([without_epsilons(batch.graph(0))])
    return reading_columns(batch, blank)


def scored_denominator(
    topology: AbstractTopology,
    model: LanguageModel,
    scores: torch.Tensor,
    *,
    backoff: str = "failure",
    blank: int = 0,
    factored: bool = False,
) -> tuple[GraphBatch, torch.Tensor, torch.Tensor]:
    """`denominator` with other scores of the model's arcs: the graph, its arc scores and its final scores.

    Both score columns are float64 on the CPU, attached to ``scores``. The graph's own columns are to be ignored: it is
    composed once for all scores that lead to the same arcs.
    """
    realised = model.realised(scores, backoff=backoff)
    found = _composed(
        topology, _Structure(model, backoff, realised.expanded.tobytes(), realised.graph), blank, factored
    )
    graph = factored_of(topology) if factored else graph_of(topology)
    left_scores = torch.from_numpy(found.left_score)
    # Index -1, no arc on that side, finds the zero at the end.
    right_scores = torch.cat([realised.arc_scores, torch.zeros(1, dtype=torch.float64)])
    left_finals = torch.from_numpy(graph.final_score[found.left_state].astype(np.float64))
    arc_scores = left_scores + right_scores[torch.from_numpy(found.right_arc)]
    final_scores = left_finals + realised.final_scores[torch.from_numpy(found.right_state)]
    return reading_columns(found.batch, blank), arc_scores, final_scores


@dataclasses.dataclass(frozen=True)
class _Structure:
    """What decides the arcs of a realised model, and the first graph with them."""

    model: LanguageModel
    backoff: str
    expanded: bytes
    graph: Graph = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=4)
def _composed(topology: AbstractTopology, structure: _Structure, blank: int, factored: bool) -> Composition:
    return _joined(topology, _inside(structure.graph, blank), factored)


def _joined(topology: AbstractTopology, model: Graph, factored: bool) -> Composition:
    if not factored:
        return compose_graph(graph_of(topology), model)
    num_real = topology.size().num_states
    found = compose_graph(factored_of(topology), model, num_real=num_real)
    return contracted(found, is_inner(found, num_real))


def _inside(model: Graph, blank: int) -> Graph:
    """An acceptor of the network's tokens as one of the graphs' tokens, where blank is 0."""
    reads = model.input_label != EPSILON
    if np.any(model.input_label[reads] == blank):
        raise ValueError(f"language_model reads label {blank}, the blank; expected tokens only")
    token = model.input_label.copy()
    token[reads] = tokens_inside([model.input_label[reads].astype(np.int64)], blank)[0]
    return dataclasses.replace(model, input_label=token, output_label=token)
