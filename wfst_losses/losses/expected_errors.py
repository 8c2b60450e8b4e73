"""The expected number of errors over hypotheses picked from a lattice: what every MWER loss computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from wfst_losses.graphs.paths import Paths, distinct
from wfst_losses.lattices import AbstractLattice
from wfst_losses.risks import AbstractRisk
from wfst_losses.samplers import AbstractPathSampler
from wfst_losses.semiring import segment_softmax
from wfst_losses.validation import TokenSequence, check_choice, check_flag, check_number

_LARGEST_SCALE = 1e6
"""Times a score, what is still told from impossible."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """How hypotheses are picked, counted and weighted; checked once.

    Attributes:
        sampler, risk: what picks hypotheses and what counts their errors.
        estimator: "nbest" (softmax over distinct hypotheses), "sampled" (unbiased, duplicates kept) or "exact" (all
            hypotheses, see `wfst_losses.losses.exact_errors`; from log-probs only).
        temperature: divides log-scores before the softmax.
        path_score: "sum" over all alignments of a hypothesis, or "single", the one that was picked.
        baseline: "mean" subtracts the mean errors of the hypotheses, a constant; "none" does not. The value of the
            sampled estimator is the mean either way.
        nbest_scale: multiplies scores while drawing only.
        include_reference, include_best: add the reference, where the lattice holds it, and the best path's sequence to
            the hypotheses; n-best only.
    """

    sampler: AbstractPathSampler
    risk: AbstractRisk
    estimator: str = "nbest"
    temperature: float = 1.0
    path_score: str = "sum"
    baseline: str = "mean"
    nbest_scale: float = 1.0
    include_reference: bool = False
    include_best: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, AbstractPathSampler):
            raise ValueError(f"sampler is {self.sampler!r:.80}, expected a path sampler such as RandomPaths(16)")
        if not isinstance(self.risk, AbstractRisk):
            raise ValueError(f"risk is {self.risk!r:.80}, expected a risk such as TokenErrors()")
        check_choice("estimator", self.estimator, ("nbest", "sampled", "exact"))
        check_choice("path_score", self.path_score, ("sum", "single"))
        check_choice("baseline", self.baseline, ("mean", "none"))
        check_number("temperature", self.temperature, above=0.0)
        check_number("nbest_scale", self.nbest_scale, above=0.0)
        if self.nbest_scale > _LARGEST_SCALE:
            raise ValueError(
                f"nbest_scale is {self.nbest_scale}, expected at most {_LARGEST_SCALE}: all draws are best paths then"
            )
        for name in ("include_reference", "include_best"):
            check_flag(name, getattr(self, name))
        if self.include_reference and self.path_score == "single":
            raise ValueError("include_reference is True, expected path_score='sum': a reference comes with no path")
        if self.estimator != "nbest":
            self._check_unscaled()

    def _check_unscaled(self) -> None:
        if self.estimator == "sampled":
            self._check_sampler()
        elif self.path_score != "sum":
            raise ValueError(f"path_score is {self.path_score!r}, expected 'sum' with estimator='exact'")
        for name in ("temperature", "nbest_scale"):
            if getattr(self, name) != 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 with estimator={self.estimator!r}")
        for name in ("include_reference", "include_best"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} is True, expected False with estimator={self.estimator!r}: it would be biased"
                )

    def _check_sampler(self) -> None:
        if not self.sampler.is_posterior:
            raise ValueError(f"sampler is {self.sampler!r}, expected RandomPaths with estimator='sampled'")
        if getattr(self.sampler, "num_paths", 2) < 2:
            raise ValueError("sampler.num_paths is 1, expected >= 2 with estimator='sampled'")


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """What stood behind a loss, per utterance, in the caller's order.

    Attributes:
        expected_errors: ``(B,)`` float64, expected errors without the baseline; +inf where there is no hypothesis.
        oracle_errors: ``(B,)`` float64, errors of the best hypothesis; +inf likewise.
        num_paths, num_distinct: ``(B,)`` paths drawn, distinct sequences among them.
        empty: utterances without any path: loss +inf, gradient 0.
        single: utterances with one hypothesis: gradient 0 with the n-best estimator.
        dropped: utterances left out for NaN or +inf.
        posterior_mass: ``(B,)`` float64, the share of the lattice's mass that the hypotheses hold, 0..1: how much of
            the posterior the loss has seen (of a pruned lattice, of what pruning left); 0 where there is no hypothesis.
            None where it was not asked for.
        beyond_max_errors: ``(B,)`` float64, with the exact estimator: the probability of more than ``max_errors``
            errors, which count as ``max_errors + 1``.
    """

    expected_errors: npt.NDArray[np.float64]
    oracle_errors: npt.NDArray[np.float64]
    num_paths: npt.NDArray[np.int64]
    num_distinct: npt.NDArray[np.int64]
    empty: tuple[int, ...]
    single: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    posterior_mass: npt.NDArray[np.float64] | None = None
    beyond_max_errors: npt.NDArray[np.float64] | None = None


def check_diagnostics(return_diagnostics: object) -> bool:
    """Whether the posterior mass is asked for."""
    check_choice("return_diagnostics", return_diagnostics, (False, True, "counts"))
    return return_diagnostics is True


def expected_errors(
    lattice: AbstractLattice,
    references: Sequence[TokenSequence],
    criterion: Criterion,
    generator: torch.Generator | None,
    *,
    measure_mass: bool = False,
) -> tuple[torch.Tensor, Diagnostics]:
    """``(B,)`` losses attached to the lattice's scores, and what stood behind them.

    n-best: ``sum_i P_i W_i - c`` with ``P = softmax(score / temperature)`` over distinct hypotheses. Sampled: the
    mean of W over independent paths, with the unbiased gradient ``1/(N-1) sum_i (W_i - mean W) grad score_i``.
    """
    drawn = _with_extras(criterion.sampler.draw(lattice, criterion.nbest_scale, generator), lattice, criterion)
    unique, _ = distinct(drawn)
    paths = drawn if criterion.estimator == "sampled" else unique
    if criterion.include_reference:
        paths = distinct(paths.joined(_of_references(references)))[0]
    scores = _scores(lattice, paths, criterion)
    errors = criterion.risk.errors(paths.tokens, references, paths.utterances)
    # After the errors, which are found while a device still works on the scores.
    held = (scores.detach() != -torch.inf).cpu().numpy()
    if not held.all():
        paths, scores, errors = (
            paths.select(np.flatnonzero(held)),
            scores[torch.from_numpy(held).to(scores.device)],
            errors[held],
        )
        unique = distinct(paths)[0]
    elif criterion.include_reference:
        unique = paths
    segment = torch.from_numpy(paths.utterances).to(scores.device)
    weighting = _sampled if criterion.estimator == "sampled" else _nbest
    # In float64: what a gradient is in the end is small beside the errors whose differences it is made of.
    costs = torch.from_numpy(errors).to(scores.device, torch.float64)
    expected, loss = weighting(scores.double(), costs, segment, criterion, lattice.num_utterances)
    counts = np.bincount(paths.utterances, minlength=lattice.num_utterances)
    empty = torch.from_numpy(counts == 0).to(loss.device)
    loss = loss.masked_fill(empty, torch.inf).to(lattice.scores.dtype)
    if lattice.scores.requires_grad and not loss.requires_grad:
        loss = loss + 0.0 * _anchor(lattice.scores)
    expected = expected.detach().masked_fill(empty, torch.inf)
    diagnostics = _diagnostics(drawn, unique, paths, errors, expected.cpu().double().numpy())
    if measure_mass:
        diagnostics = dataclasses.replace(diagnostics, posterior_mass=_posterior_mass(lattice, unique))
    return loss, diagnostics


def _with_extras(drawn: Paths, lattice: AbstractLattice, criterion: Criterion) -> Paths:
    return lattice.best_sequences(1).joined(drawn) if criterion.include_best else drawn


def _of_references(references: Sequence[TokenSequence]) -> Paths:
    """The references as if they were paths, without steps."""
    count = len(references)
    return Paths(np.empty((count, 0), dtype=np.int64), list(references), np.arange(count), np.zeros(count))


def _posterior_mass(lattice: AbstractLattice, unique: Paths) -> npt.NDArray[np.float64]:
    with torch.no_grad():
        scores = lattice.sequence_scores(unique.tokens, unique.utterances).cpu().double().numpy()
        totals = lattice.total_scores().cpu().double().numpy()
    mass = np.zeros(lattice.num_utterances)
    np.add.at(mass, unique.utterances, np.exp(scores - totals[unique.utterances]))
    # Above 1 by rounding only: distinct sequences share no path.
    return np.minimum(mass, 1.0)


def _anchor(scores: torch.Tensor) -> torch.Tensor:
    """Zero, attached to the scores: a batch without hypotheses still takes part in a backward pass."""
    return scores.flatten()[:1].nan_to_num(0.0, 0.0, 0.0).sum()


def _scores(lattice: AbstractLattice, paths: Paths, criterion: Criterion) -> torch.Tensor:
    if criterion.path_score == "single":
        return lattice.path_scores(paths)
    if criterion.estimator == "nbest":
        return lattice.sequence_scores(paths.tokens, paths.utterances)
    unique, place = _places(paths)
    scores = lattice.sequence_scores(unique.tokens, unique.utterances)
    return scores[torch.from_numpy(place).to(scores.device)]


def _places(paths: Paths) -> tuple[Paths, npt.NDArray[np.int64]]:
    """Distinct sequences, and for each path the row of its sequence among them."""
    unique, _ = distinct(paths)
    keys = zip(unique.utterances.tolist(), unique.tokens, strict=True)
    row = {(utterance, tokens.tobytes()): index for index, (utterance, tokens) in enumerate(keys)}
    all_keys = zip(paths.utterances.tolist(), paths.tokens, strict=True)
    return unique, np.array([row[utterance, tokens.tobytes()] for utterance, tokens in all_keys], dtype=np.int64)


def _sums(values: torch.Tensor, segment: torch.Tensor, num_segments: int) -> torch.Tensor:
    return torch.zeros(num_segments, dtype=values.dtype, device=values.device).index_add(0, segment, values)


def _means(values: torch.Tensor, segment: torch.Tensor, num_segments: int) -> torch.Tensor:
    return _sums(values, segment, num_segments) / _sums(torch.ones_like(values), segment, num_segments).clamp(min=1)


def _nbest(
    scores: torch.Tensor, errors: torch.Tensor, segment: torch.Tensor, criterion: Criterion, num_utterances: int
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = scores / criterion.temperature
    probabilities = segment_softmax(logits, segment, num_utterances)
    expected = _sums(probabilities * errors, segment, num_utterances)
    if criterion.baseline == "none":
        return expected, expected
    baseline = _means(errors, segment, num_utterances)
    # Subtracting before the sum keeps the gradient the same and its rounding small.
    return expected, _sums(probabilities * (errors - baseline[segment]), segment, num_utterances)


def _sampled(
    scores: torch.Tensor, errors: torch.Tensor, segment: torch.Tensor, criterion: Criterion, num_utterances: int
) -> tuple[torch.Tensor, torch.Tensor]:
    del criterion  # temperature 1 and no other baseline: checked
    mean = _means(errors, segment, num_utterances)
    num_paths = _sums(torch.ones_like(errors), segment, num_utterances)
    weights = (errors - mean[segment]) / (num_paths - 1).clamp(min=1)[segment]
    surrogate = _sums(weights * scores, segment, num_utterances)
    # The mean is this gradient's baseline already; subtracting it from the value too would leave 0 at every call.
    return mean, mean + surrogate - surrogate.detach()


def _diagnostics(
    drawn: Paths,
    unique: Paths,
    paths: Paths,
    errors: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
) -> Diagnostics:
    num_utterances = len(expected)
    num_distinct = np.bincount(unique.utterances, minlength=num_utterances)
    oracle = np.full(num_utterances, np.inf)
    np.minimum.at(oracle, paths.utterances, errors)
    return Diagnostics(
        expected_errors=expected,
        oracle_errors=oracle,
        num_paths=np.bincount(drawn.utterances, minlength=num_utterances),
        num_distinct=num_distinct,
        empty=tuple(np.flatnonzero(num_distinct == 0).tolist()),
        single=tuple(np.flatnonzero(num_distinct == 1).tolist()),
    )
