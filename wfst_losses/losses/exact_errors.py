"""The expected number of errors over all hypotheses there are, none of them listed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from topologies import EPSILON
from topologies.topology import factored_of
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.graphs.blank import tokens_inside
from wfst_losses.graphs.levenshtein import MAX_STATES, EditCosts, LevenshteinAutomaton, levenshtein_automaton
from wfst_losses.losses.expected_errors import Diagnostics
from wfst_losses.risks import AbstractRisk, TokenErrors
from wfst_losses.validation import TokenSequence, check_count


def exact_errors(
    lattice: EmissionLattice, references: Sequence[TokenSequence], risk: AbstractRisk, max_errors: int | None
) -> tuple[torch.Tensor, Diagnostics]:
    """``(B,)`` ``E[min(W, max_errors + 1)]`` under the lattice's posterior, and what stood behind it.

    ``sum_c c exp(Z_c - Z)``, ``Z_c`` the log-sum of the paths whose output ends in a state of cost c of the capped
    Levenshtein automaton of the reference; ``E[W]`` with ``max_errors=None``.

    Raises:
        ValueError: for a risk that is not counted in tokens, or an automaton too large.
    """
    if type(risk) is not TokenErrors:
        raise ValueError(f"risk is {risk!r:.80}, expected TokenErrors with estimator='exact'")
    automata = _automata(lattice, references, risk, max_errors)
    expected, probabilities = lattice.expected_costs(automata)
    units = np.array([max(1, len(reference)) if risk.normalised else 1 for reference in references], dtype=np.float64)
    is_empty = (probabilities.sum(dim=1) == 0).numpy()
    losses = expected / torch.from_numpy(units).to(expected)
    losses = losses.masked_fill(torch.from_numpy(is_empty).to(losses.device), torch.inf)
    least = (probabilities > 0).numpy().argmax(axis=1)
    nothing = np.zeros(len(references), dtype=np.int64)
    beyond = np.zeros(len(references)) if max_errors is None else probabilities[:, max_errors + 1 :].sum(dim=1).numpy()
    return losses, Diagnostics(
        expected_errors=losses.detach().cpu().double().numpy(),
        oracle_errors=np.where(is_empty, np.inf, least / units),
        num_paths=nothing,
        num_distinct=nothing,
        empty=tuple(np.flatnonzero(is_empty).tolist()),
        single=(),
        beyond_max_errors=beyond,
    )


def check_max_errors(max_errors: object, estimator: str) -> int | None:
    """A number of errors, for the exact estimator only."""
    if max_errors is None:
        return None
    if estimator != "exact":
        raise ValueError(f"max_errors is {max_errors!r}, expected None with estimator={estimator!r}")
    return check_count("max_errors", max_errors, low=0)


def _automata(
    lattice: EmissionLattice, references: Sequence[TokenSequence], risk: TokenErrors, max_errors: int | None
) -> list[LevenshteinAutomaton]:
    graph = factored_of(lattice.topology)
    if max_errors is None and ((graph.input_label == EPSILON) & (graph.output_label != EPSILON)).any():
        raise ValueError(
            f"max_errors is None, expected a number: {lattice.topology.name} writes more tokens than frames"
        )
    automata = []
    inside = tokens_inside(references, lattice.blank)
    for index, (reference, num_frames) in enumerate(zip(inside, lattice.emissions.input_lengths.tolist(), strict=True)):
        cap = _most_errors(risk, len(reference), num_frames) if max_errors is None else max_errors + 1
        costs = EditCosts(int(risk.insertion), int(risk.deletion), int(risk.substitution), cap)
        try:
            automata.append(levenshtein_automaton(reference, costs))
        except OverflowError:
            raise ValueError(
                f"max_errors is {max_errors}: the automaton of targets[{index}], {len(reference)} tokens, has more "
                f"than {MAX_STATES:,} states; expected fewer errors, such as 2"
            ) from None
    return automata


def _most_errors(risk: TokenErrors, num_tokens: int, num_frames: int) -> int:
    """The most that an output can cost, of at most a token per frame: the shortest, the longest, or one as long."""
    matched = min(num_tokens, num_frames)
    substitution = min(risk.substitution, risk.insertion + risk.deletion)
    as_long = substitution * matched + risk.deletion * (num_tokens - matched)
    return int(max(1, risk.deletion * num_tokens, as_long + risk.insertion * (num_frames - matched)))
