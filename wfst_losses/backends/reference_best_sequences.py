"""The N best distinct sequences of any graph, by the definition: each state hands on its N best, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph, GraphBatch
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.paths import Paths
from wfst_losses.memory_formulas import reference_search_work

Tokens = tuple[int, ...]


class _Way(NamedTuple):
    """The best path found to a state that writes a sequence."""

    score: float
    graph_score: float
    labels: Tokens


Ways = dict[Tokens, _Way]


def best_sequences(graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor, num_paths: int) -> Paths:
    """Ranked by the best path, then length, then lexicographically; on the CPU whatever the device of the emissions."""
    if emissions.budget.is_given:
        longest, most_arcs = int(emissions.input_lengths.max(initial=0)), int(np.diff(graphs.arc_splits).max(initial=0))
        work = reference_search_work(num_paths, longest, most_arcs)
        emissions.require(f"the {num_paths:,} best sequences", work._replace(held=3 * emissions.num_bytes))
    log_probs = emissions.log_probs.detach().double().cpu().numpy()
    found: list[tuple[int, Tokens, _Way]] = []
    for index, utterance in enumerate(utterances.tolist()):
        scores = log_probs[utterance, : emissions.input_lengths[utterance]]
        ended = _ended(graphs.graph(index), scores, num_paths)
        found += [(utterance, tokens, way) for tokens, way in _ranked(ended, num_paths)]
    num_frames = int(emissions.input_lengths.max(initial=0))
    steps = np.full((len(found), num_frames), -1, dtype=np.int64)
    for row, (_, _, way) in enumerate(found):
        steps[row, : len(way.labels)] = way.labels
    return Paths(
        steps,
        [np.array(tokens, dtype=np.int64) for _, tokens, _ in found],
        np.array([utterance for utterance, _, _ in found], dtype=np.int64),
        np.array([way.graph_score for _, _, way in found]),
    )


def _ranked(ways: Ways, num_paths: int) -> list[tuple[Tokens, _Way]]:
    return sorted(ways.items(), key=lambda item: (-item[1].score, len(item[0]), item[0]))[:num_paths]


def _ended(graph: Graph, log_probs: npt.NDArray[np.float64], num_paths: int) -> Ways:
    """The sequences of whole paths."""
    leaving: list[list[int]] = [[] for _ in range(graph.num_states)]
    for arc in range(graph.num_arcs):
        leaving[graph.source[arc]].append(arc)
    here: list[Ways] = [{} for _ in range(graph.num_states)]
    here[graph.start][()] = _Way(0.0, 0.0, ())
    for frame in range(len(log_probs) + 1):
        ahead: list[Ways] = [{} for _ in range(graph.num_states)]
        # Virtual arcs lead to states of higher numbers.
        for state in range(graph.num_states):
            here[state] = dict(_ranked(here[state], num_paths))
            for arc in leaving[state]:
                label = int(graph.input_label[arc])
                if label == EPSILON:
                    _extend(here[state].items(), graph, arc, 0.0, here[graph.destination[arc]])
                elif frame < len(log_probs):
                    emission = float(log_probs[frame, label])
                    _extend(here[state].items(), graph, arc, emission, ahead[graph.destination[arc]])
        if frame < len(log_probs):
            here = ahead
    ended: Ways = {}
    for state, ways in enumerate(here):
        final_score = float(graph.final_score[state])
        _keep(((tokens, way.score + final_score, way.graph_score + final_score, way.labels)
               for tokens, way in ways.items()), ended)  # fmt: skip
    return ended


def _extend(ways: Iterable[tuple[Tokens, _Way]], graph: Graph, arc: int, emission: float, reached: Ways) -> None:
    label, output, score = int(graph.input_label[arc]), int(graph.output_label[arc]), float(graph.score[arc])
    written = () if output == EPSILON else (output,)
    read = () if label == EPSILON else (label,)
    _keep(((tokens + written, way.score + (score + emission), way.graph_score + score, way.labels + read)
           for tokens, way in ways), reached)  # fmt: skip


def _keep(ways: Iterable[tuple[Tokens, float, float, Tokens]], reached: Ways) -> None:
    """Add the ways that are better than any yet; none leads through NaN."""
    for tokens, score, graph_score, labels in ways:
        if score > -np.inf and (tokens not in reached or score > reached[tokens].score):
            reached[tokens] = _Way(score, graph_score, labels)
