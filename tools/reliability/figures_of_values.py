"""Lines 7, 8 and 16: brute force, identities of long utterances, determinism."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import topologies
from tests.losses.checks import Batch, enumerated_ctc, enumerated_errors, gradient, random_batch
from tests.losses.test_exact_errors import enumerated as enumerated_capped_errors
from tests.losses.test_mmi import enumerated as enumerated_mmi
from tests.losses.test_smoothed_max_pooling import FILTER, probabilities, random_call
from tests.losses.test_smoothed_max_pooling import gradient as pooling_gradient
from tests.losses.test_smoothed_max_pooling import oracle as enumerated_pooling
from wfst_losses import (
    Exhaustive,
    LanguageModel,
    RandomPaths,
    ctc_loss,
    mmi_loss,
    mwer_loss,
    smoothed_max_pooling_loss,
)
from wfst_losses.backends import get_backend
from wfst_losses.emissions import read_emissions

HAS_K2 = importlib.util.find_spec("k2") is not None
NUM_INSTANCES, _PER_BATCH = 500, 10
_MAX_ERRORS = 2
ENGINES: dict[str, tuple[str, torch.dtype, float]] = {
    "float64": ("native", torch.float64, 1e-9),
    "reference": ("reference", torch.float64, 1e-9),
    "float32": ("native", torch.float32, 1e-6),
    **({"k2": ("k2", torch.float32, 1e-4)} if HAS_K2 else {}),
}
"""Engine, dtype and the error that is allowed, by the name in the figure."""


def _model(num_labels: int) -> LanguageModel:
    tokens = list(range(1, num_labels))
    rows = [tokens, tokens[::-1], tokens[:1] * 2, []]
    return LanguageModel.from_counts(rows, num_labels=num_labels, order=2, discounting="witten_bell")


LOSSES: dict[str, tuple[Callable[..., Any], Callable[[str, Batch], torch.Tensor]]] = {
    "CTC": (ctc_loss, enumerated_ctc),
    "MMI": (
        lambda scores, *batch, **options: mmi_loss(
            scores, *batch, language_model=_model(scores.shape[2]), boost=0.3, den_scale=0.8, **options
        ),
        lambda name, batch: enumerated_mmi(name, batch, _model(batch[0].shape[2]), boost=0.3, den_scale=0.8),
    ),
    "MWER": (
        lambda *batch, **options: mwer_loss(*batch, sampler=Exhaustive(), baseline="none", **options),
        enumerated_errors,
    ),
    "exact MWER": (
        lambda *batch, **options: mwer_loss(
            *batch, estimator="exact", max_errors=_MAX_ERRORS, baseline="none", **options
        ),
        lambda name, batch: enumerated_capped_errors(name, batch, _MAX_ERRORS),
    ),
}


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest, relative to max(1, |value|); infinite ones are equal or infinitely wrong."""
    found, wanted = found.detach().double(), wanted.detach().double()
    if not torch.equal(found.isfinite(), wanted.isfinite()):
        return float("inf")
    distance = (found - wanted).abs() / wanted.abs().clamp(min=1)
    return float(distance[wanted.isfinite()].max()) if wanted.isfinite().any() else 0.0


