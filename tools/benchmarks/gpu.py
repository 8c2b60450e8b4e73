"""Check and time the native backend on a CUDA device; needs torch with CUDA and Triton, and no k2.

    python tools/benchmarks/gpu.py [--quick] [--rounds 7] [--cuda-graphs] [--output FILE]
    python tools/benchmarks/gpu.py --interpret   # tiny, on the CPU, in Triton's interpreter: times mean nothing

Checks: values and gradients beside the native backend on the CPU (beside the reference, when interpreting), and the
same bits twice. Times: CTC from logits beside torch's own kernels and cuDNN's, and a denominator that all utterances
share. Memory: the peak of MMI for each topology. Prints the device, versions and tables, then one line of JSON; ends
with status 1 where a check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import topologies
from topologies import Graph, GraphBatch
from wfst_losses import LanguageModel, ctc_loss, mmi_loss
from wfst_losses.backends import get_backend
from wfst_losses.emissions import read_emissions

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run.

    Attributes:
        check: (B, T, V, S) of the comparisons.
        ctc: (B, T, V, S) to time.
        denominator: (states, arcs, labels, B, T) to time.
        memory: (B, T, V, S, arcs of the bigram).
        topologies: which of them.
    """

    check: tuple[int, int, int, int]
    ctc: tuple[int, int, int, int]
    denominator: tuple[int, int, int, int, int]
    memory: tuple[int, int, int, int, int]
    topologies: tuple[str, ...] = tuple(topologies.TOPOLOGIES)


SIZES = {
    "full": Sizes((16, 300, 60, 40), (32, 500, 500, 60), (3033, 51022, 200, 128, 700), (32, 500, 2048, 60, 200_000)),
    "quick": Sizes((8, 60, 20, 10), (8, 200, 100, 30), (500, 5000, 50, 32, 100), (4, 50, 64, 10, 600)),
    "interpret": Sizes((2, 3, 4, 2), (2, 3, 4, 1), (6, 14, 3, 2, 3), (2, 2, 3, 1, 4), ("compact",)),
}


class Device:
    """Where the kernels run, and how time and memory are read there."""

    def __init__(self, *, is_interpreted: bool) -> None:
        self.is_interpreted = is_interpreted
        self.torch = torch.device("cpu" if is_interpreted else "cuda")
        self.name = "Triton's interpreter" if is_interpreted else torch.cuda.get_device_name()

    def milliseconds(self, call: Callable[[], object]) -> float:
        """Of one call."""
        if self.is_interpreted:
            begin = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - begin)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        call()
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last))

    def peak_bytes(self, call: Callable[[], object]) -> int:
        """How much more memory than before a call takes; 0 where that cannot be read."""
        if self.is_interpreted:
            call()
            return 0
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before


