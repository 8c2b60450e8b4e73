"""What sums, draws and searches take, from sizes alone: the one place that knows how large their arrays are.

Backends give the sizes of the graphs they are about to run, `wfst_losses.inspection` those of closed forms. What is
counted is what each engine allocates, written out; nothing is a fit but the bytes per state, arc or path of small
arrays, which are sums of such columns. The network's output itself is not part of any figure here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

SHARED_ARC_BYTES = 48
"""Per arc of the native denominator, kept between calls: the graph's columns, and both directions of its layout."""
_SHARED_WEIGHT_BYTES = 16
"""Per arc of it for a moment: its score, and its weight in both directions."""
_TRAINING_STATE_BYTES = 240
"""Per padded state of a training graph: about four diagonals of weights both ways, five columns, and its arcs."""
_PADDED_TO, _BLOCK_FRAMES, _LANES = 16, 12, 8
_CUDA_ARC_BYTES = 60
"""Per arc of a graph on CUDA: where it leads and its weight, both ways, and its share of the nodes' columns."""
_REFERENCE_ARC_BYTES = 64
"""Per arc of the reference backend: eight columns."""
_K2_LATTICE_ARC_BYTES = 120
"""Per arc of a k2 lattice: its columns and scores, forward and backward sums and what they index, and autograd's."""
_REFERENCE_DRAW_BYTES = 180
"""Per arc of the reference backend's draws and best paths: the graph's columns, copied, and those of a frame."""
_WAY_BYTES = 400
"""Per sequence at a state of the reference backend's search, beside its labels: tuples and dictionary entries."""
_PATH_BYTES = 250
"""Per path, whatever its length: its sequence as an array of its own, and its place in lists."""
_LISTS_BYTES = 180
"""Per path while all are enumerated: two lists, their pair and its place."""

_TAP_BYTES = 110
"""Per frame of a window: where it is, its score and the steps from there to the maximum, mostly in float64."""
_BACKGROUND_FRAME_BYTES = 60
"""Per frame where one label is the background: its column in float64 and what is computed from it."""


class Work(NamedTuple):
    """Bytes that one part of a call takes.

    Attributes:
        room: while it runs.
        held: until the call returns: paths, copies of scores.
        kept: until its gradient has been computed.
        gradient: what its backward pass leaves.
        gradient_room: beside it, while that runs.
    """

    room: int = 0
    held: int = 0
    kept: int = 0
    gradient: int = 0
    gradient_room: int = 0


def peak_bytes(parts: Iterable[Work]) -> int:
    """The most that the parts of a call take at any moment: one after the other, then backwards in reverse."""
    parts = list(parts)
    most = 0
    for number, part in enumerate(parts):
        most = max(most, standing_bytes(parts[: number + 1]) + part.room)
    for number, part in enumerate(parts):
        # One other gradient waits: those of two parts are added up before a third comes.
        others = (other.gradient for place, other in enumerate(parts) if place != number)
        backward = sum(each.kept for each in parts) + part.gradient + part.gradient_room
        most = max(most, backward + max(others, default=0) * (part.gradient > 0))
    return most


def standing_bytes(parts: Iterable[Work]) -> int:
    """What is there while the part after these runs."""
    return sum(part.held + part.kept for part in parts)


