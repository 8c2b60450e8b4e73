"""Time CTC, value and gradient from logits: the native backend beside torch's log_softmax and ctc_loss.

    python tools/benchmarks/ctc.py [--topology correct] [--num-threads 1] [--rounds 7] [--long] [--output FILE]

Both take turns in one process on as many threads as asked for. Prints a table, then one line of JSON: medians in
milliseconds, torch's log_softmax alone, the ratio of processor times, and the largest difference of the gradients (for
the topology "correct" only). With ``--long`` one long utterance instead: time, memory that the call adds to a process
of its own, and how far it lies from torch in float64.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import in_process_of_its_own, machine, peak_bytes, report, take_turns

from wfst_losses import ctc_loss

SHAPES = ((32, 500, 500, 60), (8, 1500, 500, 150), (32, 500, 5000, 60))
LONG = (1, 20_000, 500, 1000)


def random_call(shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, with gradient, and targets for them; all of full length."""
    num_utterances, num_frames, num_labels, num_tokens = shape
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator).requires_grad_()
    targets = torch.randint(1, num_labels, (num_utterances, num_tokens), generator=generator)
    return logits, targets, torch.full((num_utterances,), num_frames), torch.full((num_utterances,), num_tokens)


def measure(shape: tuple[int, int, int, int], topology: str, rounds: int) -> dict[str, Any]:
    """Return medians, the ratio and the largest gradient difference for one shape (B, T, V, S)."""
    logits, targets, input_lengths, target_lengths = random_call(shape)
    gradients = {}

    def native() -> None:
        logits.grad = None
        losses = ctc_loss(logits, targets, input_lengths, target_lengths, topology=topology, from_logits=True)
        losses.sum().backward()
        gradients["native"] = logits.grad

    def peer() -> None:
        logits.grad = None
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        losses = torch.nn.functional.ctc_loss(log_probs, targets, input_lengths, target_lengths, reduction="none")
        losses.sum().backward()
        gradients["torch"] = logits.grad

    def softmax_alone() -> None:
        logits.grad = None
        logits.log_softmax(-1).sum().backward()

    times = take_turns({"native": native, "torch": peer, "torch, log_softmax alone": softmax_alone}, rounds)
    result: dict[str, Any] = {"shape": shape, "forms": times}
    result["ratio"] = times["torch"]["processor_ms"] / times["native"]["processor_ms"]
    result["wall_ratio"] = times["torch"]["wall_ms"] / times["native"]["wall_ms"]
    if topology == "correct" and gradients["native"] is not None and gradients["torch"] is not None:
        result["gradient_difference"] = float((gradients["native"] - gradients["torch"]).abs().max())
    return result


def long_call() -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Value and gradient of one long utterance; what is compiled is loaded."""
    logits, *rest = random_call(LONG)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        loss = ctc_loss(logits, *rest, from_logits=True)
        return loss.detach(), *torch.autograd.grad(loss.sum(), logits)

    tiny, *lengths = random_call((1, 20, 500, 3))
    ctc_loss(tiny, *lengths, from_logits=True).sum().backward()
    return run


def measure_long(rounds: int) -> dict[str, Any]:
    """Time, memory and error of one long utterance."""
    form = long_call()
    value, gradient = form()
    logits, *rest = random_call(LONG)
    exact = logits.detach().double().requires_grad_()
    loss = torch.nn.functional.ctc_loss(exact.log_softmax(-1).transpose(0, 1), *rest, reduction="none")
    (exact_gradient,) = torch.autograd.grad(loss.sum(), exact)
    loss = loss.detach()
    return {
        "shape": LONG,
        **take_turns({"native": form}, rounds)["native"],
        "peak_bytes": in_process_of_its_own(["--long", "--memory-only"])["peak_bytes"],
        "value_relative_difference": float(((value.double() - loss) / loss).abs()),
        "gradient_difference": float((gradient.double() - exact_gradient).abs().max()),
    }


def main() -> None:
    """Measure every shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="correct")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", type=int, nargs="+", default=[0, 1, 2], help="which of the three")
    parser.add_argument("--output", type=Path, help="where to write the JSON too")
    parser.add_argument("--long", action="store_true", help="one utterance of 20,000 frames and 1,000 tokens")
    parser.add_argument("--memory-only", action="store_true", help="with --long: run once, print its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    if arguments.memory_only:
        print(json.dumps({"peak_bytes": peak_bytes(long_call())}))
        return
    if arguments.long:
        report({**machine(arguments.num_threads), **measure_long(arguments.rounds)}, arguments.output)
        return
    table = Table("B, T, V, S", "native ms", "torch ms", "log_softmax ms", "ratio")
    cases = []
    for index in arguments.shapes:
        result = measure(SHAPES[index], arguments.topology, arguments.rounds)
        cases.append(result)
        times = [f"{form['processor_ms']:.1f}" for form in result["forms"].values()]
        table.add_row(str(SHAPES[index]), *times, f"{result['ratio']:.2f}")
    Console().print(table)
    report({**machine(arguments.num_threads), "topology": arguments.topology, "cases": cases}, arguments.output)


if __name__ == "__main__":
    main()
