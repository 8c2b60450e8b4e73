"""Time path sampling and best paths: the native backend beside the reference, and beside k2 where it is installed.

    python tools/benchmarks/sampling.py [--num-labels 100 500] [--output FILE]

The native backend and the reference start from log-probs; `k2.random_paths` starts from a lattice that is pruned
(`k2.intersect_dense_pruned`, search beam 20, output beam 8), whose making is timed on its own. k2 draws the same paths
at every call, from the pruned posterior; the others draw at random from the whole one. All forms take turns in one
process on as many threads as asked for. Prints a table, then one line of JSON: medians and ratios to native sampling.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import topologies
from topologies import AbstractTopology, without_epsilons
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions

NATIVE = "native, sampling"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-utterances", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=200)
    parser.add_argument("--num-labels", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--num-paths", type=int, default=100)
    parser.add_argument("--topologies", nargs="+", default=["correct", "compact", "minimal"])
    parser.add_argument("--sharpness", type=float, default=4.0, help="standard deviation of the random logits")
    parser.add_argument("--rounds", type=int, default=5, help="times each form runs, after one to warm up")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--most-arcs", type=int, default=20_000, help="leave out k2 for larger graphs")
    parser.add_argument("--output", type=Path, help="write the JSON there, too")
    return parser


def make_forms(topology: AbstractTopology, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.num_utterances, args.num_frames, topology.num_labels)
    log_probs = torch.log_softmax(args.sharpness * torch.randn(shape, generator=generator), 2)
    emissions = read_emissions(log_probs, [args.num_frames] * args.num_utterances)
    forms: dict[str, Callable[[], object]] = {}
    for name in ("native", "reference"):
        lattice = EmissionLattice(topology, emissions, get_backend(name, log_probs.device))
        forms[f"{name}, sampling"] = functools.partial(lattice.sample, args.num_paths, 1.0, generator)
        forms[f"{name}, best path"] = lattice.best_paths
    if importlib.util.find_spec("k2") is not None and topology.size().num_arcs <= args.most_arcs:
        forms |= make_k2_forms(topology, log_probs, args.num_paths)
    return forms


def make_k2_forms(
    topology: AbstractTopology, log_probs: torch.Tensor, num_paths: int
) -> dict[str, Callable[[], object]]:
    """The lattice's making, and the paths through it."""
    import k2

    from wfst_losses.backends.k2.convert import to_k2

    num_utterances, num_frames, _ = log_probs.shape
    graph = k2.arc_sort(to_k2(without_epsilons(topology.graph())))
    supervisions = torch.tensor([[row, 0, num_frames] for row in range(num_utterances)], dtype=torch.int32)
    dense = k2.DenseFsaVec(log_probs, supervisions)

    def intersect() -> k2.Fsa:
        lattice = k2.intersect_dense_pruned(graph, dense, 20.0, 8.0, 30, 10_000)
        lattice.get_forward_scores(use_double_scores=True, log_semiring=True)
        return lattice

    lattice = intersect()

    def best_path() -> list[int]:
        best = k2.shortest_path(lattice, use_double_scores=True)
        labels: list[int] = best.labels.tolist()
        return labels

    return {
        "k2, lattice": intersect,
        "k2, sampling (given the lattice)": lambda: k2.random_paths(
            lattice, use_double_scores=True, num_paths=num_paths
        ),
        "k2, best path (given the lattice)": best_path,
    }


def measure(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each form."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure, print, write."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.num_threads)
    table = Table("topology", "labels", "form", "median (ms)", "ratio to native sampling")
    cases = []
    for num_labels in args.num_labels:
        for name in args.topologies:
            medians = measure(make_forms(topologies.build(name, num_labels), args), args.rounds)
            for form, seconds in medians.items():
                cells = (name, str(num_labels), form, f"{1e3 * seconds:.1f}", f"{seconds / medians[NATIVE]:.2f}")
                table.add_row(*cells)
            ratios = {form: seconds / medians[NATIVE] for form, seconds in medians.items()}
            cases.append({"topology": name, "num_labels": num_labels, "median_seconds": medians, "ratios": ratios})
    result = {
        "num_utterances": args.num_utterances,
        "num_frames": args.num_frames,
        "num_paths": args.num_paths,
        "sharpness": args.sharpness,
        "rounds": args.rounds,
        "num_threads": args.num_threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "cases": cases,
    }
    Console().print(table)
    text = json.dumps(result)
    print(text)
    if args.output is not None:
        temporary = args.output.with_name(args.output.name + ".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(args.output)


if __name__ == "__main__":
    main()
