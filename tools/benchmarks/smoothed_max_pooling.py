"""Time smoothed max pooling, forward and backward, beside binary cross-entropy and beside loops.

    python tools/benchmarks/smoothed_max_pooling.py

Binary cross-entropy with logits reads the same tensor and writes the same gradient: what any loss over it costs. All
forms take turns in one process on as many threads as asked for, so that a busy machine slows all alike. Prints a
table, then one line of JSON: medians, and the ratios to ours of each round's neighbours, by the clock and by the
processor's time, which a busy machine stretches less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooling_loops
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from wfst_losses import decoder_smoothed_max_pooling_loss

OURS, BASE = "smoothed max pooling", "binary cross-entropy"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-utterances", type=int, default=256)
    parser.add_argument("--num-keywords", type=int, default=100)
    parser.add_argument("--num-frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9, help="times each form runs, after one to warm up")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-loops", action="store_true", help="leave out the slow forms")
    parser.add_argument("--output", type=Path, help="write the JSON there, too")
    return parser


def make_forms(args: argparse.Namespace) -> tuple[torch.Tensor, dict[str, Callable[[], torch.Tensor]]]:
    """The leaf all forms share and a scalar loss per form; every utterance has a keyword, the dearest case."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.num_utterances, args.num_frames, args.num_keywords)
    logits = (3 * torch.randn(shape, generator=generator) - 3).to(args.device).requires_grad_()
    targets = torch.zeros_like(logits).detach()
    keywords = torch.randint(0, args.num_keywords, shape[:1], generator=generator)
    end_frames = torch.randint(20, max(21, args.num_frames - 50), shape[:1], generator=generator)
    lengths = torch.randint(args.num_frames * 9 // 10, args.num_frames + 1, shape[:1], generator=generator)
    call = (keywords, end_frames, lengths)
    lists = tuple(column.tolist() for column in call)
    forms: dict[str, Callable[[], torch.Tensor]] = {
        BASE: lambda: F.binary_cross_entropy_with_logits(logits, targets, reduction="sum"),
        OURS: lambda: decoder_smoothed_max_pooling_loss(logits, *call, reduction="sum"),
    }
    if not args.no_loops:
        forms["loop over utterances"] = lambda: pooling_loops.loop_over_utterances(logits, *lists).sum()
        forms["loop over utterances and keywords"] = lambda: pooling_loops.loop_over_keywords(logits, *lists).sum()
        forms["the same, tuned"] = lambda: pooling_loops.tuned_loop_over_keywords(logits, *lists).sum()
    return logits, forms


def time_once(leaf: torch.Tensor, loss: Callable[[], torch.Tensor]) -> tuple[float, float, float]:
    """Seconds of one forward and one backward pass, and the processor's seconds of both."""
    wait = torch.cuda.synchronize if leaf.is_cuda else lambda: None
    leaf.grad = None
    wait()
    start, cpu_start = time.perf_counter(), time.process_time()
    value = loss()
    wait()
    middle = time.perf_counter()
    value.backward()
    wait()
    return middle - start, time.perf_counter() - middle, time.process_time() - cpu_start


def peak_bytes(leaf: torch.Tensor, loss: Callable[[], torch.Tensor]) -> int:
    """Most memory held above what there was before, gradient included."""
    leaf.grad = None
    if leaf.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss().backward()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        loss().backward()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    height = highest = 0
    for event in sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"]):
        height += event["args"]["Bytes"]
        highest = max(highest, height)
    return highest


def dearest_operators(leaf: torch.Tensor, loss: Callable[[], torch.Tensor]) -> dict[str, float]:
    """The operators that take more than 2 % of the time, and their share."""
    leaf.grad = None
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        loss().backward()
    events = trace.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = {event.key: event.self_cpu_time_total / total for event in events}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return {name: round(share, 3) for name, share in ranked if share > 0.02}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All forms in turn, ``rounds`` times."""
    torch.set_num_threads(args.num_threads)
    leaf, forms = make_forms(args)
    seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in forms}
    for number in range(args.rounds + 1):
        for name, loss in forms.items():
            taken = time_once(leaf, loss)
            if number:
                seconds[name].append(taken)
    totals = {name: [forward + backward for forward, backward, _ in taken] for name, taken in seconds.items()}
    cpu = {name: [processor for _, _, processor in taken] for name, taken in seconds.items()}
    size = leaf.numel() * leaf.element_size()
    rows = {
        name: {
            "forward_ms": 1e3 * statistics.median(forward for forward, _, _ in taken),
            "backward_ms": 1e3 * statistics.median(backward for _, backward, _ in taken),
            "total_ms": 1e3 * statistics.median(totals[name]),
            "fastest_ms": 1e3 * min(totals[name]),
            "cpu_ms": 1e3 * statistics.median(cpu[name]),
            "times_ours": statistics.median(a / b for a, b in zip(totals[name], totals[OURS], strict=True)),
            "cpu_times_ours": statistics.median(a / b for a, b in zip(cpu[name], cpu[OURS], strict=True)),
        }
        for name, taken in seconds.items()
    }
    for name in (BASE, OURS):
        rows[name]["peak_over_input"] = peak_bytes(leaf, forms[name]) / size
    return {
        "shape": list(leaf.shape),
        "dtype": str(leaf.dtype),
        "device": torch.cuda.get_device_name() if leaf.is_cuda else platform.machine(),
        "num_threads": args.num_threads,
        "rounds": args.rounds,
        "torch": torch.__version__,
        "forms": rows,
        "operators": dearest_operators(leaf, forms[OURS]),
    }


HEADINGS = {
    "forward_ms": "forward ms",
    "backward_ms": "backward ms",
    "total_ms": "total ms",
    "fastest_ms": "fastest ms",
    "times_ours": "times ours",
    "cpu_times_ours": "CPU time, times ours",
    "peak_over_input": "peak / input",
}


def cells(row: dict[str, float]) -> list[str]:
    """A row's numbers as in `HEADINGS`."""
    return [f"{row[key]:.1f}" if key.endswith("_ms") else f"{row[key]:.2f}" if key in row else "" for key in HEADINGS]


def to_markdown(result: dict[str, Any]) -> str:
    """The table for a document."""
    lines = [f"| torch {result['torch']} | {' | '.join(HEADINGS.values())} |", "|---|" + "---:|" * len(HEADINGS)]
    lines += [f"| {name} | {' | '.join(cells(row))} |" for name, row in result["forms"].items()]
    return "\n".join(lines) + "\n"


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table."""
    shape = " x ".join(map(str, result["shape"]))
    table = Table(title=f"{shape} {result['dtype']}, {result['device']}, torch {result['torch']}")
    table.add_column("form")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    for name, row in result["forms"].items():
        table.add_row(name, *cells(row))
    console.print(table)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["operators"].items())
    console.print(f"Where our time goes: {shares}", highlight=False)


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    result = measure(args)
    show(result, Console(width=120))
    print(to_markdown(result))
    print(json.dumps(result))
    if args.output is not None:
        temporary = args.output.with_name(args.output.name + ".tmp")
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, args.output)


if __name__ == "__main__":
    main(get_parser().parse_args())