def random_batch(
    sizes: tuple[int, int, int, int], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, list[int], list[int]]:
    """Logits on the CPU, targets, and ragged lengths."""
    num_utterances, num_frames, num_labels, num_tokens = sizes
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_utterances, num_frames, num_labels, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, num_labels, (num_utterances, num_tokens), generator=generator)
    input_lengths = [max(1, num_frames - 7 * row % (num_frames // 2 + 1)) for row in range(num_utterances)]
    target_lengths = [max(0, num_tokens - row % 3) for row in range(num_utterances)]
    return logits, targets, input_lengths, target_lengths


def random_graph(num_states: int, num_arcs: int, num_labels: int) -> Graph:
    """A graph whose states are each entered on one label, as a topology over an n-gram gives; every state is final."""
    random = np.random.default_rng(0)
    # A ring, so that every state can be reached, and the rest at random.
    source = np.concatenate([np.arange(num_states), random.integers(num_states, size=num_arcs - num_states)])
    destination = np.concatenate(
        [np.arange(1, num_states + 1) % num_states, random.integers(num_states, size=num_arcs - num_states)]
    )
    label = (destination % num_labels).astype(np.int32)
    score = -2 * random.random(num_arcs).astype(np.float32) - np.float32(np.log(num_arcs / num_states))
    finals = np.zeros(num_states, dtype=np.float32)
    return Graph(source.astype(np.int32), destination.astype(np.int32), label, label, score, finals)


def bigram(num_labels: int, num_arcs: int) -> LanguageModel:
    """About ``num_arcs`` random arcs; state = last token, 0 = start."""
    random = np.random.default_rng(1)
    successors = max(1, min(num_labels - 1, num_arcs // num_labels))
    token = np.stack([random.choice(np.arange(1, num_labels), successors, replace=False) for _ in range(num_labels)])
    source = np.repeat(np.arange(num_labels), successors)
    score = np.full(token.size, -np.log(successors + 1.0))
    final = np.full(num_labels, -np.log(successors + 1.0))
    return LanguageModel.from_arcs(source, token.reshape(-1), token.reshape(-1), score, final)


def value_and_gradient(loss: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Both, detached."""
    leaf = logits.detach().requires_grad_()
    values = loss(leaf)
    finite = values[values.detach().isfinite()]
    (gradient,) = torch.autograd.grad(finite.sum(), leaf)
    return values.detach(), gradient


def check(device: Device, sizes: Sizes) -> list[dict[str, Any]]:
    """Every loss and topology beside another engine; differences relative to the largest value."""
    logits, targets, lengths, target_lengths = random_batch(sizes.check)
    model = bigram(sizes.check[2], 4 * sizes.check[2])
    peer = "reference" if device.is_interpreted else "native"
    found = []
    for name in sizes.topologies:

        def ctc(scores: torch.Tensor, backend: str, name: str = name) -> torch.Tensor:
            options = {"topology": name, "backend": backend, "from_logits": True}
            return ctc_loss(scores, targets, lengths, target_lengths, **options)

        def mmi(scores: torch.Tensor, backend: str, name: str = name) -> torch.Tensor:
            options = {"topology": name, "backend": backend, "from_logits": True, "language_model": model}
            return mmi_loss(scores, targets, lengths, target_lengths, **options)

        for loss in (ctc, mmi):
            wanted = value_and_gradient(lambda scores, loss=loss: loss(scores, peer), logits)
            for dtype in TOLERANCE:
                here = logits.to(device.torch, dtype)
                runs = [value_and_gradient(lambda scores, loss=loss: loss(scores, "native"), here) for _ in range(2)]
                found.append(
                    {"what": f"{loss.__name__} {name} {str(dtype).removeprefix('torch.')}"} | compare(runs, wanted)
                )
    return found


def compare(runs: list[tuple[torch.Tensor, ...]], wanted: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """Largest differences from ``wanted``, and whether all that was promised holds."""
    (values, gradient), dtype = runs[0], runs[0][0].dtype
    finite = wanted[0].isfinite()
    same_infinities = torch.equal(values.cpu().isfinite(), finite)
    scale = max(1.0, float(wanted[0][finite].abs().max())) if finite.any() else 1.0
    difference = float((values.cpu().double() - wanted[0])[finite].abs().max()) / scale if finite.any() else 0.0
    of_gradient = float((gradient.cpu().double() - wanted[1]).abs().max())
    repeats = all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    holds = same_infinities and repeats and max(difference, of_gradient) <= TOLERANCE[dtype]
    return {"value": difference, "gradient": of_gradient, "same_bits_twice": repeats, "holds": holds}


def medians(device: Device, calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, all taking turns; the first two rounds compile and warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    num_unused = 0 if device.is_interpreted else 2
    for _ in range(rounds + num_unused):
        for name, call in calls.items():
            taken[name].append(device.milliseconds(call))
    return {name: statistics.median(values[num_unused:]) for name, values in taken.items()}


def time_ctc(device: Device, sizes: Sizes, rounds: int) -> dict[str, float]:
    """Value and gradient from logits, beside torch's two implementations on CUDA."""
    num_utterances, num_frames, num_labels, num_tokens = sizes.ctc
    logits, targets, _, _ = random_batch(sizes.ctc)
    leaf = logits.float().to(device.torch).requires_grad_()
    lengths = torch.full((num_utterances,), num_frames), torch.full((num_utterances,), num_tokens)
    for row in targets:
        # cuDNN and torch count repeats alike; none are drawn so that every topology has the same work.
        row[1:][row[1:] == row[:-1]] = 1 + row[1:][row[1:] == row[:-1]] % (num_labels - 1)

    def native() -> None:
        leaf.grad = None
        ctc_loss(leaf, targets, lengths[0], lengths[1], from_logits=True, backend="native").sum().backward()

    def of_torch(given: torch.Tensor, *given_lengths: torch.Tensor) -> None:
        leaf.grad = None
        log_probs = leaf.log_softmax(2).transpose(0, 1)
        torch.nn.functional.ctc_loss(log_probs, given, *given_lengths, reduction="none").sum().backward()

    calls: dict[str, Callable[[], object]] = {"native": native}
    on_device = targets.to(device.torch), *(length.to(device.torch) for length in lengths)
    calls["torch"] = lambda: of_torch(*on_device)
    if not device.is_interpreted:
        # torch takes cuDNN's for concatenated int32 targets and int32 lengths on the CPU.
        for_cudnn = targets.reshape(-1).int(), *(length.int() for length in lengths)
        calls["cudnn"] = lambda: of_torch(*for_cudnn)
    return medians(device, calls, rounds)


def time_denominator(device: Device, sizes: Sizes, rounds: int) -> dict[str, float]:
    """Value and gradient of one graph shared by all utterances."""
    num_states, num_arcs, num_labels, num_utterances, num_frames = sizes.denominator
    graph = GraphBatch.from_graphs([random_graph(num_states, num_arcs, num_labels)])
    logits = random_batch((num_utterances, num_frames, num_labels, 1))[0]
    leaf = logits.float().to(device.torch).requires_grad_()
    engine = get_backend("native", device.torch)
    emissions = read_emissions(leaf, [num_frames] * num_utterances, from_logits=True)

    def native() -> None:
        leaf.grad = None
        engine.shared_total_scores(graph, emissions).sum().backward()

    found = medians(device, {"native": native}, rounds)
    # Forward, backward and gradient count as two visits of each arc at each frame.
    visits = 2 * num_arcs * num_frames * num_utterances
    return found | {"arc_frames_per_second": visits / (1e-3 * found["native"])}


def measure_memory(device: Device, sizes: Sizes) -> list[dict[str, Any]]:
    """The peak of MMI, value and gradient, beyond logits and gradient."""
    *shape, num_arcs = sizes.memory
    logits, targets, lengths, target_lengths = random_batch((shape[0], shape[1], shape[2], shape[3]))
    model = bigram(shape[2], num_arcs)
    leaf = logits.float().to(device.torch).requires_grad_()
    found = []
    for name in sizes.topologies:

        def step(name: str = name) -> None:
            leaf.grad = None
            options = {"topology": name, "language_model": model, "backend": "native", "from_logits": True}
            mmi_loss(leaf, targets, lengths, target_lengths, **options).sum().backward()

        # The first call composes the denominator and compiles.
        step()
        leaf.grad = torch.zeros_like(leaf)
        found.append({"topology": name, "bytes": device.peak_bytes(step), "milliseconds": device.milliseconds(step)})
    return found


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables set for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Rows of equal keys."""
    shown = Table(title=title)
    for column in rows[0]:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    return shown


def main() -> int:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--interpret", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    parser.add_argument("--cuda-graphs", action="store_true", help="capture the launches of shared graphs, then replay")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="where to write the JSON too")
    arguments = parser.parse_args()
    if not arguments.interpret and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --interpret runs a tiny form on the CPU")
    switches = {"TRITON_INTERPRET": "1"} if arguments.interpret else {}
    switches |= {"WFST_LOSSES_CUDA_GRAPHS": "1"} if arguments.cuda_graphs else {}
    with environment(**switches):
        import triton

        kind = "interpret" if arguments.interpret else "quick" if arguments.quick else "full"
        device, sizes = Device(is_interpreted=arguments.interpret), SIZES[kind]
        versions = {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}
        console = Console()
        console.print(f"{device.name}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
        checks = check(device, sizes)
        console.print(table("Differences from the other engine", checks))
        ctc = time_ctc(device, sizes, arguments.rounds)
        console.print(table(f"CTC {sizes.ctc}, ms", [ctc]))
        denominator = time_denominator(device, sizes, arguments.rounds)
        console.print(table(f"Shared graph {sizes.denominator}, ms", [denominator]))
        memory = measure_memory(device, sizes)
        console.print(table(f"MMI {sizes.memory}, peak", memory))
    result = {"device": device.name, "kind": kind, "cuda_graphs": arguments.cuda_graphs} | versions
    result |= {"sizes": dataclasses.asdict(sizes), "checks": checks}
    result |= {"ctc_ms": ctc, "denominator": denominator, "mmi_memory": memory}
    text = json.dumps(result)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return int(not all(row["holds"] for row in checks))


if __name__ == "__main__":
    sys.exit(main())
