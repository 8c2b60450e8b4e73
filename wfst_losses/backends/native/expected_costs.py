"""Expected costs of a batch, on several threads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from topologies import GraphBatch
from wfst_losses.backends.backend import Costs
from wfst_losses.backends.native.automaton_layout import Automata, Steps, lay_out_automata, lay_out_graph
from wfst_losses.backends.native.automaton_sums import Results, expect
from wfst_losses.backends.native.inputs import Inputs
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.compiled.threads import run_in_parallel
from wfst_losses.differentiation import differentiated_once
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.levenshtein import LevenshteinAutomaton
from wfst_losses.memory_formulas import Work

_KEPT_BYTES = 1 << 28
"""What the sums of all frames of an utterance may take; above it some frames are summed once more on the way back."""


def expected_costs(graph: GraphBatch, automata: Sequence[LevenshteinAutomaton], emissions: Emissions) -> Costs:
    """Costs and their gradient; by definition where plain float64 is not safe, or sums to nothing."""
    scores = emissions.scores
    steps, tables = lay_out_graph(graph), lay_out_automata(automata, emissions.num_labels)
    inputs = Inputs(scores.detach().cpu().contiguous().numpy(), emissions.log_sums, emissions.input_lengths)
    num_utterances, num_costs = len(inputs.lengths), 1 + int(tables.cost.max(initial=0))
    needs_gradient = scores.requires_grad and torch.is_grad_enabled()
    room = _room(steps, tables, inputs, needs_gradient)
    work = _work(steps, emissions, room, num_costs, needs_gradient=needs_gradient)
    emissions.require("the sums over all token sequences", work)
    results = Results(
        np.zeros(inputs.scores.shape if needs_gradient else (0, *inputs.scores.shape[1:]), inputs.scores.dtype),
        np.zeros((num_utterances, num_costs)),
        np.zeros(num_utterances, dtype=bool),
    )
    run_in_parallel(
        # numpy's memory comes in large pages, the compiled code's does not.
        lambda begin, end: expect(begin, end, steps, tables, inputs, np.empty(room), results),
        np.diff(tables.state_splits) * (inputs.lengths + 1),
    )
    probabilities = torch.from_numpy(results.probabilities)
    expected = (probabilities @ torch.arange(num_costs).double()).to(scores.device, scores.dtype)
    if needs_gradient:
        expected = _Known.apply(scores, expected, torch.from_numpy(results.gradient))  # type: ignore[no-untyped-call]
    rest = np.flatnonzero(~results.is_exact)
    if len(rest):
        remaining = [automata[index] for index in rest.tolist()]
        defined = ReferenceBackend().expected_costs(graph, remaining, _part(emissions, rest))
        expected = expected.index_copy(0, torch.from_numpy(rest).to(scores.device), defined.expected)
        probabilities[rest, : defined.probabilities.shape[1]] = defined.probabilities
    return Costs(expected, probabilities)


def _room(steps: Steps, tables: Automata, inputs: Inputs, needs_gradient: bool) -> int:
    """How many sums to keep: those of all frames where they fit, else of as many as there will be blocks of frames."""
    frame = len(steps.port_state) * int(np.diff(tables.state_splits).max(initial=0))
    num_frames = max(1, int(inputs.lengths.max(initial=0)))
    if not needs_gradient:
        return frame
    if 8 * frame * num_frames <= _KEPT_BYTES:
        return frame * num_frames
    return max(_KEPT_BYTES // 8, frame * (math.isqrt(num_frames) + 1))


def _work(steps: Steps, emissions: Emissions, room: int, num_costs: int, *, needs_gradient: bool) -> Work:
    """On each thread ``room`` sums, and emissions and shares of all ports; the gradient, and the one handed on.

    Of each cost its probability and whether it has any, and the costs themselves in two kinds.
    """
    num_threads = min(torch.get_num_threads(), emissions.num_utterances)
    num_frames = int(emissions.input_lengths.max(initial=0))
    of_ports = (1 + needs_gradient) * num_frames * len(steps.port_state)
    gradient = emissions.num_bytes * needs_gradient
    of_costs = emissions.num_utterances * num_costs
    return Work(
        room=8 * num_threads * (room + of_ports) + of_costs + 16 * num_costs,
        held=8 * of_costs,
        kept=gradient,
        gradient=gradient,
    )


def _part(emissions: Emissions, rows: Any) -> Emissions:
    """Some of the utterances."""
    return dataclasses.replace(
        emissions,
        scores=emissions.scores[torch.from_numpy(rows).to(emissions.scores.device)],
        log_sums=emissions.log_sums[rows],
        input_lengths=emissions.input_lengths[rows],
        dropped=emissions.dropped[rows],
    )


class _Known(torch.autograd.Function):
    """Values whose gradient is known.

    Adding a number to all scores of a frame changes no cost: logits and log-probs have the same gradient.
    """

    @staticmethod
    def forward(ctx: Any, _scores: torch.Tensor, values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return values.clone()

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        (incoming,) = gradients
        return (gradient.to(incoming.device) * incoming[:, None, None]), None, None