def training_work(
    num_frames: Ints, num_states: Ints, num_columns: Ints, *, item_bytes: int, num_threads: int, gradient_bytes: int
) -> Work:
    """The native sums of a graph per utterance: occupancies that are kept, and on each thread room for one graph.

    Args:
        num_frames, num_states, num_columns: per graph; columns are the labels it reads.
        item_bytes: of a score.
        num_threads: that may run.
        gradient_bytes: of the emissions' gradient, 0 where there will be none.
    """
    states = -(-num_states // _PADDED_TO) * _PADDED_TO
    occupancies = int((num_frames * num_columns).sum()) * item_bytes if gradient_bytes else 0
    stride, frames_kept = states + 4, num_frames + 3 if gradient_bytes else 4
    rooms = item_bytes * num_frames * states + 8 * (frames_kept + num_frames // _BLOCK_FRAMES + 2) * stride
    return Work(
        room=_largest(rooms, num_threads),
        kept=occupancies + _TRAINING_STATE_BYTES * int(states.sum()),
        gradient=gradient_bytes,
    )


def shared_work(
    *, num_frames: int, num_utterances: int, num_labels: int, num_states: int, num_reading: int, num_arcs: int,
    is_low_memory: bool, num_threads: int, gradient_bytes: int, output_bytes: int, arcs_with_gradient: int = 0,
    item_bytes: int = 4,
) -> Work:  # fmt: skip
    """The native sums of a shared graph: eight utterances side by side on each thread, and all occupancies.

    Args:
        num_frames: of the longest of ``num_utterances``.
        num_labels: V.
        num_states, num_reading, num_arcs: of the graph as laid out; states reading are those entered by a label.
        is_low_memory: arrivals of a block of frames are kept, and checkpoints, in place of those of all frames.
        num_threads: that may run.
        gradient_bytes: of the emissions' gradient, 0 where there will be none.
        output_bytes: of the emissions.
        arcs_with_gradient: arcs and states whose scores want a gradient.
        item_bytes: of a sum; a batch for which float32 does not suffice runs again in float64.
    """
    block = max(1, math.isqrt(max(0, num_frames - 1)) + 1) if is_low_memory else max(1, num_frames)
    num_blocks = max(1, -(-num_frames // block))
    rows = block * num_reading * bool(gradient_bytes) + (2 + num_blocks) * num_states + 2 * num_labels + num_frames
    tiles = min(num_threads, -(-num_utterances // _LANES))
    return Work(
        room=_SHARED_WEIGHT_BYTES * num_arcs + tiles * rows * _LANES * item_bytes,
        kept=output_bytes * bool(gradient_bytes) + 8 * num_utterances * arcs_with_gradient,
        gradient=gradient_bytes,
    )


def cuda_work(
    *, num_frames: int, num_ports: int, num_columns: int, num_arcs: int, num_lanes: int, factor_bytes: int,
    item_bytes: int, sum_bytes: int, gradient_bytes: int,
) -> Work:  # fmt: skip
    """The native sums on CUDA, whose buffers are as long as the longest utterance for all.

    Args:
        num_frames: of the longest utterance.
        num_ports, num_columns, num_arcs: of all graphs; ports are the labels that each state is entered on, columns
            those that each graph reads.
        num_lanes: utterances that share a graph, 1 where none is shared.
        factor_bytes: of the emissions as the sums of a shared graph read them; 0 where none is shared.
        item_bytes, sum_bytes: of a score and of a sum.
        gradient_bytes: of the emissions' gradient, 0 where there will be none.
    """
    return Work(
        room=(num_frames + 4) * num_ports * num_lanes * sum_bytes + factor_bytes,
        kept=num_frames * num_columns * num_lanes * item_bytes * bool(gradient_bytes) + _CUDA_ARC_BYTES * num_arcs,
        gradient=gradient_bytes,
    )


def reference_work(
    *, num_frames: int, num_states: int, num_arcs: int, num_virtual: int, output_bytes: int, needs_gradient: bool
) -> Work:
    """The definition in torch: autograd keeps a number per arc and frame, gradients are float64 on the way.

    Args:
        num_frames: of the longest utterance.
        num_states, num_arcs, num_virtual: of all graphs together; virtual arcs are part of the arcs.
        output_bytes: of the emissions.
        needs_gradient: whether there will be one.
    """
    per_state = 60 if num_virtual else 10
    per_frame = 8 * (num_arcs - num_virtual) + 24 * num_virtual + per_state * num_states
    columns = _REFERENCE_ARC_BYTES * num_arcs
    if not needs_gradient:
        return Work(room=columns + 2 * per_frame + 3 * output_bytes)
    # Backward, two gradients in float64 and one or two in float32, and in older torch a third in float64.
    return Work(
        room=3 * output_bytes,
        kept=columns + num_frames * per_frame,
        gradient=output_bytes,
        gradient_room=6 * output_bytes,
    )


def k2_work(num_lattice_arcs: int, output_bytes: int) -> Work:
    """An upper bound of k2's sums from that of the arcs of its lattices: they, its copy of the scores, gradients."""
    kept = _K2_LATTICE_ARC_BYTES * num_lattice_arcs + output_bytes
    return Work(kept=kept, gradient=output_bytes, gradient_room=output_bytes)


def k2_training_arcs(num_frames: Ints, num_tokens: Ints, num_arcs: Ints) -> int:
    """At most so many arcs have the lattices of targets: each is on a path in as many frames as there are to spare."""
    return int(((np.maximum(num_frames - num_tokens, 0) + 1) * num_arcs).sum())


def path_work(num_paths: int, num_frames: int, most_tokens: int) -> Work:
    """Paths as they are found, and as they are handed on and made distinct.

    Args:
        num_paths: of all utterances.
        num_frames: of the longest.
        most_tokens: that a path of so many frames may write.
    """
    # Labels, tokens and their frames in 32 bits, and copies of them; then labels in 64 bits, twice.
    return Work(room=num_paths * (4 * num_frames + 8 * most_tokens), held=num_paths * (_PATH_BYTES + 16 * num_frames))


def enumeration_work(num_paths: int, most_paths: int, num_frames: int, most_tokens: int) -> Work:
    """Every path: lists of its labels and tokens while those of an utterance are found, then as other paths.

    Args:
        num_paths, most_paths: of all utterances, and of one.
        num_frames: of the longest.
        most_tokens: that a path of so many frames may write.
    """
    lists = most_paths * (_LISTS_BYTES + 8 * num_frames + 8 * most_tokens)
    steps = 8 * num_paths * num_frames
    return Work(room=lists + steps, held=num_paths * _PATH_BYTES + 2 * steps)


def path_score_work(
    num_paths: int, num_frames: int, *, item_bytes: int, output_bytes: int, is_logits: bool, needs_gradient: bool
) -> Work:
    """The scores of single paths by torch: read from a copy of the scores, with a step of autograd per operation."""
    steps = num_paths * num_frames
    # They are summed in float64.
    summed = item_bytes + 8 * (item_bytes < 8)
    return Work(
        room=steps * (1 + item_bytes + summed) + output_bytes * is_logits,
        held=output_bytes,
        kept=steps * 9 * needs_gradient,
        gradient=output_bytes * needs_gradient,
        gradient_room=(output_bytes + (item_bytes + summed) * steps) * needs_gradient,
    )


def lattice_room(num_arcs: Ints, num_states: Ints, num_threads: int) -> int:
    """On each thread the columns of one utterance of a lattice, and a sum per state.

    Args:
        num_arcs, num_states: per utterance.
        num_threads: that may run.
    """
    return _largest(32 * num_arcs + 32 * num_states, num_threads)


def k2_grid_room(num_arcs: int, num_states: int) -> int:
    """k2's copy of a lattice, forward and backward sums, and the distribution over the arcs of each state."""
    return _K2_LATTICE_ARC_BYTES * num_arcs + 32 * num_states


def tree_sums_work(num_nodes: int, num_states: int, num_arcs: int) -> Work:
    """What the sums of a lattice's sequences begin with: prefix trees; composed states come on top as they are met.

    Args:
        num_nodes: of all trees.
        num_states, num_arcs: of the whole lattice.
    """
    return Work(kept=40 * num_nodes + 8 * num_states, gradient=8 * num_arcs, gradient_room=16 * num_arcs)


def pooling_work(
    *, num_scores: int, num_frames: int, num_taps: int, item_bytes: int, is_background: bool, needs_gradient: bool
) -> Work:
    """Smoothed max pooling: the outside terms of all scores, or of the background's column, and the windows' frames.

    Args:
        num_scores, num_frames: of the batch, ``B T K`` and ``B T``.
        num_taps: frames under all windows and the filter's reach beside them, each window as long as the longest.
        item_bytes: of a score; half precision is computed with in float32, an eighth at a time.
        is_background: whether outside terms are those of one label.
        needs_gradient: whether there will be one.
    """
    output, pieces = num_scores * item_bytes, num_scores * (item_bytes == 2)
    columns = num_frames * _BACKGROUND_FRAME_BYTES if is_background else 0
    return Work(
        room=max(output + pieces, columns + _TAP_BYTES * num_taps),
        kept=8 * num_frames * is_background,
        gradient=output * needs_gradient,
        gradient_room=(pieces + columns) * needs_gradient,
    )


def reference_path_work(
    *, num_paths: int, num_frames: int, num_states: int, num_arcs: int, output_bytes: int, item_bytes: int
) -> Work:
    """Draws and best paths by torch: a number per state and frame, and per frame a few per arc.

    Args:
        num_paths: of all graphs.
        num_frames: of the longest utterance.
        num_states, num_arcs: of all graphs together.
        output_bytes, item_bytes: of the emissions, and of one score.
    """
    found = path_work(num_paths, num_frames, num_frames)
    doubled = output_bytes * 8 // item_bytes
    room = doubled + _REFERENCE_DRAW_BYTES * num_arcs + 8 * (num_frames + 1) * num_states + 48 * num_paths * num_frames
    return found._replace(room=room, held=found.held + output_bytes)


def reference_search_work(num_paths: int, num_frames: int, num_arcs: int) -> Work:
    """An upper bound of the search by definition: arcs of two frames hand on as many ways, which know their labels."""
    return Work(room=2 * num_arcs * num_paths * (_WAY_BYTES + 16 * num_frames))


def k2_pruned_work(num_frames: Ints, arcs_per_frame: int, output_bytes: int) -> Work:
    """An upper bound of a pruned search in k2: every frame as many arcs as leave the states that may be active."""
    return Work(held=_K2_LATTICE_ARC_BYTES * int((num_frames + 1).sum()) * arcs_per_frame + 3 * output_bytes)


def frame_states_room(num_frames: Ints, num_states: Ints, bytes_each: int, num_threads: int) -> int:
    """Something of each state at each frame, on each thread."""
    return _largest(bytes_each * (num_frames + 1) * num_states, num_threads)


def _largest(rooms: Ints, num_threads: int) -> int:
    """On each thread one at a time: at worst the largest meet."""
    return int(np.sort(rooms)[max(0, len(rooms) - num_threads) :].sum())
