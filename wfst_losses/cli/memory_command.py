"""``wfst-losses memory``: what a step of training takes, predicted and measured."""

from __future__ import annotations

from typing import Any

import click

from wfst_losses.cli.output import json_option, max_memory_option, print_json, print_table, progress
from wfst_losses.cli.step_options import (
    check_topology_name,
    make_step,
    measure,
    refuse_large_composition,
    step_options,
)


@click.command("memory", short_help="The peak memory of a loss, predicted and measured.")
@click.option("--topology", required=True, help="The name of a topology.")
@click.option("--loss", type=click.Choice(["ctc", "mmi"]), default="ctc", show_default=True)
@click.option("--backend", type=click.Choice(["native", "reference", "k2"]), default="native", show_default=True)
@step_options
@click.option("--measure/--no-measure", "measures", default=True, help="Run the step in a process of its own.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="To measure on.")
@max_memory_option
@json_option
def memory_command(
    topology: str,
    loss: str,
    backend: str,
    measures: bool,
    device: str,
    max_memory: int,
    as_json: bool,
    **given: Any,
) -> None:
    """The peak of a loss and its gradient: by formula, and measured beside it.

    float32, B utterances of T frames; the network's output and its gradients included, the network itself not. On the
    CPU the peak is the resident set of a process of its own, above what that holds before the step; on CUDA torch's
    own count, beside which there is no formula. For k2 the prediction is an upper bound.

    \b
    Example:
      wfst-losses memory --topology compact --num-labels 500 --frames 1000 --batch 32
      wfst-losses memory --topology correct --loss mmi --num-labels 500 --lm-arcs 25000 --backend k2 --no-measure
    """
    check_topology_name(topology)
    step = make_step(loss, topology, backend, given)
    refuse_large_composition(step, max_memory)
    from wfst_losses.inspection.memory import predicted_step_memory

    predicted = predicted_step_memory(step)
    measured: int | None = None
    reason: str | None = "not asked for"
    if measures:
        with progress(f"Measuring {loss} with {topology} on {backend}"):
            measured, reason = measure(step, predicted.peak_bytes, max_memory, device)
    answer = {
        "loss": loss,
        "topology": topology,
        "backend": backend,
        "device": device,
        "num_labels": step.num_labels,
        "num_frames": step.num_frames,
        "num_utterances": step.num_utterances,
        "num_tokens": step.num_tokens,
        "num_threads": step.num_threads,
        "predicted_bytes": None if device == "cuda" else predicted.peak_bytes,
        "is_upper_bound": predicted.is_upper_bound,
        "graph_bytes": predicted.graph_bytes,
        "emission_bytes": predicted.emission_bytes,
        "work_bytes": predicted.work_bytes,
        "measured_bytes": measured,
        "not_measured": reason,
    }
    if as_json:
        print_json(answer)
        return
    print_table(_rows(answer))


def _rows(answer: dict[str, Any]) -> list[tuple[str, str]]:
    predicted, measured = answer["predicted_bytes"], answer["measured_bytes"]
    at_most = "at most " if answer["is_upper_bound"] else ""
    rows = [("predicted", "no formula for CUDA" if predicted is None else at_most + shown_bytes(predicted))]
    if predicted is not None:
        rows += [
            ("  network's output and gradients", shown_bytes(answer["emission_bytes"])),
            ("  graphs kept between steps", shown_bytes(answer["graph_bytes"])),
            ("  work", shown_bytes(answer["work_bytes"])),
        ]
    ratio = f" (predicted is {predicted / measured:.2f} of it)" if predicted and measured else ""
    rows.append(("measured", f"no: {answer['not_measured']}" if measured is None else shown_bytes(measured) + ratio))
    return rows


def shown_bytes(number: int) -> str:
    """In the largest unit that leaves a number above 1."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.3g} {unit}" if number < 1e3 * size else f"{number / size:,.0f} {unit}"
    return f"{number} bytes"
