"""``wfst-losses compare``: the topologies side by side for one network, language model and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wfst_losses.cli.memory_command import shown_bytes
from wfst_losses.cli.output import NewPath, json_option, max_memory_option, print_json, progress, refuse_overwriting
from wfst_losses.cli.step_options import make_step, measure, refuse_large_composition, step_options

if TYPE_CHECKING:
    from topologies import Graph
    from wfst_losses.inspection.comparison import GraphSize, StepMemory
    from wfst_losses.inspection.report import Comparison
    from wfst_losses.inspection.steps import Step

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LEAST_WIDTH = 100


@click.command("compare", short_help="Which topology: sizes, memory, and one recommendation.")
@step_options
@click.option("--lexicon", type=_FILE, help="lexicon.txt; --lm is then of words, and MMI is left out.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(["native", "reference", "k2"]),
    default=("native", "k2"),
    show_default=True,
    help="May be given several times; the first decides.",
)
@click.option("--measure/--no-measure", "measures", default=False, help="Run each step in a process of its own.")
@click.option("--report", type=NewPath(), help="Write one self-contained HTML page.")
@max_memory_option
@json_option
def compare_command(
    backends: tuple[str, ...], measures: bool, report: Path | None, max_memory: int, as_json: bool, **given: Any
) -> None:
    """Graph sizes and memory of every topology, each to correct's, and which one to take.

    Decoding graphs over --lm (or --lm-arcs), through --lexicon where given; denominators over a model of tokens.
    Without a model the topologies themselves are compared, in closed form. Advice goes by what is measured, else
    predicted.

    \b
    Example:
      wfst-losses compare --num-labels 500 --lm-arcs 25000 --frames 1000 --batch 16
      wfst-losses compare --tokens tokens.txt --lm G.arpa --measure --report topologies.html
    """
    context = click.get_current_context()
    if given["lexicon"] is not None and given["tokens"] is None:
        raise click.UsageError("--lexicon needs the names of the tokens, --tokens", context)
    refuse_overwriting()
    lexicon = given.pop("lexicon")
    has_tokens_model = lexicon is None and not (given["lm"] is None and given["lm_arcs"] is None)
    losses = ("ctc", "mmi") if has_tokens_model else ("ctc",)
    steps = {loss: make_step(loss, "correct", backends[0], given) for loss in losses}
    found = _compared(steps, tuple(dict.fromkeys(backends)), lexicon, measures, max_memory)
    if report is not None:
        from topologies.atomic import replacing
        from wfst_losses.inspection.report import html_report

        page = html_report(found, shown_bytes)
        with replacing(report) as file:
            file.write(page.encode())
    if as_json:
        print_json({**_answer(found), "report": None if report is None else str(report)})
        return
    _print(found)
    if report is not None:
        click.echo(f"\n{report}: {report.stat().st_size:,} bytes")


def _compared(
    steps: dict[str, Step], backends: tuple[str, ...], lexicon: Path | None, measures: bool, max_memory: int
) -> Comparison:
    from wfst_losses.inspection.comparison import advise
    from wfst_losses.inspection.report import Comparison

    decoding, denominator = _sizes(steps["ctc"], steps.get("mmi"), lexicon, max_memory)
    memory = list(_memory(steps, backends, measures, max_memory))
    step = steps["ctc"]
    asked = [
        ("labels", f"{step.num_labels:,}"),
        ("frames", f"{step.num_frames:,}"),
        ("utterances", f"{step.num_utterances:,}"),
        ("tokens of a target", f"{step.num_tokens:,}"),
        ("language model", _model_name(step, steps.get("mmi"))),
    ]
    if lexicon is not None:
        asked.append(("lexicon", lexicon.name))
    return Comparison(asked, decoding, denominator, memory, advise(decoding, memory))


def _model_name(step: Step, mmi: Step | None) -> str:
    if step.language_model is not None:
        return step.language_model.name
    if mmi is not None and mmi.num_successors is not None:
        return f"a bigram of {mmi.num_labels * mmi.num_successors:,} arcs"
    return "none"


def _sizes(
    step: Step, mmi: Step | None, lexicon: Path | None, max_memory: int
) -> tuple[list[GraphSize], list[GraphSize]]:
    """Of the graphs to decode with, and of MMI's denominators."""
    from wfst_losses.inspection.comparison import alone_sizes, bigram_sizes, counted_sizes

    if lexicon is not None:
        grammar = _lexicon_grammar(step, lexicon)
        return list(counted_sizes(step.num_labels, grammar, _limit(step.num_labels, grammar, max_memory))), []
    if mmi is None:
        return alone_sizes(step.num_labels), []
    if mmi.num_successors is not None:
        sizes = bigram_sizes(mmi.num_labels, mmi.num_successors)
        return sizes, sizes
    from wfst_losses.inspection.steps import language_model

    with progress("Reading the language model, composing the topologies with it"):
        model = language_model(mmi)
        graphs = model.graph("epsilon"), model.graph("failure")
        decoding, denominator = (
            list(counted_sizes(mmi.num_labels, graph, _limit(mmi.num_labels, graph, max_memory))) for graph in graphs
        )
    return decoding, denominator


