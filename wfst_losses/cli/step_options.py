"""What `memory` and `compare` are both told about a step of training."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wfst_losses.cli.output import FailedJob

if TYPE_CHECKING:
    from wfst_losses.inspection.steps import Step

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])
_FRAMES_PER_TOKEN = 8
_MOST_LABELS = 2**31 - 1


def step_options(command: _Command) -> _Command:
    """Options that describe the network, its language model and its batch."""
    for option in reversed(
        (
            click.option(
                "--num-labels", type=click.IntRange(2, _MOST_LABELS), help="Labels of the network, blank included."
            ),
            click.option("--tokens", type=_FILE, help="tokens.txt instead of --num-labels: '<blk> 0' first."),
            click.option("--lm", type=_FILE, help="ARPA model, for MMI; needs --tokens."),
            click.option(
                "--lm-arcs",
                type=click.IntRange(min=1),
                help="Arcs of a bigram of random tokens instead of --lm, evenly spread: sizes in closed form.",
            ),
            click.option("--frames", type=click.IntRange(1, 200_000), default=500, show_default=True, help="T."),
            click.option("--batch", type=click.IntRange(1, 100_000), default=16, show_default=True, help="B."),
            click.option(
                "--target-tokens",
                type=click.IntRange(min=0),
                help=f"Tokens of each target; by default one per {_FRAMES_PER_TOKEN} frames.",
            ),
            click.option(
                "--low-memory", is_flag=True, help="MMI's denominator with memory='low': sums of about sqrt(T) frames."
            ),
            click.option("--threads", type=click.IntRange(1, 1024), help="Threads of torch; by default the cores."),
        )
    ):
        command = option(command)
    return command


def make_step(loss: str, topology: str, backend: str, given: dict[str, Any]) -> Step:
    """The step that the options describe.

    Raises:
        click.UsageError: for options that do not go together.
    """
    from wfst_losses.inspection.steps import Step

    problem = _problem(loss, given)
    if problem:
        raise click.UsageError(problem, click.get_current_context())
    num_labels, num_successors = _num_labels(given), None
    if loss == "mmi" and given["lm"] is None:
        most = num_labels * (num_labels - 1)
        if given["lm_arcs"] > most:
            raise click.UsageError(
                f"--lm-arcs is {given['lm_arcs']:,}, a bigram of {num_labels - 1:,} tokens has at most {most:,}",
                click.get_current_context(),
            )
        num_successors = max(1, round(given["lm_arcs"] / num_labels))
    given_tokens = given["target_tokens"]
    return Step(
        loss=loss,
        topology=topology,
        num_labels=num_labels,
        num_frames=given["frames"],
        num_utterances=given["batch"],
        num_tokens=given["frames"] // _FRAMES_PER_TOKEN if given_tokens is None else given_tokens,
        backend=backend,
        num_successors=num_successors,
        language_model=given["lm"],
        tokens=given["tokens"],
        memory="low" if given["low_memory"] else "full",
        num_threads=given["threads"] or len(os.sched_getaffinity(0)),
    )


def _num_labels(given: dict[str, Any]) -> int:
    if given["num_labels"] is not None:
        return int(given["num_labels"])
    from wfst_losses.graphs.tokens import read_tokens

    return len(read_tokens(given["tokens"]))


def _problem(loss: str, given: dict[str, Any]) -> str | None:
    has_count, has_names = given["num_labels"] is not None, given["tokens"] is not None
    wrong = {
        "expected either --num-labels or --tokens": has_count == has_names,
        "--lm needs the names of the tokens, --tokens": given["lm"] is not None and not has_names,
        "expected either --lm or --lm-arcs": given["lm"] is not None and given["lm_arcs"] is not None,
        "--loss mmi needs a language model, --lm or --lm-arcs": loss == "mmi"
        and given["lm"] is None
        and given["lm_arcs"] is None,
        f"--target-tokens is {given['target_tokens']}, above --frames, {given['frames']}: no alignment has more tokens "
        "than frames": (given["target_tokens"] or 0) > given["frames"],
    }
    return next((message for message, is_wrong in wrong.items() if is_wrong), None)


def check_topology_name(name: str) -> None:
    """A name of the table.

    Raises:
        click.UsageError: for another one.
    """
    from topologies import TOPOLOGIES

    if name not in TOPOLOGIES:
        expected = ", ".join(map(repr, TOPOLOGIES))
        raise click.UsageError(f"--topology is {name!r}, expected one of {expected}", click.get_current_context())


def refuse_large_composition(step: Step, max_memory: int) -> None:
    """Before a denominator is composed to be counted.

    Raises:
        MemoryLimitError: if that would take more.
    """
    if step.language_model is None or not step.has_denominator:
        return
    import topologies
    from wfst_losses.inspection.sizes import predicted_decoding_bytes
    from wfst_losses.inspection.steps import language_model
    from wfst_losses.memory_limit import MemoryLimitError

    topology, grammar = topologies.build(step.topology, step.num_labels), language_model(step).graph()
    predicted = predicted_decoding_bytes(topology, grammar, lossless=None)
    if predicted > max_memory:
        what = f"topology {step.topology!r} over the language model ({grammar.num_arcs:,} arcs)"
        raise MemoryLimitError(what, predicted, max_memory)


def measure(step: Step, predicted_bytes: int, max_memory: int, device: str = "cpu") -> tuple[int | None, str | None]:
    """The measured peak, or why there is none.

    Raises:
        FailedJob: if the step broke.
    """
    from wfst_losses.inspection.measured_memory import MeasurementError, measured_step_bytes

    if predicted_bytes > max_memory:
        return None, f"predicted to take more than --max-memory, {max_memory:,} bytes"
    if step.backend == "k2" and importlib.util.find_spec("k2") is None:
        return None, "k2 is not installed"
    try:
        return measured_step_bytes(step, device=device), None
    except MeasurementError as error:
        raise FailedJob(str(error)) from error
