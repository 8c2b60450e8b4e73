"""The most memory that a step of training takes, told from sizes alone: `memory_formulas` with counts in closed form.

The network, its own activations and the optimiser are not part of it; the network's output and its gradient are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from wfst_losses import memory_formulas
from wfst_losses.inspection.graph_counts import denominator_counts, training_counts
from wfst_losses.inspection.steps import Step
from wfst_losses.memory_formulas import SHARED_ARC_BYTES, Work, peak_bytes

_FLOAT = 4
_MODEL_ARC_BYTES = 84
"""Per arc of a language model: its columns, those of its realised form, and the keys by which it is scored."""
_GRAPH_ARC_BYTES = 24
"""Per arc of a denominator that has no layout of its own."""


@dataclasses.dataclass(frozen=True)
class PredictedMemory:
    """Bytes a step takes above the process before it.

    Attributes:
        peak_bytes: the most at any moment.
        is_upper_bound: whether it bounds the peak (k2 prunes) rather than tells it.
        graph_bytes: what is kept between steps: the denominator and its language model.
        emission_bytes: the network's output and its gradient.
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
    graph, parts = formulas[step.backend](step)
    peak, emissions = step.emission_bytes + peak_bytes(parts), 2 * step.emission_bytes
    return PredictedMemory(graph + peak, step.backend == "k2", graph, emissions, peak - emissions)


def _native(step: Step) -> tuple[int, list[Work]]:
    output = step.emission_bytes
    every = np.ones(step.num_utterances, dtype=np.int64)
    columns = 1 + min(step.num_tokens, step.num_labels - 1)
    numerator = memory_formulas.training_work(
        step.num_frames * every,
        training_counts(step).num_states * every,
        columns * every,
        item_bytes=_FLOAT,
        num_threads=step.num_threads,
        gradient_bytes=output,
    )
    if not step.has_denominator:
        return 0, [numerator]
    counts, model_arcs = denominator_counts(step)
    shared = memory_formulas.shared_work(
        num_frames=step.num_frames,
        num_utterances=step.num_utterances,
        num_labels=step.num_labels,
        num_states=counts.num_states,
        num_reading=counts.num_reading,
        num_arcs=counts.num_arcs,
        is_low_memory=step.memory == "low",
        num_threads=step.num_threads,
        gradient_bytes=output,
        output_bytes=output,
    )
    return _MODEL_ARC_BYTES * model_arcs + SHARED_ARC_BYTES * counts.num_arcs, [numerator, shared]


def _reference(step: Step) -> tuple[int, list[Work]]:
    terms, graph = [training_counts(step)], 0
    if step.has_denominator:
        counts, model_arcs = denominator_counts(step)
        terms.append(counts)
        graph = _MODEL_ARC_BYTES * model_arcs + _GRAPH_ARC_BYTES * counts.num_arcs
    return graph, [
        memory_formulas.reference_work(
            num_frames=step.num_frames,
            num_states=step.num_utterances * counts.num_states,
            num_arcs=step.num_utterances * counts.num_arcs,
            num_virtual=step.num_utterances * counts.num_virtual,
            output_bytes=step.emission_bytes,
            needs_gradient=True,
        )
        for counts in terms
    ]


def _k2(step: Step) -> tuple[int, list[Work]]:
    every, counts = np.ones(step.num_utterances, dtype=np.int64), training_counts(step)
    arcs = memory_formulas.k2_training_arcs(step.num_frames * every, step.num_tokens * every, counts.num_arcs * every)
    parts = [memory_formulas.k2_work(arcs + step.num_utterances * counts.num_finals, step.emission_bytes)]
    graph = 0
    if step.has_denominator:
        shared, model_arcs = denominator_counts(step)
        graph = _MODEL_ARC_BYTES * model_arcs + _GRAPH_ARC_BYTES * shared.num_arcs
        arcs = step.num_utterances * (step.num_frames * shared.num_arcs + shared.num_finals)
        parts.append(memory_formulas.k2_work(arcs, step.emission_bytes))
    return graph, parts
