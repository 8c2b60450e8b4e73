"""Maximum mutual information, lattice-free and exact, under any topology and token language model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from topologies import AbstractTopology, GraphBatch
from wfst_losses.backends import AbstractBackend, get_backend
from wfst_losses.backends.backend import GraphScores
from wfst_losses.emissions import Emissions, read_emissions
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.denominator import denominator, scored_denominator
from wfst_losses.graphs.language_model import BACKOFFS, LanguageModel, check_arc_scores, check_language_model
from wfst_losses.graphs.training import training_graphs
from wfst_losses.losses.reduction import reduce
from wfst_losses.memory_formulas import Work, peak_bytes
from wfst_losses.memory_limit import MemoryBudget
from wfst_losses.validation import (
    Lengths,
    Targets,
    check_blank,
    check_choice,
    check_flag,
    check_number,
    check_reduction,
    check_targets,
    check_topology,
)


def mmi_loss(
    log_probs: torch.Tensor,
    targets: Targets,
    input_lengths: Lengths,
    target_lengths: Lengths | None = None,
    *,
    language_model: LanguageModel,
    topology: str | AbstractTopology = "correct",
    den_scale: float = 1.0,
    boost: float = 0.0,
    memory: str = "full",
    language_model_scores: torch.Tensor | None = None,
    backoff: str = "failure",
    backend: str = "auto",
    reduction: str = "none",
    zero_infinity: bool = False,
    blank: int = 0,
    from_logits: bool = False,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor:
    """Negative log of each target's share in the mass of all token sequences, weighted by a language model.

    ``loss = -(Z_lm(y) - den_scale * Z_lm)``: ``Z_lm`` the log-sum over all paths of the topology of their log-probs
    plus the model's score of the tokens they write, its final score included; ``Z_lm(y)`` over those writing y.

    Rows need not be normalised: with ``den_scale=1`` adding a constant to a frame changes nothing. A target that no
    path can write, or that the model gives no score, is a value: +inf, with zero gradient of both terms. The graph of
    the denominator is kept between calls: pass the same ``language_model`` each time.

    Args:
        log_probs, targets, input_lengths, target_lengths: as in `ctc_loss`; any finite scores will do.
        language_model: over the network's tokens.
        topology: a name or a topology value.
        den_scale: of the denominator, at least 0.
        boost: the denominator reads ``log_probs[t, v] - boost * occupancy[t, v]`` with the numerator's posterior of
            label v at frame t, a constant to the gradient: paths with errors count more.
        memory: of the denominator's sums, "full" keeps those of all frames for a moment, "low" those of about sqrt(T)
            and computes the rest twice: for very long utterances.
        language_model_scores: ``(A,)`` in place of ``language_model.scores``; may require grad. Sums then run in
            float64, with k2 chosen on the reference backend.
        backoff: "failure" or "epsilon", see `LanguageModel`.
        backend, reduction, zero_infinity, blank, from_logits, nonfinite, max_memory: as in `ctc_loss`.

    Returns:
        ``(B,)`` or a scalar, nats; float64 for float64, else float32.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Povey et al. 2016 (lattice-free MMI), from the start and on whole utterances; boosting after Povey et al.
    2008, by posteriors of labels in place of phone errors.

    >>> import torch
    >>> log_probs = torch.full((1, 2, 3), 1 / 3).log()
    >>> loss = mmi_loss(log_probs, [[1]], [2], language_model=LanguageModel.uniform(3), topology="minimal")
    >>> round(float(torch.exp(-loss)), 4)  # [1] has 2 of 9 alignments; tokens weigh 1/3 each, the end too
    0.24
    """
    check_reduction(reduction)
    check_flag("zero_infinity", zero_infinity)
    check_number("den_scale", den_scale, low=0.0)
    check_number("boost", boost, low=0.0)
    check_choice("memory", memory, ("full", "low"))
    check_choice("backoff", backoff, BACKOFFS)
    emissions = read_emissions(
        log_probs,
        input_lengths,
        from_logits=from_logits,
        check_normalised=False,
        nonfinite=nonfinite,
        max_memory=max_memory,
    )
    engine = get_backend(backend, emissions.scores.device)
    blank = check_blank(blank, emissions.num_labels)
    sequences = check_targets(targets, target_lengths, emissions.num_utterances, emissions.num_labels, blank)
    rule = check_topology(topology, emissions.num_labels)
    check_language_model(language_model, emissions.num_labels)
    if language_model_scores is not None:
        check_arc_scores("language_model_scores", language_model_scores, language_model.arcs.num_arcs)

    graphs = training_graphs(rule, tokens_inside(sequences, blank), epsilon_free=engine.needs_epsilon_free)
    graphs = reading_columns(graphs, blank)
    form: dict[str, Any] = {"backoff": backoff, "blank": blank, "factored": engine.prefers_factored}
    scores: GraphScores | None = None
    if language_model_scores is None:
        shared = denominator(rule, language_model, epsilon_free=engine.needs_epsilon_free, **form)
    else:
        shared, *columns = scored_denominator(rule, language_model, language_model_scores, **form)
        scores = GraphScores(*columns)
    _check_memory(engine, graphs, shared, emissions, scores, memory, boosts=boost > 0)
    acoustic = engine.total_scores(graphs, emissions, torch.arange(emissions.num_utterances))
    of_model = language_model.sequence_scores(sequences, language_model_scores, backoff=backoff).to(acoustic)
    if boost:
        numerator = engine.total_work(graphs, emissions, torch.arange(emissions.num_utterances))
        emissions.require("the numerators' occupancies", _boosting_work(numerator, emissions))
        emissions = _reading(emissions, emissions.log_probs - boost * _occupancies(engine, graphs, emissions))
    total = engine.shared_total_scores(shared, emissions, scores, memory)
    # In float64 until they are subtracted: totals are thousands of nats.
    losses = (den_scale * total - (acoustic + of_model)).to(emissions.scores.dtype)
    impossible = (acoustic == -torch.inf) | (of_model == -torch.inf)
    impossible |= torch.as_tensor(emissions.dropped, device=losses.device)
    losses = losses.masked_fill(impossible.detach(), 0.0 if zero_infinity else torch.inf)
    return reduce(losses, reduction)


def _check_memory(
    engine: AbstractBackend,
    graphs: GraphBatch,
    shared: GraphBatch,
    emissions: Emissions,
    scores: GraphScores | None,
    memory: str,
    *,
    boosts: bool,
) -> None:
    """The whole call against the limit: what the numerators keep is there while the denominator runs."""
    numerator = engine.total_work(graphs, emissions, torch.arange(emissions.num_utterances))
    boosting = [_boosting_work(numerator, emissions)] if boosts else []
    parts = [numerator, *boosting, engine.shared_total_work(shared, emissions, scores, memory)]
    emissions.budget.check("the sums of numerators and denominator", parts)


def _boosting_work(numerator: Work, emissions: Emissions) -> Work:
    """The numerators once more, over a copy of the scores, with their gradient; and the scores that come of it."""
    output = emissions.num_bytes
    return Work(room=2 * output + peak_bytes([numerator]), kept=output, gradient=output, gradient_room=output)


def _occupancies(engine: AbstractBackend, graphs: GraphBatch, emissions: Emissions) -> torch.Tensor:
    """``(B, T, V)`` posterior of each label at each frame, a constant: the gradient of the log-sums."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = emissions.log_probs.detach().clone().requires_grad_()
        # What this takes has been told, and is gone when it returns.
        read = dataclasses.replace(_reading(emissions, leaf), budget=MemoryBudget())
        totals = engine.total_scores(graphs, read, torch.arange(emissions.num_utterances))
        possible = totals.masked_fill(totals.detach() == -torch.inf, 0.0)
        (occupancies,) = torch.autograd.grad(possible.sum(), leaf)
    return occupancies


def _reading(emissions: Emissions, log_probs: torch.Tensor) -> Emissions:
    """The same utterances with other scores, read as they are."""
    log_sums = np.zeros_like(emissions.log_sums)
    return dataclasses.replace(emissions, scores=log_probs, log_sums=log_sums, is_logits=False)
