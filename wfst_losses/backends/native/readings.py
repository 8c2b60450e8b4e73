"""Readings, a graph over an utterance each: sampled, or searched for the best path, on several threads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from topologies import GraphBatch
from wfst_losses.backends.memory import best_paths_work, masked_paths_work, sampling_work
from wfst_losses.backends.native import best_sequences, masked_viterbi, sampling, viterbi
from wfst_losses.backends.native.arc_sums import Ints, Rows, lay_out, weigh
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.compiled.threads import run_in_parallel
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.graphs.paths import Paths


def sample(
    graphs: GraphBatch,
    emissions: Emissions,
    utterances: torch.Tensor,
    num_paths: int,
    scale: float,
    generator: torch.Generator | None,
) -> Paths:
    """``num_paths`` paths of each reading that has any."""
    work = sampling_work(graphs, emissions, utterances.numpy(), num_paths)
    emissions.require(f"{num_paths:,} paths of each of {len(utterances):,} utterances", work)
    rows, inputs, utterance_of, graph_of, widths = _prepared(graphs, emissions, utterances)
    model = rows, weigh(rows, scale), float(scale)
    shape = (len(utterance_of), num_paths)
    # Impossible readings take seeds too: they make no difference to the others.
    seeds = torch.randint(0, 2**62, shape, generator=generator).numpy()
    drawn = sampling.Drawn(
        labels=np.full((*shape, widths[0]), -1, np.int32),
        tokens=np.empty((*shape, widths[1]), np.int32),
        num_tokens=np.zeros(shape, np.int64),
        graph_scores=np.zeros(shape),
        is_possible=np.zeros(len(utterance_of), dtype=bool),
    )
    run_in_parallel(
        lambda begin, end: sampling.draw(begin, end, model, inputs, graph_of, utterance_of, seeds, drawn),
        _costs(rows, graph_of, inputs.lengths[utterance_of]),
    )
    kept = drawn.is_possible
    num_drawn = int(kept.sum()) * num_paths
    return Paths(
        drawn.labels[kept].reshape(num_drawn, widths[0]).astype(np.int64),
        _sequences(drawn.tokens[kept].reshape(num_drawn, widths[1]), drawn.num_tokens[kept].reshape(-1)),
        np.repeat(utterance_of[kept], num_paths),
        drawn.graph_scores[kept].reshape(-1),
    )


def best(graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> BestPaths:
    """The best path of each reading."""
    emissions.require("the best paths", best_paths_work(graphs, emissions, utterances.numpy()))
    rows, inputs, utterance_of, graph_of, widths = _prepared(graphs, emissions, utterances)
    found = _room(len(utterance_of), widths)
    run_in_parallel(
        lambda begin, end: viterbi.find(begin, end, rows, inputs, graph_of, utterance_of, found),
        _costs(rows, graph_of, inputs.lengths[utterance_of]),
    )
    return _found(found, utterance_of)


def best_masked(
    graphs: GraphBatch,
    emissions: Emissions,
    utterances: torch.Tensor,
    columns: Ints,
    masks: npt.NDArray[np.bool_],
) -> BestPaths:
    """The best path of each reading under each of its masks."""
    rows, inputs, utterance_of, graph_of, widths = _prepared(graphs, emissions, utterances)
    num_readings, num_masks, _ = masks.shape
    # Whole lanes; those too many hide nothing and are dropped in the end.
    padding = -num_masks % masked_viterbi.LANES
    longest_row = int(np.diff(rows.arc_splits).max(initial=0))
    like = np.empty(0, np.int8 if longest_row < 128 else np.int16 if longest_row < 32_768 else np.int32)
    work = masked_paths_work(graphs, emissions, utterance_of, num_masks + padding, masked_viterbi.LANES, like.itemsize)
    emissions.require(f"the best paths under {num_masks:,} masks", work)
    padded = np.pad(masks, ((0, 0), (0, padding), (0, 0)))
    found = _room(num_readings * padded.shape[1], widths)
    hidden = masked_viterbi.Hidden(columns, padded, like)
    run_in_parallel(
        lambda begin, end: masked_viterbi.find(begin, end, rows, inputs, graph_of, utterance_of, hidden, found),
        _costs(rows, graph_of, inputs.lengths[utterance_of]),
    )
    asked = (np.arange(len(found.scores)) % padded.shape[1]) < num_masks if padding else slice(None)
    return _found(viterbi.Found._make(column[asked] for column in found), utterance_of.repeat(num_masks))


def _room(num_paths: int, widths: tuple[int, int]) -> viterbi.Found:
    return viterbi.Found(
        labels=np.full((num_paths, widths[0]), -1, np.int32),
        tokens=np.empty((num_paths, widths[1]), np.int32),
        token_frames=np.empty((num_paths, widths[1]), np.int32),
        num_tokens=np.zeros(num_paths, np.int64),
        graph_scores=np.zeros(num_paths),
        scores=np.zeros(num_paths),
    )


def _found(found: viterbi.Found, utterance_of: Ints) -> BestPaths:
    return BestPaths(
        found.labels.astype(np.int64),
        _sequences(found.tokens, found.num_tokens),
        utterance_of,
        found.graph_scores,
        _sequences(found.token_frames, found.num_tokens),
        found.scores,
    )


def best_distinct(graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor, num_paths: int) -> Paths:
    """The best distinct sequences of each reading that has any."""
    rows, inputs, utterance_of, graph_of, _ = _prepared(graphs, emissions, utterances)
    costs = _costs(rows, graph_of, inputs.lengths[utterance_of])
    return best_sequences.find(rows, inputs, graph_of, utterance_of, num_paths, costs, emissions.budget)


def _prepared(
    graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor
) -> tuple[Rows, Inputs, Ints, Ints, tuple[int, int]]:
    """Rows, inputs, each reading's utterance and graph, and the most frames and tokens that a path can have."""
    rows = lay_out(graphs)
    inputs = Inputs(emissions.scores.detach().cpu().contiguous().numpy(), emissions.log_sums, emissions.input_lengths)
    utterance_of = utterances.numpy().astype(np.int64)
    is_shared = graphs.num_graphs == 1
    graph_of = np.zeros(len(utterance_of), np.int64) if is_shared else np.arange(len(utterance_of))
    num_frames = int(inputs.lengths[utterance_of].max(initial=0))
    most_written = int(rows.most_written.max(initial=0))
    return rows, inputs, utterance_of, graph_of, (num_frames, num_frames + (num_frames + 1) * most_written)


def _costs(rows: Rows, graph_of: Ints, num_frames: Ints) -> Ints:
    num_arcs = np.diff(rows.arc_splits[rows.state_splits])
    return num_arcs[graph_of] * (num_frames + 1)


def _sequences(columns: npt.NDArray[np.int32], counts: Ints) -> list[npt.NDArray[np.int64]]:
    return [row[:count].astype(np.int64) for row, count in zip(columns, counts.tolist(), strict=True)]
