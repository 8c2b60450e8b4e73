"""The best path of any graph in float64 torch: maxima backwards over the frames, then one walk forwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, GraphBatch
from wfst_losses.backends.memory import reference_path_work
from wfst_losses.backends.reference import Arcs
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.memory_formulas import Work


def best_paths(graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> BestPaths:
    """One path per graph, on the CPU whatever the device of the emissions; ties as `AbstractBackend.best_paths`."""
    emissions.require("the best paths", reference_path_work(graphs, emissions, utterances.numpy()))
    with torch.no_grad():
        log_probs = emissions.log_probs.detach().double().cpu().nan_to_num(-torch.inf, torch.inf, -torch.inf)
        arcs = Arcs.of(graphs, utterances, log_probs.device)
        lengths = torch.as_tensor(emissions.input_lengths)[utterances]
        scores, choices = _choices(graphs, arcs, log_probs, lengths)
    num_frames = int(lengths.max()) if len(lengths) else 0
    labels = np.full((graphs.num_graphs, num_frames), -1, dtype=np.int64)
    tokens, token_frames, graph_scores = [], [], []
    for graph, (start, length) in enumerate(zip(graphs.starts.tolist(), lengths.tolist(), strict=True)):
        state, frame, score, written = start, 0, 0.0, []
        while scores[graph] > -np.inf and (arc := int(choices[frame][state])) >= 0:
            score += float(graphs.score[arc])
            if graphs.output_label[arc] != EPSILON:
                written.append((int(graphs.output_label[arc]), min(frame, max(length - 1, 0))))
            if graphs.input_label[arc] != EPSILON:
                labels[graph, frame] = graphs.input_label[arc]
                frame += 1
            state = int(graphs.destination[arc])
        pairs = np.array(written, dtype=np.int64).reshape(-1, 2)
        tokens.append(pairs[:, 0])
        token_frames.append(pairs[:, 1])
        graph_scores.append(score + float(graphs.final_score[state]) if scores[graph] > -np.inf else -np.inf)
    return BestPaths(labels, tokens, utterances.numpy().astype(np.int64), np.array(graph_scores), token_frames, scores)


def masked_best_paths(
    graphs: GraphBatch,
    emissions: Emissions,
    utterances: torch.Tensor,
    columns: npt.NDArray[np.int64],
    masks: npt.NDArray[np.bool_],
) -> BestPaths:
    """A copy of the emissions per mask, with -inf where it hides a label."""
    num_readings, num_masks, num_frames = masks.shape
    copies = num_readings * num_masks * emissions.num_bytes // max(1, emissions.num_utterances)
    emissions.require(f"the best paths under {num_masks:,} masks", Work(held=copies))
    log_probs = emissions.log_probs.detach().cpu()[utterances].repeat_interleave(num_masks, dim=0)
    copy, frame = np.nonzero(masks.reshape(-1, num_frames))
    log_probs[copy, frame, columns[copy // num_masks, frame]] = -torch.inf
    copied = np.arange(num_readings).repeat(num_masks)
    shown = dataclasses.replace(
        emissions,
        scores=log_probs,
        log_sums=np.zeros(log_probs.shape[:2]),
        is_logits=False,
        input_lengths=emissions.input_lengths[utterances.numpy()[copied]],
        dropped=np.zeros(len(copied), dtype=bool),
    )
    batch = GraphBatch.from_graphs([graphs.graph(reading) for reading in copied.tolist()])
    paths = best_paths(batch, shown, torch.arange(len(copied)))
    return dataclasses.replace(paths, utterances=utterances.numpy()[copied].astype(np.int64))


def _choices(
    graphs: GraphBatch, arcs: Arcs, log_probs: torch.Tensor, lengths: torch.Tensor
) -> tuple[np.ndarray, list[torch.Tensor]]:
    """Each graph's best score; and for each frame and state the arc that begins the best rest, -1 to stop."""
    length_of_state = lengths[torch.as_tensor(graphs.graph_of_state, dtype=torch.int64)]
    reads = torch.as_tensor(graphs.input_label != EPSILON)
    column = torch.cat([torch.nonzero(reads).flatten(), torch.nonzero(~reads).flatten()])
    source = torch.cat([arcs.source, arcs.virtual_source])
    num_frames = int(lengths.max()) if len(lengths) else 0
    best = torch.full((graphs.num_states,), -torch.inf, dtype=torch.float64)
    choices = []
    for frame in range(num_frames, -1, -1):
        ended = torch.where(length_of_state == frame, arcs.final_score, -torch.inf)
        if frame < num_frames:
            reading = arcs.score + (log_probs[arcs.utterance, frame, arcs.label] + best[arcs.destination])
            reading[frame >= length_of_state[arcs.source]] = -torch.inf
        else:
            reading = torch.full((len(arcs.source),), -torch.inf, dtype=torch.float64)
        best = ended.scatter_reduce(0, arcs.source, reading, reduce="amax")
        for layer in reversed(arcs.virtual_layers):
            virtual = arcs.virtual_score[layer] + best[arcs.virtual_destination[layer]]
            best = best.scatter_reduce(0, arcs.virtual_source[layer], virtual, reduce="amax")
        ways = torch.cat([reading, arcs.virtual_score + best[arcs.virtual_destination]])
        # The first arc of those that attain the maximum; none where stopping does.
        attains = (ways == best[source]) & (ways > ended[source])
        first = torch.full((graphs.num_states,), graphs.num_arcs, dtype=torch.int64)
        first = first.scatter_reduce(0, source[attains], column[attains], reduce="amin")
        choices.append(torch.where(first < graphs.num_arcs, first, -1))
    return best[torch.as_tensor(graphs.starts, dtype=torch.int64)].numpy(), choices[::-1]
