"""Minimum word error rate over a k2 lattice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from wfst_losses.losses.expected_errors import Criterion, Diagnostics, check_diagnostics, expected_errors
from wfst_losses.losses.reduction import reduce
from wfst_losses.memory_limit import MemoryBudget
from wfst_losses.risks import AbstractRisk, TokenErrors
from wfst_losses.samplers import AbstractPathSampler, RandomPaths
from wfst_losses.validation import (
    TokenSequence,
    check_choice,
    check_flag,
    check_generator,
    check_nonfinite,
    check_reduction,
    check_row,
    shown,
    to_numpy,
)

if TYPE_CHECKING:
    from k2 import Fsa, RaggedTensor


def lattice_mwer_loss(
    lattice: Fsa,
    ref_texts: Sequence[Sequence[int]] | RaggedTensor,
    nbest_scale: float = 0.5,
    num_paths: int = 200,
    temperature: float = 1.0,
    use_double_scores: bool = True,
    reduction: str = "sum",
    *,
    sampler: AbstractPathSampler | None = None,
    risk: AbstractRisk = TokenErrors(),  # noqa: B008 (an immutable value)
    estimator: str = "nbest",
    path_score: str = "sum",
    baseline: str = "none",
    include_reference: bool = False,
    include_best: bool = False,
    generator: torch.Generator | None = None,
    return_diagnostics: bool | str = False,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor | tuple[torch.Tensor, Diagnostics]:
    """Expected errors of hypotheses drawn from a k2 lattice; ``k2.mwer_loss``'s arguments in its order.

    ``loss = sum_i P_i W_i``, ``P = softmax_i(Z(y_i) / temperature)``, ``Z(y_i)`` the log-sum over all paths of the
    lattice that write ``y_i``: over alignments, and with a lexicon and grammar over pronunciations, silences and
    back-off paths too. ``k2.mwer_loss`` keeps one arbitrary alignment per hypothesis: ``path_score="single"``.

    The lattice is not changed. "mean" is over utterances with a lattice, where k2 divides by the number of paths
    found. An empty lattice is +inf with zero gradient and named in the diagnostics, where k2 gives 0. On a pruned
    lattice all is exact for the pruned posterior. Sums run on the CPU in float64 whatever the lattice's device.

    Args:
        lattice: FsaVec, one graph per utterance; tokens are its ``aux_labels``, plain or ragged, words included.
        ref_texts: B references in the units the lattice writes.
        nbest_scale: scales scores only while drawing.
        num_paths: paths drawn per utterance, where ``sampler`` is left out.
        temperature: above 0.
        use_double_scores: kept for k2's sake; sums are always float64.
        reduction: "sum", "mean" over finite utterances, or "none" for ``(B,)``.
        sampler, risk, estimator, path_score, baseline, include_reference, include_best, generator, return_diagnostics:
            as in `mwer_loss`.
        nonfinite: what arcs that score NaN or +inf do: "raise", "drop" (the utterance is +inf with zero gradient, and
            in the diagnostics) or "pass": no path takes them.
        max_memory: bytes that paths, sums and the gradient may take; None: the machine's. What the sums of sequences
            take depends on the scores: they stop before they would take more.

    Returns:
        A scalar or ``(B,)``, in errors; with diagnostics on request.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
        MemoryLimitError: before it is taken, with the prediction.

    Source: Prabhavalkar et al. 2018 (arXiv 1712.01818).
    """
    from wfst_losses.backends.k2.lattice import read_lattice

    check_flag("use_double_scores", use_double_scores)
    check_reduction(reduction)
    check_generator(generator)
    check_choice("estimator", estimator, ("nbest", "sampled"))
    criterion = Criterion(
        sampler if sampler is not None else RandomPaths(num_paths),
        risk,
        estimator,
        temperature,
        path_score,
        baseline,
        nbest_scale,
        include_reference,
        include_best,
    )
    check_nonfinite(nonfinite)
    budget = MemoryBudget.of(max_memory)
    arcs = dataclasses.replace(read_lattice(lattice, nonfinite), budget=budget)
    references = _check_references(ref_texts, arcs.num_utterances)
    measure_mass = check_diagnostics(return_diagnostics)
    losses, diagnostics = expected_errors(arcs, references, criterion, generator, measure_mass=measure_mass)
    value = reduce(losses, reduction)
    diagnostics = dataclasses.replace(diagnostics, dropped=arcs.dropped)
    return (value, diagnostics) if return_diagnostics else value


def _check_references(ref_texts: Sequence[Sequence[int]] | RaggedTensor, num_utterances: int) -> list[TokenSequence]:
    rows: object = ref_texts
    if isinstance(rows, torch.Tensor):
        rows = to_numpy("ref_texts", rows)
    if isinstance(rows, np.ndarray):
        rows = list(rows) if rows.ndim else None
    elif hasattr(rows, "tolist"):
        rows = rows.tolist()
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
        raise ValueError(f"ref_texts is {shown(ref_texts)}, expected a list of lists or a k2.RaggedTensor")
    if len(rows) != num_utterances:
        raise ValueError(f"ref_texts has {len(rows)} references but lattice has {num_utterances}, expected as many")
    references = []
    for index, row in enumerate(rows):
        tokens = check_row(f"ref_texts[{index}]", row)
        if tokens.size and tokens.min() < 1:
            position = int(np.argmax(tokens < 1))
            raise ValueError(f"ref_texts[{index}][{position}] is {tokens[position]}, expected a token >= 1")
        references.append(tokens)
    return references
