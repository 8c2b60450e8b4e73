"""Time the exact expected number of errors, value and gradient, against tokens, cap, frames and labels.

    python tools/benchmarks/exact_errors.py [--topology correct] [--num-threads 2] [--rounds 3] [--output FILE]

One case is (B, T, V, S, max_errors). Log-probs are peaked where an alignment of the target has its labels, less so at
every fifth token, as a network's are after some training. Prints a table, then one line of JSON: medians of wall and of
CPU time in seconds, what making the automata takes of them, the automaton's states and the process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from wfst_losses import mwer_loss
from wfst_losses.graphs.levenshtein import EditCosts, levenshtein_automaton

CASES = (
    (8, 200, 100, 20, 1),
    (8, 200, 100, 20, 2),
    (8, 200, 100, 20, 3),
    (8, 200, 100, 40, 2),
    (8, 400, 100, 20, 2),
    (8, 200, 500, 20, 2),
    (1, 200, 5000, 20, 2),
)
Case = tuple[int, int, int, int, int]


def make_batch(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs that mostly say what the targets say, and the targets."""
    num_utterances, num_frames, num_labels, num_tokens, _ = case
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1, num_labels, (num_utterances, num_tokens), generator=generator)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator)
    spacing = num_frames / num_tokens
    starts = (torch.arange(num_tokens) * spacing).long()
    labels = torch.zeros(num_utterances, num_frames, dtype=torch.int64)
    labels[:, starts] = targets
    height = torch.full((num_frames,), 12.0)
    height[starts[::5]] = 5.0
    logits.scatter_add_(2, labels[:, :, None], height.expand(num_utterances, num_frames)[:, :, None])
    return logits.log_softmax(2), targets


def measure(case: Case, topology: str, rounds: int) -> dict[str, float]:
    """Medians over the rounds, after one to warm up."""
    log_probs, targets = make_batch(case)
    num_utterances, num_frames, _, num_tokens, max_errors = case
    leaf = log_probs.requires_grad_()
    lengths = torch.full((num_utterances,), num_frames), torch.full((num_utterances,), num_tokens)
    options = {"topology": topology, "estimator": "exact", "max_errors": max_errors}
    wall, cpu = [], []
    for _ in range(rounds + 1):
        leaf.grad = None
        begin = time.perf_counter(), time.process_time()
        losses = mwer_loss(leaf, targets, *lengths, **options)
        losses.sum().backward()
        wall.append(time.perf_counter() - begin[0])
        cpu.append(time.process_time() - begin[1])
    begin = time.process_time(), 0.0
    costs = EditCosts(1, 1, 1, max_errors + 1)
    automata = [levenshtein_automaton(np.asarray(target), costs) for target in targets]
    return {
        "seconds": statistics.median(wall[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
        "automata_cpu_seconds": time.process_time() - begin[0],
        "automaton_states": statistics.mean(automaton.num_states for automaton in automata),
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "mean_loss": float(losses.detach().mean()),
    }


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="correct")
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)), help="indices of the cases")
    parser.add_argument("--output", type=Path, help="where to write the JSON too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    heading = f"Exact errors, {arguments.topology}, torch {torch.__version__}, {arguments.num_threads} thread(s)"
    table = Table(title=heading)
    columns = ("B, T, V, S, max errors", "states", "wall s", "CPU s", "of it automata s", "peak GB", "mean loss")
    for column in columns:
        table.add_column(column, justify="right")
    results = {}
    for case in (CASES[index] for index in arguments.cases):
        result = measure(case, arguments.topology, arguments.rounds)
        results[str(case)] = result
        seconds = (f"{result[name]:.3f}" for name in ("seconds", "cpu_seconds", "automata_cpu_seconds"))
        states, peak = f"{result['automaton_states']:.0f}", f"{result['peak_bytes'] / 1e9:.2f}"
        table.add_row(str(case), states, *seconds, peak, f"{result['mean_loss']:.4f}")
    Console().print(table)
    report = {"torch": torch.__version__, "num_threads": arguments.num_threads, "topology": arguments.topology}
    text = json.dumps({**report, "results": results})
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
