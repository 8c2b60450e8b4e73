"""What the parts of a call take, told from its graphs and lengths before anything is allocated.

Counted is what each backend allocates beside the emissions that are there already, the gradient that it writes
included. `Emissions.require` holds it against the limit, together with what earlier parts of the call still keep.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph, GraphBatch
from wfst_losses import memory_formulas
from wfst_losses.emissions import Emissions
from wfst_losses.memory_formulas import Work

Ints = npt.NDArray[np.int64]


def training_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> Work:
    """The native sums of a graph per utterance."""
    return memory_formulas.training_work(
        emissions.input_lengths[utterances],
        np.diff(graphs.state_splits).astype(np.int64),
        _columns(graphs),
        item_bytes=emissions.scores.element_size(),
        num_threads=torch.get_num_threads(),
        gradient_bytes=gradient_bytes(emissions),
    )


def shared_work(graph: GraphBatch, emissions: Emissions, *, is_low_memory: bool, with_arcs: bool) -> Work:
    """The native sums of a shared graph, and its layout, which is kept between calls."""
    entered = graph.destination[graph.input_label != EPSILON]
    is_double = with_arcs or emissions.scores.dtype == torch.float64
    work = memory_formulas.shared_work(
        num_frames=int(emissions.input_lengths.max(initial=0)),
        num_utterances=emissions.num_utterances,
        num_labels=emissions.num_labels,
        num_states=graph.num_states,
        num_reading=int(np.count_nonzero(np.bincount(entered, minlength=1))),
        num_arcs=graph.num_arcs,
        is_low_memory=is_low_memory,
        num_threads=torch.get_num_threads(),
        gradient_bytes=gradient_bytes(emissions),
        output_bytes=emissions.num_bytes,
        arcs_with_gradient=(graph.num_arcs + graph.num_states) * with_arcs,
        item_bytes=8 if is_double else 4,
    )
    return work._replace(kept=work.kept + memory_formulas.SHARED_ARC_BYTES * graph.num_arcs)


def cuda_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints, *, is_shared: bool) -> Work:
    """The native sums on CUDA; of a shared graph, utterances for which scaled sums do not do run again beside it."""
    reads = graphs.input_label != EPSILON
    ports = np.unique(graphs.destination[reads].astype(np.int64) << 32 | graphs.input_label[reads])
    item_bytes = emissions.scores.element_size()
    return memory_formulas.cuda_work(
        num_frames=int(emissions.input_lengths[utterances].max(initial=0)),
        num_ports=len(ports),
        num_columns=int(_columns(graphs).sum()),
        num_arcs=graphs.num_arcs,
        num_lanes=len(utterances) if is_shared else 1,
        factor_bytes=emissions.num_bytes if is_shared else 0,
        item_bytes=item_bytes,
        sum_bytes=item_bytes if is_shared else 8,
        gradient_bytes=gradient_bytes(emissions),
    )


def sampling_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints, num_paths: int) -> Work:
    """The native draws: the paths, and on each thread the sums of one utterance."""
    return _paths_over(graphs, emissions, utterances, num_paths, bytes_each=16)


def best_paths_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> Work:
    """The native best paths: the way back from each state at each frame, on each thread."""
    return _paths_over(graphs, emissions, utterances, 1, bytes_each=4)


def masked_paths_work(
    graphs: GraphBatch, emissions: Emissions, utterances: Ints, num_masks: int, lanes: int, bytes_each: int
) -> Work:
    """The native best paths under masks, several of them side by side on each thread."""
    found = _paths_over(graphs, emissions, utterances, num_masks, lanes * bytes_each)
    # The masks, padded to whole lanes.
    return found._replace(room=found.room + len(utterances) * num_masks * emissions.scores.shape[1])


def path_score_work(num_paths: int, num_frames: int, emissions: Emissions) -> Work:
    """The scores of single paths, gathered by torch."""
    return memory_formulas.path_score_work(
        num_paths,
        num_frames,
        item_bytes=emissions.scores.element_size(),
        output_bytes=emissions.num_bytes,
        is_logits=emissions.is_logits,
        needs_gradient=emissions.scores.requires_grad and torch.is_grad_enabled(),
    )


def enumeration_work(graph: Graph, num_paths: npt.NDArray[np.float64], emissions: Emissions) -> Work:
    """All paths of the graph, so many of each utterance."""
    longest = int(emissions.input_lengths.max(initial=0))
    tokens = _most_tokens(GraphBatch.from_graphs([graph]), longest)
    return memory_formulas.enumeration_work(int(num_paths.sum()), int(num_paths.max(initial=0)), longest, tokens)


def _paths_over(graphs: GraphBatch, emissions: Emissions, utterances: Ints, num_paths: int, bytes_each: int) -> Work:
    frames = emissions.input_lengths[utterances]
    longest = int(frames.max(initial=0))
    num_states = np.diff(graphs.state_splits).astype(np.int64)
    found = memory_formulas.path_work(num_paths * len(utterances), longest, _most_tokens(graphs, longest))
    states = np.broadcast_to(num_states, frames.shape) if len(num_states) == 1 else num_states
    room = memory_formulas.frame_states_room(frames, states, bytes_each, torch.get_num_threads())
    return found._replace(room=found.room + room)


def _most_tokens(graphs: GraphBatch, num_frames: int) -> int:
    """A token per frame, and one more between frames where virtual arcs write."""
    writes_between = bool(((graphs.input_label == EPSILON) & (graphs.output_label != EPSILON)).any())
    return num_frames + (num_frames + 1) * writes_between


def reference_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints, *, num_copies: int = 1) -> Work:
    """What autograd keeps of the definition's sums, frame by frame."""
    return memory_formulas.reference_work(
        num_frames=int(emissions.input_lengths[utterances].max(initial=0)),
        num_states=num_copies * graphs.num_states,
        num_arcs=num_copies * graphs.num_arcs,
        num_virtual=num_copies * graphs.num_epsilon_arcs,
        output_bytes=emissions.num_bytes,
        needs_gradient=emissions.scores.requires_grad and torch.is_grad_enabled(),
    )


