"""The most memory that a step of training takes, told from sizes alone.

What is counted is what each backend allocates, written out: nothing here is a fit but the bytes per state or arc of
small arrays, which are sums of such columns. The network, its own activations and the optimiser are not part of it; the
network's output and its gradient are.
"""

from __future__ import annotations

import dataclasses
import math

from wfst_losses.inspection.graph_counts import Counts, denominator_counts, training_counts
from wfst_losses.inspection.steps import Step

_LANES = 8
_FLOAT, _DOUBLE = 4, 8
_PADDED_TO = 16
_BLOCK_FRAMES = 12
_TRAINING_STATE_BYTES = 240
"""Per padded state of a training graph: about four diagonals of weights both ways, five columns, and its arcs."""
_MODEL_ARC_BYTES = 84
"""Per arc of a language model: its columns, those of its realised form, and the keys by which it is scored."""
_SHARED_ARC_BYTES = 48
"""Per arc of the native denominator, kept: the graph's columns, and both directions of its layout."""
_SHARED_WEIGHT_BYTES = 16
"""Per arc of the native denominator, for a moment: its score, and its weight in both directions."""
_GRAPH_ARC_BYTES = 24
_REFERENCE_ARC_BYTES = 64
"""Per arc of the reference backend: eight columns."""
_K2_LATTICE_ARC_BYTES = 120
"""Per arc of a k2 lattice: its columns and scores, forward and backward sums and what they index, and autograd's."""


@dataclasses.dataclass(frozen=True)
class PredictedMemory:
    """Bytes a step takes above the process before it.

    Attributes:
        peak_bytes: the most at any moment.
        is_upper_bound: whether it bounds the peak (k2 prunes) rather than tells it.
        graph_bytes: what is kept between steps: the denominator and its language model.
        emission_bytes: the network's output and its gradients, at the peak.
        work_bytes: the rest.
    """

    peak_bytes: int
    is_upper_bound: bool
    graph_bytes: int
    emission_bytes: int
    work_bytes: int


def predicted_step_memory(step: Step) -> PredictedMemory:
    """The peak of a loss and its gradient, by the backend's own formula.

    Raises:
        ValueError: for a backend without a formula.
    """
    formulas = {"native": _native, "reference": _reference, "k2": _k2}
    if step.backend not in formulas:
        raise ValueError(f"backend is {step.backend!r}, expected one of {', '.join(map(repr, formulas))}")
    return formulas[step.backend](step)


def _told(graph: int, moments: list[tuple[int, int]], *, is_upper_bound: bool = False) -> PredictedMemory:
    """The larger of some moments, each the bytes of emissions and of work."""
    emissions, work = max(moments, key=sum)
    return PredictedMemory(graph + emissions + work, is_upper_bound, graph, emissions, work)


def _native(step: Step) -> PredictedMemory:
    output = step.emission_bytes
    kept, room = _bands(step)
    if not step.has_denominator:
        return _told(0, [(output, kept + room), (2 * output, kept)])
    counts, model_arcs = denominator_counts(step)
    graph = _MODEL_ARC_BYTES * model_arcs + _SHARED_ARC_BYTES * counts.num_arcs
    num_tiles = -(-step.num_utterances // _LANES)
    work = _SHARED_WEIGHT_BYTES * counts.num_arcs + min(step.num_threads, num_tiles) * _tile(step, counts)
    # The output, the denominator's occupancies; then each term's gradient besides.
    return _told(graph, [(output, kept + room), (2 * output, kept + work), (4 * output, kept)])


def _bands(step: Step) -> tuple[int, int]:
    """Of training graphs: what is kept for the backward pass, and the room that the sums take for a moment."""
    frames, utterances = step.num_frames, step.num_utterances
    states = -(-(2 * step.num_tokens + 1) // _PADDED_TO) * _PADDED_TO
    columns = 1 + min(step.num_tokens, step.num_labels - 1)
    kept = utterances * (frames * columns * _FLOAT + states * _TRAINING_STATE_BYTES)
    stride = states + 4
    room = frames * states + (frames + 3) * stride + (frames // _BLOCK_FRAMES + 2) * stride
    return kept, min(step.num_threads, utterances) * room * _DOUBLE


def _tile(step: Step, counts: Counts) -> int:
    """The work of eight utterances over a shared graph: arrivals of all frames, or of a block and its checkpoints."""
    frames = step.num_frames
    block = max(1, math.isqrt(max(0, frames - 1)) + 1) if step.memory == "low" else frames
    num_blocks = -(-frames // block) if frames else 1
    rows = block * counts.num_reading + (2 + num_blocks) * counts.num_states + 2 * step.num_labels + frames
    return rows * _LANES * _FLOAT


def _reference(step: Step) -> PredictedMemory:
    output = step.emission_bytes
    terms = [training_counts(step)]
    graph, model_arcs = 0, 0
    if step.has_denominator:
        counts, model_arcs = denominator_counts(step)
        terms.append(counts)
        graph = _MODEL_ARC_BYTES * model_arcs + _GRAPH_ARC_BYTES * counts.num_arcs
    kept = step.num_utterances * sum(_REFERENCE_ARC_BYTES * counts.num_arcs for counts in terms)
    kept += step.num_utterances * step.num_frames * sum(_kept_per_frame(counts) for counts in terms)
    # Backward, beside the output: two gradients in float64 and one in float32, and in older torch a third and another.
    return _told(graph, [(7 * output, kept)])


def _kept_per_frame(counts: Counts) -> int:
    """What autograd keeps of one frame: a number per arc, and per state the sums, once more where arcs are virtual."""
    reading = counts.num_arcs - counts.num_virtual
    per_state = 60 if counts.num_virtual else 10
    return 8 * reading + 24 * counts.num_virtual + per_state * counts.num_states


def _k2(step: Step) -> PredictedMemory:
    output = step.emission_bytes
    counts = training_counts(step)
    # An arc of a target is on a path in as many frames as there are to spare, and one.
    live = max(0, step.num_frames - step.num_tokens) + 1
    arcs = step.num_utterances * (live * counts.num_arcs + counts.num_finals)
    graph = 0
    if step.has_denominator:
        shared, model_arcs = denominator_counts(step)
        graph = _MODEL_ARC_BYTES * model_arcs + _GRAPH_ARC_BYTES * shared.num_arcs
        arcs += step.num_utterances * (step.num_frames * shared.num_arcs + shared.num_finals)
    # The output, what k2 copies of it for each term, their gradients.
    num_terms = 1 + step.has_denominator
    return _told(graph, [((2 + 2 * num_terms) * output, _K2_LATTICE_ARC_BYTES * arcs)], is_upper_bound=True)