def brute_force() -> tuple[bool, str]:
    """500 random utterances of T <= 5 and V <= 4 per loss, topology and engine: values and gradients."""
    worst = dict.fromkeys(ENGINES, (0.0, ""))
    for loss_name, (loss, oracle) in LOSSES.items():
        for topology in topologies.TOPOLOGIES:
            for seed in range(NUM_INSTANCES // _PER_BATCH):
                scores, targets, lengths = random_batch(seed, 1 + seed % 4, 5, _PER_BATCH)
                scores = scores.float().double()  # so that all engines are given the same numbers
                leaf = scores.clone().requires_grad_()
                wanted = oracle(topology, (leaf, targets, lengths))
                slope = gradient(wanted, leaf)
                for engine, (backend, dtype, _) in ENGINES.items():
                    given = scores.to(dtype).requires_grad_()
                    found = loss(given, targets, lengths, topology=topology, backend=backend)
                    error = max(_error(found, wanted), _error(gradient(found, given), slope))
                    worst[engine] = max(worst[engine], (error, f"{loss_name}, {topology}"))
    for engine in ("float64", "float32"):
        worst[engine] = max(worst[engine], (_pooling_error(ENGINES[engine][1]), "smoothed max pooling"))
    held = all(worst[engine][0] <= most for engine, (_, _, most) in ENGINES.items())
    figures = ", ".join(f"{engine} {error:.0e} ({place})" for engine, (error, place) in worst.items())
    return held, f"{NUM_INSTANCES} random utterances per loss, topology and engine; the worst: {figures}"


def _pooling_error(dtype: torch.dtype) -> float:
    worst = 0.0
    for seed in range(NUM_INSTANCES // 5):
        call = random_call(seed, num_frames=5)
        call["logits"] = call["logits"].float().double()
        leaf = call["logits"].clone().requires_grad_()
        wanted = enumerated_pooling(call, probabilities(leaf, "complement"), "complement")
        given = call["logits"].to(dtype).requires_grad_()
        found = smoothed_max_pooling_loss(**{**call, "logits": given}, **FILTER)
        worst = max(
            worst, _error(found, wanted), _error(pooling_gradient(found, given), pooling_gradient(wanted, leaf))
        )
    return worst


def masses() -> tuple[bool, str]:
    """The total mass of T = 20,000 frames under the normalised topologies, and the sums of occupancies."""
    num_frames, found, held = 20_000, [], True
    for dtype, most in ((torch.float32, 1e-8), (torch.float64, 1e-12)):
        for name, rule in topologies.TOPOLOGIES.items():
            if not rule.is_normalised:
                continue
            logits = torch.randn(1, num_frames, 4, dtype=dtype, generator=torch.Generator().manual_seed(17))
            scores = logits.requires_grad_()
            graphs = topologies.GraphBatch.from_graphs([topologies.build(name, 4).graph()])
            emissions = read_emissions(scores, [num_frames], from_logits=True)
            engine = get_backend("auto", scores.device)
            total = engine.total_scores(graphs, emissions, torch.zeros(1, dtype=torch.int64))
            mass = abs(float(total)) / num_frames
            held &= mass <= most
            found.append(f"{name} {str(dtype)[6:]} {mass:.0e} T")
    return held, f"log mass of 20,000 frames: {', '.join(found)}"


def determinism() -> tuple[bool, str]:
    """Bitwise: 20 repeats, each utterance alone, 1 and 2 threads; values and gradients of every loss and engine."""
    backends = ("native", "reference", *(("k2",) if HAS_K2 else ()))
    wrong, count = [], 0
    try:
        for backend in backends:
            for name, loss in _seeded(backend).items():
                batch = random_batch(3, 5, 12, 5)
                wanted = _bits(loss, batch)
                for run in range(20):
                    torch.set_num_threads(1 + run % 2)
                    count += 1
                    if not _same(_bits(loss, batch), wanted):
                        wrong.append(f"{name} on {backend} the {run + 2}. time")
                torch.set_num_threads(1)
                if name != "MWER" and not _is_alone(loss, batch, wanted):  # draws depend on the batch
                    wrong.append(f"{name} on {backend} split")
    finally:
        torch.set_num_threads(1)
    figure = f"{count} repeats of losses on {', '.join(backends)} with 1 and 2 threads, and split: bitwise equal"
    return not wrong, "; ".join([figure, *wrong[:5]])


def _seeded(backend: str) -> dict[str, Callable[..., torch.Tensor]]:
    model = _model(5)
    return {
        "CTC": lambda *batch: ctc_loss(*batch, backend=backend),
        "MMI": lambda *batch: mmi_loss(*batch, language_model=model, backend=backend),
        "exact MWER": lambda *batch: _plain(mwer_loss(*batch, estimator="exact", max_errors=1, backend=backend)),
        "MWER": lambda *batch: _plain(
            mwer_loss(*batch, sampler=RandomPaths(8), generator=torch.Generator().manual_seed(5), backend=backend)
        ),
    }


def _plain(result: Any) -> torch.Tensor:
    losses: torch.Tensor = result
    return losses


def _bits(loss: Callable[..., torch.Tensor], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    scores, targets, lengths = batch
    leaf = scores.float().requires_grad_()
    losses = loss(leaf, targets, lengths)
    return losses.detach(), gradient(losses, leaf)


def _same(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


def _is_alone(loss: Callable[..., torch.Tensor], batch: Batch, wanted: tuple[torch.Tensor, torch.Tensor]) -> bool:
    scores, targets, lengths = batch
    for index in range(len(targets)):
        rows = slice(index, index + 1)
        found = _bits(loss, (scores[rows], targets[rows], lengths[rows]))
        if not _same(found, (wanted[0][rows], wanted[1][rows])):
            return False
    return True
