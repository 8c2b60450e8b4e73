"""Minimum word error rate from network outputs, without building a lattice."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from topologies import AbstractTopology
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.language_model import LanguageModel, check_language_model
from wfst_losses.losses.exact_errors import check_max_errors, exact_errors
from wfst_losses.losses.expected_errors import Criterion, Diagnostics, check_diagnostics, expected_errors
from wfst_losses.losses.reduction import reduce
from wfst_losses.risks import AbstractRisk, TokenErrors
from wfst_losses.samplers import AbstractPathSampler, RandomPaths
from wfst_losses.validation import (
    Lengths,
    Targets,
    check_blank,
    check_generator,
    check_reduction,
    check_targets,
    check_topology,
)


def mwer_loss(
    log_probs: torch.Tensor,
    targets: Targets,
    input_lengths: Lengths,
    target_lengths: Lengths | None = None,
    *,
    topology: str | AbstractTopology = "correct",
    language_model: LanguageModel | None = None,
    sampler: AbstractPathSampler = RandomPaths(num_paths=16),  # noqa: B008 (an immutable value)
    risk: AbstractRisk = TokenErrors(),  # noqa: B008 (an immutable value)
    estimator: str = "nbest",
    temperature: float = 1.0,
    nbest_scale: float = 1.0,
    path_score: str = "sum",
    baseline: str = "mean",
    include_reference: bool = False,
    include_best: bool = False,
    max_errors: int | None = None,
    generator: torch.Generator | None = None,
    return_diagnostics: bool | str = False,
    backend: str = "auto",
    reduction: str = "none",
    blank: int = 0,
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor | tuple[torch.Tensor, Diagnostics]:
    """Expected errors of hypotheses drawn from the topology's paths.

    ``loss = sum_i P_i W_i - stopgrad(c)``, ``P = softmax_i(Z(y_i) / temperature)`` over distinct hypotheses ``y_i``,
    ``W_i`` their errors against the target, ``Z(y_i)`` the log-sum over all their alignments, c the mean of W
    (``baseline="mean"``: the value can be negative; "none" gives the expected errors themselves).

    The baseline shifts the value and never the gradient. A target too long for its frames is not impossible here:
    its errors are finite. One distinct hypothesis gives gradient 0 and is named in the diagnostics.

    Args:
        log_probs, targets, input_lengths, target_lengths: as in `ctc_loss`.
        topology: a name or a topology value.
        language_model: over the network's tokens; adds its score of y (back-off as failure) to ``Z(y)``, and paths
            are drawn with it.
        sampler: what picks paths.
        risk: what counts errors.
        estimator: "nbest" as above; "sampled": mean of W over independent paths with an unbiased gradient; "exact":
            ``E[min(W, max_errors + 1)]`` over all token sequences, and its gradient, with no sampler: forward-backward
            over the topology, the language model and the capped Levenshtein automaton of the target. Token errors only.
        temperature: above 0; 1 with "sampled" and "exact".
        nbest_scale: scales scores only while drawing: below 1 draws more distinct hypotheses; 1 with "sampled" and
            "exact".
        path_score: "sum" over alignments, or "single", the alignment that was drawn; "sum" with "exact".
        baseline: "mean" or "none"; the value of "sampled" is the mean of W either way, that of "exact" the expectation.
        include_reference, include_best: add the target, where it has a path (``path_score="sum"`` only), and the best
            path's sequence to the hypotheses; with "nbest" only, others they would bias.
        max_errors: of the exact estimator: more errors count as ``max_errors + 1``, and as far as only they differ
            hypotheses have no gradient. A target of 20 tokens takes 81, 299 and about 1,100 states for 1, 2 and 3, and
            time in proportion. None: no cap, for short targets in few frames.
        generator: of the random draws; torch's own if left out.
        return_diagnostics: return ``(loss, Diagnostics)``; "counts" leaves out the posterior mass, one pass less.
        backend, reduction, blank, from_logits, check_normalised, nonfinite, max_memory: as in `ctc_loss`.

    Returns:
        ``(B,)`` or a scalar, in errors; with diagnostics on request.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Prabhavalkar et al. 2018 (arXiv 1712.01818); sampled: Shannon 2017 (arXiv 1706.02776).

    >>> import torch
    >>> log_probs = torch.full((1, 4, 3), 1 / 3).log().requires_grad_()
    >>> loss = mwer_loss(log_probs, [[1, 2]], [4], generator=torch.Generator().manual_seed(0))
    >>> loss.shape
    torch.Size([1])
    """
    check_reduction(reduction)
    check_generator(generator)
    criterion = Criterion(
        sampler, risk, estimator, temperature, path_score, baseline, nbest_scale, include_reference, include_best
    )
    max_errors = check_max_errors(max_errors, estimator)
    measure_mass = check_diagnostics(return_diagnostics)
    emissions = read_emissions(
        log_probs,
        input_lengths,
        from_logits=from_logits,
        check_normalised=check_normalised,
        nonfinite=nonfinite,
        max_memory=max_memory,
    )
    engine = get_backend(backend, emissions.scores.device)
    blank = check_blank(blank, emissions.num_labels)
    references = check_targets(targets, target_lengths, emissions.num_utterances, emissions.num_labels, blank)
    rule = check_topology(topology, emissions.num_labels)
    if language_model is not None:
        check_language_model(language_model, emissions.num_labels)
    lattice = EmissionLattice(rule, emissions, engine, blank, language_model)
    if estimator == "exact":
        losses, diagnostics = exact_errors(lattice, references, risk, max_errors)
    else:
        losses, diagnostics = expected_errors(lattice, references, criterion, generator, measure_mass=measure_mass)
    losses = losses.masked_fill(torch.as_tensor(emissions.dropped, device=losses.device), torch.inf)
    dropped = tuple(np.flatnonzero(emissions.dropped).tolist())
    value = reduce(losses, reduction)
    return (value, dataclasses.replace(diagnostics, dropped=dropped)) if return_diagnostics else value
