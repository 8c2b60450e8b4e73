"""Time MWER, value and gradient, beside k2.mwer_loss; and negative sampling beside one search for the best path.

    python tools/benchmarks/mwer.py [--num-threads 2] [--rounds 5] [--sharpness 4 1] [--memory] [--output FILE]

Where k2 is installed, one lattice (topology "correct", search beam 20, output beam 8) is scored by both: by single
paths as k2 does, and by all alignments, which k2 does not; then the whole step from log-probs, for k2 with the
lattice's making. All forms take turns in one process on as many threads as asked for, the first turn not counted.
Prints tables, then one line of JSON: medians of wall time and of CPU time, and ratios. --memory adds the peak memory of
each form, each in a process of its own, above what the lattice and its inputs hold.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from timing import peak_bytes

import topologies
from topologies import without_epsilons
from wfst_losses import NBest, NegativeSampling, RandomPaths, lattice_mwer_loss, mwer_loss
from wfst_losses.backends import get_backend
from wfst_losses.backends.emission_lattice import EmissionLattice
from wfst_losses.emissions import read_emissions

Form = Callable[[], "torch.Tensor | None"]
HAS_K2 = importlib.util.find_spec("k2") is not None
K2_GIVEN, K2_WHOLE = "k2.mwer_loss, lattice given", "k2, from log-probs"
SINGLE, SUMMED = "lattice_mwer_loss, single paths", "lattice_mwer_loss, all alignments"
WHOLE = "mwer_loss, from log-probs"
BEST, NEGATIVE = "best path", "negative sampling"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-utterances", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=200)
    parser.add_argument("--num-labels", type=int, default=100)
    parser.add_argument("--num-paths", type=int, default=100)
    parser.add_argument(
        "--sharpness", type=float, nargs="+", default=[4.0, 1.0], help="of the random logits, their std"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--negative-shape", type=int, nargs=3, default=[32, 500, 5000], metavar=("B", "T", "V"))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the JSON there, too")
    return parser


def random_log_probs(shape: tuple[int, int, int], sharpness: float) -> torch.Tensor:
    """Return normalised noise."""
    logits = sharpness * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return torch.log_softmax(logits, 2)


def mwer_forms(args: argparse.Namespace, sharpness: float) -> tuple[dict[str, Form], int]:
    """Return the losses by name, and how many arcs the lattice has."""
    log_probs = random_log_probs((args.num_utterances, args.num_frames, args.num_labels), sharpness).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    references = [
        torch.randint(1, args.num_labels, (args.num_frames // 3,), generator=generator).tolist()
        for _ in range(args.num_utterances)
    ]
    lengths = [args.num_frames] * args.num_utterances
    sampler = RandomPaths(args.num_paths)
    forms: dict[str, Form] = {
        WHOLE: lambda: mwer_loss(log_probs, references, lengths, sampler=sampler, reduction="sum"),
        "mwer_loss, N best": lambda: mwer_loss(
            log_probs, references, lengths, sampler=NBest(args.num_paths), reduction="sum"
        ),
    }
    if not HAS_K2:
        return forms, 0
    import k2

    from wfst_losses.backends.k2.convert import to_k2

    graph = k2.arc_sort(to_k2(without_epsilons(topologies.build("correct", args.num_labels).graph())))
    supervisions = torch.tensor([[row, 0, length] for row, length in enumerate(lengths)], dtype=torch.int32)

    def intersect() -> k2.Fsa:
        return k2.intersect_dense_pruned(graph, k2.DenseFsaVec(log_probs, supervisions), 20.0, 8.0, 30, 10_000)

    lattice = intersect()
    options = {"nbest_scale": 1.0, "num_paths": args.num_paths}
    forms[SINGLE] = lambda: lattice_mwer_loss(lattice, references, **options, path_score="single")
    forms[SUMMED] = lambda: lattice_mwer_loss(lattice, references, **options)
    forms[K2_GIVEN] = lambda: k2.mwer_loss(lattice, references, **options)
    forms[K2_WHOLE] = lambda: k2.mwer_loss(intersect(), references, **options)
    return forms, lattice.num_arcs


def negative_forms(args: argparse.Namespace) -> dict[str, Form]:
    """Return one search for the best path, and the whole of negative sampling."""
    num_utterances, num_frames, num_labels = args.negative_shape
    log_probs = random_log_probs((num_utterances, num_frames, num_labels), 4.0)
    emissions = read_emissions(log_probs, [num_frames] * num_utterances)
    topology = topologies.build("correct", num_labels)
    lattice = EmissionLattice(topology, emissions, get_backend("native", log_probs.device))
    sampler = NegativeSampling(num_paths=4)

    def negative() -> None:
        sampler.draw(lattice, 1.0, None)

    def best() -> None:
        lattice.best_paths()

    return {BEST: best, NEGATIVE: negative}


def step(form: Form) -> None:
    """Value and gradient."""
    value = form()
    if value is not None:
        value.backward(retain_graph=True)


def measure(forms: dict[str, Form], rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of each form's seconds."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            start = time.perf_counter(), time.process_time()
            step(form)
            if turn:
                seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {
        name: {
            "wall_seconds": statistics.median(wall for wall, _ in pairs),
            "cpu_seconds": statistics.median(cpu for _, cpu in pairs),
        }
        for name, pairs in seconds.items()
    }


def peak_megabytes(args: argparse.Namespace, sharpness: float, name: str) -> float:
    """Return how far one form raises the peak of a process of its own."""
    shape = [str(getattr(args, part)) for part in ("num_utterances", "num_frames", "num_labels", "num_paths")]
    flags = ["--num-utterances", "--num-frames", "--num-labels", "--num-paths"]
    command = [sys.executable, __file__, "--only", name, "--sharpness", str(sharpness)]
    command += [word for pair in zip(flags, shape, strict=True) for word in pair]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def print_peak(args: argparse.Namespace) -> None:
    """Print one form's peak memory above what it finds, in megabytes; machine code is loaded before."""
    small = argparse.Namespace(**{**vars(args), "num_utterances": 1, "num_frames": 6, "num_paths": 2})
    step(mwer_forms(small, args.sharpness[0])[0][args.only])
    form = mwer_forms(args, args.sharpness[0])[0][args.only]
    print(peak_bytes(lambda: step(form)) / 2**20)


