"""Best paths: a topology alone, or a topology composed with the closed ten-word lexicon."""

from __future__ import annotations

import dataclasses

import numpy as np
from lexicon import WORDS, spell

import topologies
from topologies import EPSILON, Graph, GraphBatch
from wfst_losses import LanguageModel


def lexicon_graph(tokens: list[str]) -> Graph:
    """Return the transducer from tokens to any sequence of the ten words; output label is the digit."""
    label_of = {token: label for label, token in enumerate(tokens)}
    arcs = []
    num_states = 1
    for word_id, word in enumerate(WORDS):
        state = 0
        spelling = spell(word)
        for position, token in enumerate(spelling):
            last = position == len(spelling) - 1
            destination = 0 if last else num_states
            arcs.append((state, destination, label_of[token], word_id if last else EPSILON))
            num_states += not last
            state = destination
    columns = np.array(arcs, dtype=np.int32).T
    final_score = np.full(num_states, -np.inf, dtype=np.float32)
    final_score[0] = 0.0
    return Graph(*columns, score=np.zeros(len(arcs), dtype=np.float32), final_score=final_score, start=0)


def search_graph(topology: str, tokens: list[str], *, lexicon: bool) -> Graph:
    """Return the epsilon-free graph to search: it writes tokens, or with ``lexicon`` digits."""
    graph = topologies.without_epsilons(topologies.build(topology, len(tokens)).graph())
    if not lexicon:
        return graph
    return topologies.compose(graph, GraphBatch.from_graphs([lexicon_graph(tokens)])).graph(0)


def language_model_graph(topology: str, tokens: list[str], model: LanguageModel, scale: float) -> Graph:
    """Return the topology weighed by a token language model, to search for tokens; back-off is free, as in icefall."""
    arcs = model.graph("epsilon")
    scaled = dataclasses.replace(arcs, score=arcs.score * scale, final_score=arcs.final_score * scale)
    graph = topologies.build(topology, len(tokens)).graph()
    return topologies.without_epsilons(topologies.compose(graph, GraphBatch.from_graphs([scaled])).graph(0))


def best_paths(graph: Graph, log_probs: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """Return what the best path of each utterance writes (Viterbi); ties go to arcs that write nothing.

    In the compact topology a run of one label is one token or several, at the same score: it is read as one.

    Args:
        graph: without epsilon input labels, as `search_graph` makes them.
        log_probs: ``(B, T, V)``, nats.
        lengths: ``(B,)``, frames. An utterance no path fits writes nothing.
    """
    order = np.lexsort((graph.output_label != EPSILON, graph.destination))
    source, label = graph.source[order], graph.input_label[order]
    arc_score, output = graph.score[order], graph.output_label[order]
    reached, first_arc = np.unique(graph.destination[order], return_index=True)
    num_utterances, num_frames, _ = log_probs.shape
    score = np.full((num_utterances, graph.num_states), -np.inf, dtype=np.float32)
    score[:, graph.start] = 0.0
    backward = np.zeros((num_frames, num_utterances, graph.num_states), dtype=np.int32)
    for frame in range(num_frames):
        candidates = score[:, source] + log_probs[:, frame, label] + arc_score
        best = np.maximum.reduceat(candidates, first_arc, axis=1)
        new_score = np.full_like(score, -np.inf)
        new_score[:, reached] = best
        widths = np.diff(first_arc, append=len(source))
        # The position of the first arc that attains its state's best.
        attains = np.where(candidates == np.repeat(best, widths, axis=1), np.arange(len(source)), len(source))
        backward[frame][:, reached] = np.minimum.reduceat(attains, first_arc, axis=1)
        live = (frame < lengths)[:, None]
        score = np.where(live, new_score, score)
    final = score + graph.final_score
    results = []
    for utterance in range(num_utterances):
        state = int(final[utterance].argmax())
        written: list[int] = []
        if final[utterance, state] > -np.inf:
            for frame in range(int(lengths[utterance]) - 1, -1, -1):
                arc = backward[frame, utterance, state]
                if output[arc] != EPSILON:
                    written.append(int(output[arc]))
                state = int(source[arc])
        results.append(written[::-1])
    return results
