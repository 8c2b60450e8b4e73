"""Decoding: the best path of every utterance through a compiled graph, and its best distinct sequences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from topologies import GraphBatch
from wfst_losses.backends import get_backend
from wfst_losses.emissions import Emissions, for_best_paths, read_emissions
from wfst_losses.graphs.decoding_graph import DecodingGraph
from wfst_losses.validation import Lengths, check_choice, check_count, check_instance, check_number


class Decoded(NamedTuple):
    """What each of ``B`` utterances was heard to say.

    Attributes:
        sequences: B lists of tokens or, where the graph writes words, of words' ids; empty where no path fits.
        scores: ``(B,)`` float64, nats, of the whole best path; -inf where no path fits.
    """

    sequences: list[list[int]]
    scores: torch.Tensor


class DecodedNBest(NamedTuple):
    """The best hypotheses of each of ``B`` utterances, best first.

    Attributes:
        sequences: B lists of at most ``num_paths`` distinct sequences, as in `Decoded`; empty where no path fits.
        scores: B tensors, float64, nats, of the best path of each sequence.
    """

    sequences: list[list[list[int]]]
    scores: list[torch.Tensor]


def decode(
    graph: DecodingGraph,
    log_probs: torch.Tensor,
    input_lengths: Lengths,
    *,
    backend: str = "auto",
    from_logits: bool = False,
    search_beam: float = 20.0,
    output_beam: float = 8.0,
    max_active_states: int = 10_000,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> Decoded:
    """The output of the best path of each utterance: ``argmax_path sum_t log_probs[t, label_t] + graph score``.

    Any graph goes with any network of as many labels: a network trained with selfless may be decoded with minimal.
    Backends "native" and "reference" search exactly, in memory that grows with frames times states: for graphs of up to
    some hundred thousand states. "k2" prunes (`k2.intersect_dense_pruned`), for graphs of any size, and takes the
    graph's epsilon-free form.

    Args:
        graph: see `decoding_graph`.
        log_probs: ``(B, T, V)`` nats; rows need not be normalised.
        input_lengths: ``(B,)`` frames.
        backend: as in `ctc_loss`.
        from_logits: ``log_probs`` are logits.
        search_beam, output_beam, max_active_states: of k2; others do not prune.
        nonfinite: what NaN or +inf in a live frame does: "raise", "drop" (no path fits) or "pass": a label whose
            log-prob is one is read by no path, and of logits such a frame has no labels at all.
        max_memory: as in `ctc_loss`; k2's pruned lattices are told as an upper bound, mostly far too high, and held
            against a limit only where one is given.

    Raises:
        ValueError: naming the argument, what was expected and what came, also for a graph that reads labels which the
            network does not have.
        MemoryLimitError: before it is taken, with the prediction.

    >>> import topologies
    >>> from wfst_losses import decoding_graph
    >>> log_probs = torch.tensor([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]]).log()
    >>> decode(decoding_graph(topologies.build("correct", 3)), log_probs, [3]).sequences
    [[1, 2]]
    """
    beams = (search_beam, output_beam, max_active_states)
    emissions = _emissions(graph, log_probs, input_lengths, backend, from_logits, beams, nonfinite, max_memory)
    if backend == "k2":
        from wfst_losses.backends.k2.decoding import best_outputs

        sequences, scores = best_outputs(graph.graph, emissions, *beams)
    else:
        engine = get_backend(backend, emissions.scores.device)
        utterances = torch.arange(emissions.num_utterances)
        found = engine.best_paths(GraphBatch.from_graphs([graph.graph]), emissions, utterances)
        sequences, scores = [tokens.tolist() for tokens in found.tokens], torch.from_numpy(found.scores)
    for utterance in np.flatnonzero(emissions.dropped).tolist():
        sequences[utterance], scores[utterance] = [], -torch.inf
    return Decoded(sequences, scores)


def decode_nbest(
    graph: DecodingGraph,
    log_probs: torch.Tensor,
    input_lengths: Lengths,
    num_paths: int,
    *,
    backend: str = "auto",
    from_logits: bool = False,
    search_beam: float = 20.0,
    output_beam: float = 8.0,
    max_active_states: int = 10_000,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> DecodedNBest:
    """The ``num_paths`` best distinct outputs of each utterance, or all there are.

    ``score(y) = max over paths that write y of sum_t log_probs[t, label_t] + graph score``: sequences are ranked by
    their best path, equals by length, then in lexicographic order. Exact with "native" and "reference"; with "k2" exact
    for the pruned lattice: none worse than ``output_beam`` below the best is found, so raise it for long lists.

    Args:
        graph, log_probs, input_lengths, backend, from_logits, nonfinite, max_memory: see `decode`; so are the beams.
        num_paths: N.

    Raises:
        ValueError: as `decode`, and for ``num_paths`` below 1.
        MemoryLimitError: as `decode`; a search that grows stops before it would take more.

    >>> import topologies
    >>> from wfst_losses import decoding_graph
    >>> log_probs = torch.tensor([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]]).log()
    >>> decode_nbest(decoding_graph(topologies.build("correct", 3)), log_probs, [3], num_paths=2).sequences
    [[[1, 2], [1]]]
    """
    check_count("num_paths", num_paths)
    beams = (search_beam, output_beam, max_active_states)
    emissions = _emissions(graph, log_probs, input_lengths, backend, from_logits, beams, nonfinite, max_memory)
    if backend == "k2":
        from wfst_losses.backends.k2.decoding import nbest_outputs

        return _without_dropped(DecodedNBest(*nbest_outputs(graph.graph, emissions, num_paths, *beams)), emissions)
    engine = get_backend(backend, emissions.scores.device)
    utterances = torch.arange(emissions.num_utterances)
    found = engine.best_sequences(GraphBatch.from_graphs([graph.graph]), emissions, utterances, num_paths)
    sequences: list[list[list[int]]] = [[] for _ in range(emissions.num_utterances)]
    scores: list[list[float]] = [[] for _ in range(emissions.num_utterances)]
    read = emissions.scores.detach().cpu().numpy()
    for row, utterance in enumerate(found.utterances.tolist()):
        labels = found.steps[row, : emissions.input_lengths[utterance]]
        emitted = read[utterance, np.arange(len(labels)), labels].astype(np.float64)
        acoustic = float((emitted - emissions.log_sums[utterance, : len(labels)]).sum())
        sequences[utterance].append(np.asarray(found.tokens[row]).tolist())
        scores[utterance].append(acoustic + float(found.graph_scores[row]))
    rows = [torch.tensor(row, dtype=torch.float64) for row in scores]
    return _without_dropped(DecodedNBest(sequences, rows), emissions)


def _without_dropped(found: DecodedNBest, emissions: Emissions) -> DecodedNBest:
    for utterance in np.flatnonzero(emissions.dropped).tolist():
        found.sequences[utterance], found.scores[utterance] = [], found.scores[utterance][:0]
    return found


def _emissions(
    graph: DecodingGraph,
    log_probs: torch.Tensor,
    input_lengths: Lengths,
    backend: str,
    from_logits: bool,
    beams: tuple[float, float, int],
    nonfinite: str,
    max_memory: int | None,
) -> Emissions:
    """What both are given, checked."""
    check_instance("graph", graph, DecodingGraph, "a DecodingGraph, such as decoding_graph gives")
    check_choice("backend", backend, ("auto", "native", "reference", "k2"))
    search_beam, output_beam, max_active_states = beams
    check_number("search_beam", search_beam, above=0.0)
    check_number("output_beam", output_beam, above=0.0)
    check_count("max_active_states", max_active_states)
    emissions = read_emissions(
        log_probs,
        input_lengths,
        from_logits=from_logits,
        check_normalised=False,
        nonfinite=nonfinite,
        max_memory=max_memory,
    )
    most = int(graph.graph.input_label.max(initial=-1))
    if most >= emissions.num_labels:
        raise ValueError(f"graph reads label {most} but log_probs has {emissions.num_labels} columns, expected more")
    return for_best_paths(emissions)