def reference_path_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints, num_paths: int = 1) -> Work:
    """The definition's draws and best paths."""
    return memory_formulas.reference_path_work(
        num_paths=num_paths * graphs.num_graphs,
        num_frames=int(emissions.input_lengths[utterances].max(initial=0)),
        num_states=graphs.num_states,
        num_arcs=graphs.num_arcs,
        output_bytes=emissions.num_bytes,
        item_bytes=emissions.scores.element_size(),
    )


def k2_pruned_work(graph: Graph, emissions: Emissions, max_active_states: int) -> Work:
    """An upper bound of a pruned search of one graph over all utterances."""
    leaving = np.sort(np.bincount(graph.source, minlength=graph.num_states))[-max_active_states:]
    return memory_formulas.k2_pruned_work(emissions.input_lengths, int(leaving.sum()), emissions.num_bytes)


def k2_work(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> Work:
    """An upper bound of k2's lattices."""
    frames, owner = emissions.input_lengths[utterances], graphs.graph_of_state[graphs.source]
    # Arcs over two states at most, as targets have them, take as many frames as half the states; others need not.
    step = graphs.destination.astype(np.int64) - graphs.source
    is_chain = np.bincount(owner[(step < 0) | (step > 2)], minlength=graphs.num_graphs) == 0
    spent = np.where(is_chain, np.diff(graphs.state_splits) // 2, 0)
    num_arcs = memory_formulas.k2_training_arcs(frames, spent, np.diff(graphs.arc_splits).astype(np.int64))
    return memory_formulas.k2_work(num_arcs, emissions.num_bytes)


def gradient_bytes(emissions: Emissions) -> int:
    """Of the emissions' gradient, 0 where there will be none."""
    return emissions.num_bytes * emissions.scores.requires_grad


def _columns(graphs: GraphBatch) -> Ints:
    """How many distinct labels each graph reads, and one where it reads none."""
    from wfst_losses.compiled.distinct import num_distinct

    return np.maximum(1, num_distinct(graphs.input_label, graphs.arc_splits))
