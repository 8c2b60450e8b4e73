"""Time CTC, value and gradient from logits: the native backend beside torch's log_softmax and ctc_loss.

    python tools/benchmarks/ctc.py [--topology correct] [--num-threads 1] [--rounds 7] [--output FILE]

Both take turns in one process on as many threads as asked for. Prints a table, then one line of JSON: medians in
milliseconds, torch's log_softmax alone, the ratio of processor times, and the largest difference of the gradients (for
the topology "correct" only).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import machine, report, take_turns

from wfst_losses import ctc_loss

SHAPES = ((32, 500, 500, 60), (8, 1500, 500, 150), (32, 500, 5000, 60))


def measure(shape: tuple[int, int, int, int], topology: str, rounds: int) -> dict[str, Any]:
    """Return medians, the ratio and the largest gradient difference for one shape (B, T, V, S)."""
    num_utterances, num_frames, num_labels, num_tokens = shape
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator).requires_grad_()
    targets = torch.randint(1, num_labels, (num_utterances, num_tokens), generator=generator)
    input_lengths = torch.full((num_utterances,), num_frames)
    target_lengths = torch.full((num_utterances,), num_tokens)
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


def main() -> None:
    """Measure every shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="correct")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", type=int, nargs="+", default=[0, 1, 2], help="which of the three")
    parser.add_argument("--output", type=Path, help="where to write the JSON too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
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
