"""What the sums of a batch take, told from its graphs and lengths before anything is allocated.

Counted is what each backend allocates beside the emissions that are there already, the gradient that it writes
included. Backends hold it against `Emissions.max_memory` and refuse what would not fit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, GraphBatch
from wfst_losses.emissions import Emissions

_PADDED_TO, _STATE_BYTES, _BLOCK_FRAMES = 16, 240, 12
_LANES, _SHARED_ARC_BYTES = 8, 64
_REFERENCE_ARC_BYTES, _K2_LATTICE_ARC_BYTES = 64, 120
_PATH_BYTES, _STEP_BYTES = 250, 28
"""Of a drawn path, and of each of its frames: labels and tokens, as they are found and as they are handed on."""

Ints = npt.NDArray[np.int64]


def training_bytes(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> int:
    """The native sums of a graph per utterance: what is kept for the gradient, and the room of each thread.

    An upper bound where that fits.
    """
    frames = emissions.input_lengths[utterances]
    states = -(-np.diff(graphs.state_splits) // _PADDED_TO) * _PADDED_TO
    item, output = _item(emissions), _output(emissions)
    # Labels are counted only where the matter is close: no graph reads more of them than it has states.
    most_kept = int((frames * states * item + states * (_STATE_BYTES + 32 * (frames + 9))).sum()) + output
    if most_kept <= emissions.max_memory:
        return most_kept
    columns = np.minimum(_columns(graphs), emissions.num_labels)
    kept = int((frames * columns * item * emissions.scores.requires_grad + states * _STATE_BYTES).sum())
    rooms = np.sort(8 * (2 * frames * (states + 4) + (frames // _BLOCK_FRAMES + 5) * (states + 4)))
    room = int(rooms[max(0, len(rooms) - torch.get_num_threads()) :].sum())
    return kept + max(room, output * emissions.scores.requires_grad)


def shared_bytes(graph: GraphBatch, emissions: Emissions, *, is_low_memory: bool) -> int:
    """The native sums of a shared graph, in float32: eight utterances side by side on each thread."""
    frames = int(emissions.input_lengths.max(initial=0))
    block = max(1, int(np.sqrt(max(0, frames - 1))) + 1) if is_low_memory else max(1, frames)
    reading = len(np.unique(graph.destination[graph.input_label != EPSILON]))
    rows = block * reading + (2 + frames // block) * graph.num_states + 2 * emissions.num_labels + frames
    tiles = min(torch.get_num_threads(), -(-emissions.num_utterances // _LANES))
    output = _output(emissions) * emissions.scores.requires_grad
    # Occupancies stay; the gradient is written when the tiles are gone.
    return _SHARED_ARC_BYTES * graph.num_arcs + output + max(tiles * rows * _LANES * 4, output)


def sampling_bytes(graphs: GraphBatch, emissions: Emissions, utterances: Ints, num_paths: int) -> int:
    """The native draws: the paths, and on each thread the sums of one utterance."""
    frames = int(emissions.input_lengths[utterances].max(initial=0))
    states = int(np.diff(graphs.state_splits).max(initial=0))
    paths = len(utterances) * num_paths * (_PATH_BYTES + _STEP_BYTES * frames)
    return paths + min(torch.get_num_threads(), len(utterances)) * 16 * (frames + 1) * states


def best_paths_bytes(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> int:
    """The native best paths: the way back from each state at each frame, on each thread."""
    frames = int(emissions.input_lengths[utterances].max(initial=0))
    states = int(np.diff(graphs.state_splits).max(initial=0))
    found = len(utterances) * (_PATH_BYTES + _STEP_BYTES * frames)
    return found + min(torch.get_num_threads(), len(utterances)) * 4 * (frames + 1) * states


def reference_bytes(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> int:
    """What autograd keeps of the definition's sums, frame by frame, and gradients in float64."""
    frames = int(emissions.input_lengths[utterances].max(initial=0))
    virtual = graphs.num_epsilon_arcs
    per_frame = 8 * (graphs.num_arcs - virtual) + 24 * virtual + (60 if virtual else 10) * graphs.num_states
    kept = frames * per_frame if emissions.scores.requires_grad else 2 * per_frame
    gradients = 7 * _output(emissions) if emissions.scores.requires_grad else 2 * _output(emissions)
    return _REFERENCE_ARC_BYTES * graphs.num_arcs + kept + gradients


def k2_bytes(graphs: GraphBatch, emissions: Emissions, utterances: Ints) -> int:
    """An upper bound of k2's lattices: an arc of a target is on a path in as many frames as there are to spare."""
    frames = emissions.input_lengths[utterances]
    live = np.maximum(frames - np.diff(graphs.state_splits) // 2, 0) + 1
    arcs = int((live * np.diff(graphs.arc_splits)).sum())
    return _K2_LATTICE_ARC_BYTES * arcs + 4 * _output(emissions)


def _columns(graphs: GraphBatch) -> Ints:
    """How many distinct labels each graph reads, and one where it reads none."""
    reads = graphs.input_label != EPSILON
    owner = graphs.graph_of_state[graphs.source[reads]].astype(np.int64)
    pairs = np.unique(owner << 32 | graphs.input_label[reads])
    return np.maximum(1, np.bincount(pairs >> 32, minlength=graphs.num_graphs))


def _item(emissions: Emissions) -> int:
    return emissions.scores.element_size()


def _output(emissions: Emissions) -> int:
    return emissions.scores.numel() * _item(emissions)
