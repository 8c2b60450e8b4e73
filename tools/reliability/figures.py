"""Measure the scorecard's figures: what checks cost, memory foretold, limits, a long utterance, threads, growth.

    python tools/reliability/figures.py             # every line, each in a process of its own
    python tools/reliability/figures.py --line 21   # one of them, here

Numbers are those of docs/reliability.md. Exit status 1 if a figure does not hold.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import memory_told
import numpy as np
import psutil
import torch

import topologies
from wfst_losses import LanguageModel, RandomPaths, ctc_loss, mmi_loss, mwer_loss
from wfst_losses.backends import get_backend
from wfst_losses.emissions import Emissions, _log_sums
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.training import training_graphs

MIB = 1 << 20
_ALL_MAPPED = "MALLOC_MMAP_THRESHOLD_"


def emissions(num_utterances: int, num_frames: int, num_labels: int, seed: int = 0) -> torch.Tensor:
    """Log-probs that require grad."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator)
    return logits.log_softmax(2).requires_grad_()


def targets_of(num_utterances: int, num_tokens: int, num_labels: int) -> list[list[int]]:
    """Random targets."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, num_labels, num_tokens).tolist() for _ in range(num_utterances)]


def torch_ctc(log_probs: torch.Tensor, targets: list[list[int]]) -> torch.Tensor:
    """The same losses by torch, in float64."""
    num_utterances, num_frames, _ = log_probs.shape
    flat = torch.tensor([label for row in targets for label in row])
    lengths = torch.tensor([len(row) for row in targets])
    frames = torch.full((num_utterances,), num_frames)
    scores = log_probs.double().transpose(0, 1)
    return torch.nn.functional.ctc_loss(scores, flat, frames, lengths, reduction="none")


def peak_bytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def cost_of_checks() -> tuple[bool, str]:
    """Checked calls against the same sums without any check, one after the other; at most 2 %."""
    size = (32, 500, 500)
    scores, targets = emissions(*size), targets_of(32, 60, 500)
    lengths = [500] * 32

    def unchecked(*, is_logits: bool) -> None:
        rule, engine = topologies.build("correct", 500), get_backend("native", scores.device)
        rows = [np.array(row) for row in targets]
        column = np.array(lengths)
        sums = _log_sums(scores.detach(), column) if is_logits else np.zeros(size[:2], dtype=np.float32)
        given = Emissions(scores, sums, is_logits, column, np.zeros(32, dtype=bool))
        graphs = reading_columns(training_graphs(rule, tokens_inside(rows, 0)), 0)
        losses = 0.0 - engine.total_scores(graphs, given, torch.arange(32))
        losses = losses.masked_fill(torch.zeros(32, dtype=torch.bool), torch.inf)
        torch.autograd.grad(losses.sum(), scores)

    def checked(**options: Any) -> None:
        torch.autograd.grad(ctc_loss(scores, targets, lengths, **options).sum(), scores)

    pairs = {
        "logits": (lambda: checked(from_logits=True), lambda: unchecked(is_logits=True)),
        "log-probs": (checked, lambda: unchecked(is_logits=False)),
    }
    costs = {}
    for name, (with_checks, without) in pairs.items():
        times = [(seconds(with_checks), seconds(without)) for _ in range(201)][1:]
        # Other work on the machine only adds to either.
        slow, fast = (float(np.quantile(column, 0.1)) for column in zip(*times, strict=True))
        costs[name] = slow / fast - 1
    return max(costs.values()) <= 0.02, ", ".join(f"{name} {cost:+.1%}" for name, cost in costs.items())


def predicted_memory() -> tuple[bool, str]:
    """Every loss, estimator and decoder: what is told against what is taken, as a table; a process each."""
    found = []
    print(memory_told.HEADING, flush=True)
    for name in memory_told.ENTRIES:
        found.append(memory_told.measured(name))
        print(memory_told.line(found[-1]), flush=True)
    ran = [each for each in found if each["holds"] is not None]
    holding = sum(each["holds"] for each in ran)
    return holding == len(ran), f"{holding} of {len(ran)} calls as told"


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


LINES: dict[int, tuple[str, Callable[[], tuple[bool, str]]]] = {
    6: ("cost of checks", cost_of_checks),
    19: ("memory, predicted", predicted_memory),
    20: ("limits", limits),
    21: ("long utterance", long_utterance),
    25: ("growth", growth),
}


def main() -> int:
    """Measure, print, tell whether all held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", type=int, choices=tuple(LINES))
    line = parser.parse_args().line
    if line is None:
        runs = [subprocess.run([sys.executable, __file__, "--line", str(each)], check=False) for each in LINES]
        return int(any(run.returncode for run in runs))
    if _ALL_MAPPED not in os.environ:
        # So that what is freed goes back, and peaks are those of the call.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, _ALL_MAPPED: "65536"})  # noqa: S606
    torch.set_num_threads(1)
    name, measure = LINES[line]
    held, figure = measure()
    print(f"{line:2} {name}: {figure}: {'held' if held else 'NOT HELD'}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
