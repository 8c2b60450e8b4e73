"""Lines 20, 21 and 25: limits, a long utterance, growth."""

from __future__ import annotations

import time

import numpy as np
import psutil
import torch
from large_batches import MIB, emissions, peak_bytes, targets_of, torch_ctc

from wfst_losses import LanguageModel, RandomPaths, ctc_loss, mmi_loss, mwer_loss


def limits() -> tuple[bool, str]:
    """V = 100,000; T = 200,000; 100,000 graphs; 100,000 states: right, and refused by name where k2 cannot."""
    many = [[1], [2]] * 50_000
    rows = {
        "V": (emissions(1, 20, 100_000), [[99_999, 5, 5]]),
        "T": (emissions(1, 200_000, 5), targets_of(1, 50, 5)),
        "graphs": (emissions(1, 3, 4).detach().expand(100_000, 3, 4), many),
        "states": (emissions(1, 20, 4), [[1, 2] * 25_000]),
    }
    outcomes, held = [], True
    for name, (scores, targets) in rows.items():
        lengths = [scores.shape[1]] * len(scores)
        losses = ctc_loss(scores, targets, lengths, check_normalised=False).detach().double()
        if name == "states":
            good = bool(torch.isinf(losses).all())
        else:
            wanted = torch_ctc(scores.detach()[:2], targets[:2]) if name == "graphs" else torch_ctc(scores, targets)
            wanted = wanted.detach().repeat(len(losses) // len(wanted))
            good = bool(((losses - wanted).abs() <= 1e-5 * wanted.abs().clamp(min=1)).all())
        held &= good
        outcomes.append(f"{name} {'right' if good else 'WRONG'}{_with_k2(scores, targets, lengths)}")
    outcomes.append(f"language model of 100,000 states {_large_model()}")
    return held and not any("WRONG" in outcome for outcome in outcomes), "; ".join(outcomes)


def _with_k2(scores: torch.Tensor, targets: list[list[int]], lengths: list[int]) -> str:
    try:
        import k2  # noqa: F401
    except ImportError:
        return ""
    try:
        ctc_loss(scores, targets, lengths, check_normalised=False, backend="k2")
    except ValueError as error:
        return ", k2 refused" if "k2" in str(error) else ", k2 WRONG"
    return ", k2 WRONG"


def _large_model() -> str:
    states = np.arange(100_000)
    token = 1 + states % 3
    model = LanguageModel.from_arcs(
        states, (states + 1) % 100_000, token, np.full(100_000, -1.0), np.full(100_000, -0.5)
    )
    log_probs = emissions(1, 6, 4)
    loss = float(mmi_loss(log_probs.detach(), [[1, 2]], [6], language_model=model, topology="minimal"))
    # One token may follow each history: the denominator sums over how many tokens there are.
    targets = [[1, 2, 3, 1, 2, 3][:count] for count in range(7)]
    parts = ctc_loss(log_probs.expand(7, 6, 4), targets, [6] * 7, topology="minimal").detach().double()
    of_model = torch.tensor([-count - 0.5 for count in range(7)], dtype=torch.float64)
    wanted = float(parts[2] - of_model[2] + torch.logsumexp(of_model - parts, 0))
    return "right" if abs(loss - wanted) <= 1e-5 * max(1.0, abs(wanted)) else f"WRONG: {loss} for {wanted}"


def long_utterance() -> tuple[bool, str]:
    """T = 20,000, S = 1,000: memory of the whole process, processor time, and the error against torch in float64."""
    warm = emissions(1, 50, 100)
    ctc_loss(warm, [[1, 2]], [50]).sum().backward()
    scores, targets = emissions(1, 20_000, 100), targets_of(1, 1000, 100)
    start = time.process_time()
    loss = ctc_loss(scores, targets, [20_000])
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    spent, peak = time.process_time() - start, peak_bytes()
    leaf = scores.detach().double().requires_grad_()
    wanted = torch_ctc(leaf, targets)
    (slope,) = torch.autograd.grad(wanted.sum(), leaf)
    # torch's gradient assumes a log-softmax before it: less the softmax, which is these probabilities.
    slope = slope - leaf.detach().exp()
    value_error = float(((loss - wanted).abs() / wanted.abs()).detach())
    gradient_error = float((gradient.double() - slope).abs().max())
    held = peak < 1.1 * 2**30 and spent < 3 and value_error < 1e-5 and gradient_error < 1e-5
    return held, (
        f"{peak / 2**30:.2f} GiB, {spent:.1f} s of one core, relative error {value_error:.0e}, "
        f"gradient {gradient_error:.0e}"
    )


def growth() -> tuple[bool, str]:
    """1000 steps of three losses and 1000 failed calls: what the process grows by, at most 20 MiB."""
    scores, targets, lengths = emissions(4, 30, 20), targets_of(4, 5, 20), [30] * 4
    model = LanguageModel.from_counts(targets, num_labels=20, order=2)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        losses = ctc_loss(scores, targets, lengths) + mmi_loss(scores, targets, lengths, language_model=model)
        losses = losses + mwer_loss(scores, targets, lengths, sampler=RandomPaths(4), generator=generator)
        torch.autograd.grad(losses.sum(), scores)

    spoilt = scores.detach().clone()
    spoilt[1, 2, 3] = torch.nan

    def fail() -> None:
        for call in (
            lambda: ctc_loss(scores, [[99]] * 4, lengths),
            lambda: ctc_loss(spoilt, targets, lengths),
            lambda: mmi_loss(scores, targets, lengths, language_model=model, max_memory=1),
        ):
            try:
                call()
            except (ValueError, MemoryError):
                continue
            raise AssertionError("a bad call went through")

    process, found = psutil.Process(), []
    for work in (step, fail):
        for _ in range(50):
            work()
        before = process.memory_info().rss
        for _ in range(1000):
            work()
        found.append((process.memory_info().rss - before) / MIB)
    return max(found) <= 20, f"{found[0]:.1f} MiB in 1000 steps, {found[1]:.1f} MiB in 1000 failed calls"
