"""Measure every line of the scorecard, each with the figure that it has to hold.

    python tools/reliability/figures.py               # every line, each in a process of its own: half an hour
    python tools/reliability/figures.py --line 21     # one of them, here
    python tools/reliability/figures.py --line 1 2 3  # several that share what they run

Numbers are those of docs/reliability.md. Exit status 1 if a figure does not hold.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import memory_told
import numpy as np
import torch
from figure import Measure, joined
from figures_of_cases import cases, deaths, messages, silent, without_assertions
from figures_of_commands import command_line
from figures_of_files import files
from figures_of_size import growth, limits, long_utterance
from figures_of_tests import laws, passing, script
from figures_of_values import brute_force, determinism, masses
from large_batches import emissions, targets_of

import topologies
from wfst_losses import ctc_loss
from wfst_losses.backends import get_backend
from wfst_losses.emissions import Emissions, _log_sums
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.training import training_graphs


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
        times = np.array([(seconds(with_checks), seconds(without)) for _ in range(301)])[1:]
        # Other work on the machine only adds to either; what it does to one group it does not do to most.
        slow, fast = np.quantile(times.reshape(5, -1, 2), 0.1, axis=1).T
        costs[name] = float(np.median(slow / fast)) - 1
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


_ALL_MAPPED = "MALLOC_MMAP_THRESHOLD_"

LINES: dict[int, tuple[str, Measure]] = {
    1: ("bad inputs tried", cases),
    2: ("deaths, hangs", deaths),
    3: ("silently wrong", silent),
    4: ("clear messages", messages),
    5: ("without assertions", without_assertions),
    6: ("cost of checks", cost_of_checks),
    7: ("brute force", brute_force),
    8: ("identities", joined(masses, laws("an utterance is alone", "occupancies sum to one"))),
    9: ("gradcheck", passing("tests/losses", "tests/test_differentiation.py", chosen="gradcheck or differentiation")),
    10: ("fuzz", script("fuzz.py", "--minutes", "2")),
    11: ("NaN, inf", passing("tests/losses/test_inputs.py", "tests/losses/test_bad_input.py")),
    12: (
        "infeasible",
        joined(
            laws("infeasible means infinite"),
            passing("tests/losses", "tests/topologies", chosen="impossible or no_path or min_frames or every_topology"),
        ),
    ),
    13: ("precision", passing("tests/losses", chosen="dtype or autocast or narrow or rounded")),
    14: ("pairing", joined(laws("an utterance is alone"), passing("tests/losses", chosen="order or bad_call"))),
    15: (
        "approximations",
        passing(
            "tests/losses/test_mwer.py",
            "tests/losses/test_mwer_samplers.py",
            "tests/losses/test_exact_errors.py",
            chosen="report or mass or diagnostics",
        ),
    ),
    16: ("determinism", determinism),
    17: ("DDP", passing("tests/digits/test_processes.py")),
    18: (
        "kill and resume",
        joined(
            script("kills.py", "--kills", "100"),
            passing(
                "tests/test_modules.py",
                "tests/cli/test_interruptions.py",
                "tests/digits",
                chosen="cop or saved or kill or disk or resume",
            ),
        ),
    ),
    19: (
        "memory, predicted",
        joined(predicted_memory, passing("tests/reliability/test_limits.py", chosen="fit or paths")),
    ),
    20: ("limits", limits),
    21: ("long utterance", long_utterance),
    22: ("files", files),
    23: ("command line", joined(command_line, passing("tests/cli"))),
    24: ("threads", passing("tests/reliability/test_limits.py", chosen="threads or changes")),
    25: ("growth", growth),
}
TOGETHER = ((1, 2, 3, 4), *((line,) for line in LINES if line > 4))
"""Lines that are measured in one process: those that count what became of the same cases, and each other by itself."""


def main() -> int:
    """Measure, print, tell whether all held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", type=int, nargs="+", choices=tuple(LINES))
    chosen = parser.parse_args().line
    if chosen is None:
        commands = [[sys.executable, __file__, "--line", *map(str, lines)] for lines in TOGETHER]
        return max([subprocess.run(command, check=False).returncode != 0 for command in commands])
    if _ALL_MAPPED not in os.environ:
        # So that what is freed goes back, and peaks are those of the call.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, _ALL_MAPPED: "65536"})  # noqa: S606
    torch.set_num_threads(1)
    all_held = True
    for line in chosen:
        name, measure = LINES[line]
        held, figure = measure()
        all_held &= held
        print(f"{line:2} {name}: {figure}: {'held' if held else 'NOT HELD'}", flush=True)
    return 0 if all_held else 1


if __name__ == "__main__":
    raise SystemExit(main())