def _lexicon_grammar(step: Step, path: Path) -> Graph:
    with progress("Reading and determinising lexicon and grammar"):
        from wfst_losses.graphs.decoding_graph import lexicon_grammar
        from wfst_losses.graphs.lexicon import Lexicon

        lexicon = Lexicon.from_file(path, str(step.tokens))
        grammar = None
        if step.language_model is not None:
            grammar = lexicon.language_model(step.language_model).graph("epsilon")
        return lexicon_grammar(lexicon, grammar, "auto")


def _limit(num_labels: int, grammar: Graph, max_memory: int) -> Callable[[str], None]:
    import topologies
    from wfst_losses.inspection.sizes import predicted_decoding_bytes
    from wfst_losses.memory_limit import MemoryLimitError

    def allow(name: str) -> None:
        predicted = predicted_decoding_bytes(topologies.build(name, num_labels), grammar, lossless=None)
        if predicted > max_memory:
            raise MemoryLimitError(f"{name} over {grammar.num_arcs:,} arcs", predicted, max_memory)

    return allow


def _memory(steps: dict[str, Step], backends: Sequence[str], measures: bool, max_memory: int) -> Iterator[StepMemory]:
    import topologies
    from wfst_losses.inspection.comparison import StepMemory
    from wfst_losses.inspection.memory import predicted_step_memory

    for loss, base in steps.items():
        for backend in backends:
            for name in topologies.TOPOLOGIES:
                step = dataclasses.replace(base, topology=name, backend=backend)
                refuse_large_composition(step, max_memory)
                predicted = predicted_step_memory(step)
                measured: int | None = None
                reason: str | None = "not asked for"
                if measures:
                    with progress(f"Measuring {loss} with {name} on {backend}"):
                        measured, reason = measure(step, predicted.peak_bytes, max_memory)
                yield StepMemory(name, loss, backend, predicted.peak_bytes, predicted.is_upper_bound, measured, reason)


def _answer(found: Comparison) -> dict[str, Any]:
    return {
        "asked": dict(found.asked),
        "decoding": [dataclasses.asdict(size) for size in found.decoding],
        "denominator": [dataclasses.asdict(size) for size in found.denominator],
        "memory": [dataclasses.asdict(step) for step in found.memory],
        "recommendation": dataclasses.asdict(found.advice),
    }


def _print(found: Comparison) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # Figures cut off by a narrow terminal, or by none, are no figures.
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(" · ".join(f"{name}: {value}" for name, value in found.asked))
    for title, sizes in found.tables():
        console.print(_size_table(title, sizes))
    console.print(_memory_table(found.memory))
    console.print(f"\n[bold]Take {found.advice.topology}.[/bold] {found.advice.reason}")


def _size_table(title: str, sizes: Sequence[GraphSize]) -> Any:
    from rich.table import Table

    from wfst_losses.inspection.comparison import MODIFIED

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for head in ("states", "arcs", "to correct", "epsilon-free", "to correct"):
        table.add_column(head, justify="right")
    base = next(size.num_arcs for size in sizes if size.name == "correct")
    for size in sizes:
        own = ("", "") if size.name == MODIFIED else (f"{size.num_arcs:,}", f"{size.num_arcs / base:.2f}")
        free = size.num_epsilon_free_arcs
        table.add_row(
            size.name,
            f"{size.num_states:,}",
            *own,
            *(("", "") if free is None else (f"{free:,}", f"{free / base:.2f}")),
        )
    return table


def _memory_table(memory: Sequence[StepMemory]) -> Any:
    from rich.table import Table

    table = Table(title="Peak memory of a loss and its gradient", title_justify="left")
    for head in ("loss", "backend", "topology"):
        table.add_column(head)
    for head in ("predicted", "measured", "to correct"):
        table.add_column(head, justify="right")
    base = {(step.loss, step.backend): step.bytes for step in memory if step.topology == "correct"}
    for step in memory:
        predicted = "≤ " * step.is_upper_bound + shown_bytes(step.predicted_bytes)
        measured = "" if step.measured_bytes is None else shown_bytes(step.measured_bytes)
        ratio = f"{step.bytes / base[step.loss, step.backend]:.2f}"
        table.add_row(step.loss, step.backend, step.topology, predicted, measured, ratio)
    return table
