"""Time CTC, value and gradient from logits: the native backend beside torch's log_softmax and ctc_loss.

    python tools/benchmarks/ctc.py [--topology correct] [--num-threads 1] [--rounds 7] [--output FILE]

Both take turns in one process on as many threads as asked for. Prints a table, then one line of JSON: medians of wall
time in milliseconds, their ratio, and the largest difference of the gradients (for the topology "correct" only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from wfst_losses import ctc_loss

SHAPES = ((32, 500, 500, 60), (8, 1500, 500, 150), (32, 500, 5000, 60))


def measure(shape: tuple[int, int, int, int], topology: str, rounds: int) -> dict[str, float]:
    """Return medians, the ratio and the largest gradient difference for one shape (B, T, V, S)."""
    num_utterances, num_frames, num_labels, num_tokens = shape
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator).requires_grad_()
    targets = torch.randint(1, num_labels, (num_utterances, num_tokens), generator=generator)
    input_lengths = torch.full((num_utterances,), num_frames)
    target_lengths = torch.full((num_utterances,), num_tokens)

    def native() -> torch.Tensor:
        return ctc_loss(logits, targets, input_lengths, topology=topology, from_logits=True, **lengths)

    def peer() -> torch.Tensor:
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        return torch.nn.functional.ctc_loss(log_probs, targets, input_lengths, target_lengths, reduction="none")

    lengths = {"target_lengths": target_lengths}
    seconds: dict[str, list[float]] = {"native": [], "torch": []}
    gradients = {}
    # The first round compiles and warms up, and is not counted.
    for _ in range(rounds + 1):
        for name, loss in (("native", native), ("torch", peer)):
            logits.grad = None
            begin = time.perf_counter()
            loss().sum().backward()
            seconds[name].append(time.perf_counter() - begin)
            gradients[name] = logits.grad
    medians = {name: 1e3 * statistics.median(values[1:]) for name, values in seconds.items()}
    result = {"native_ms": medians["native"], "torch_ms": medians["torch"]}
    result["ratio"] = medians["torch"] / medians["native"]
    if topology == "correct":
        result["gradient_difference"] = float((gradients["native"] - gradients["torch"]).abs().max())
    return result


def main() -> None:
    """Measure every shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="correct")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="where to write the JSON too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    table = Table(title=f"CTC, {arguments.topology}, torch {torch.__version__}, {arguments.num_threads} thread(s)")
    for column in ("B, T, V, S", "native ms", "torch ms", "ratio"):
        table.add_column(column, justify="right")
    results = {}
    for shape in SHAPES:
        result = measure(shape, arguments.topology, arguments.rounds)
        results[str(shape)] = result
        cells = (str(shape), f"{result['native_ms']:.1f}", f"{result['torch_ms']:.1f}", f"{result['ratio']:.2f}")
        table.add_row(*cells)
    Console().print(table)
    text = json.dumps({"torch": torch.__version__, "num_threads": arguments.num_threads, "results": results})
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