def report(title: str, medians: dict[str, dict[str, float]], peers: dict[str, str]) -> dict[str, dict[str, float]]:
    """Print a table and return the ratios of CPU time, and of wall time, to each form's peer."""
    table = Table("form", "wall (ms)", "CPU (ms)", "peer's wall / its own", "peer's CPU / its own", title=title)
    ratios = {}
    for name, values in medians.items():
        cells = [name, f"{1e3 * values['wall_seconds']:.0f}", f"{1e3 * values['cpu_seconds']:.0f}"]
        if peers.get(name) in medians:
            peer = medians[peers[name]]
            ratios[name] = {kind: peer[f"{kind}_seconds"] / values[f"{kind}_seconds"] for kind in ("wall", "cpu")}
            cells += [f"{ratios[name]['wall']:.2f}", f"{ratios[name]['cpu']:.2f}"]
        table.add_row(*cells)
    Console().print(table)
    return ratios


def main() -> None:
    """Measure, print, write."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.num_threads)
    if args.only:
        print_peak(args)
        return
    peers = {SINGLE: K2_GIVEN, SUMMED: K2_GIVEN, WHOLE: K2_WHOLE, "mwer_loss, N best": K2_WHOLE, NEGATIVE: BEST}
    cases = []
    for sharpness in args.sharpness:
        forms, num_arcs = mwer_forms(args, sharpness)
        medians = measure(forms, args.rounds)
        ratios = report(f"MWER, sharpness {sharpness}, lattice of {num_arcs:,} arcs", medians, peers)
        case = {"sharpness": sharpness, "num_arcs": num_arcs, "medians": medians, "ratios": ratios}
        if args.memory:
            case["peak_megabytes"] = {name: peak_megabytes(args, sharpness, name) for name in forms}
            Console().print({name: f"{peak:.0f} MB" for name, peak in case["peak_megabytes"].items()})
        cases.append(case)
    medians = measure(negative_forms(args), args.rounds)
    shape = tuple(args.negative_shape)
    cases.append({"negative_shape": shape, "medians": medians, "ratios": report(f"B, T, V = {shape}", medians, peers)})
    result = {
        "num_threads": args.num_threads,
        "rounds": args.rounds,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "cases": cases,
    }
    text = json.dumps(result)
    print(text)
    if args.output is not None:
        temporary = args.output.with_name(args.output.name + ".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(args.output)


if __name__ == "__main__":
    main()
