"""``wfst-losses draw``: a picture of a small graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wfst_losses.cli.output import FailedJob, NewPath, json_option, max_memory_option, print_json, refuse_overwriting

if TYPE_CHECKING:
    from topologies import Graph

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("draw", short_help="SVG or PNG of a small graph.")
@click.argument("file", required=False, type=_FILE)
@click.option("--topology", help="The name of a topology, with --num-labels.")
@click.option("--num-labels", type=click.IntRange(min=1), help="Labels of the network, blank included.")
@click.option("--tokens", type=_FILE, help="tokens.txt: names for labels; and their number, with --topology.")
@click.option("--words", type=_FILE, help="words.txt: names for what the graph of FILE writes.")
@click.option("--output", required=True, type=NewPath(), help="FILE.svg or FILE.png.")
@max_memory_option
@json_option
def draw_command(
    file: Path | None,
    topology: str | None,
    num_labels: int | None,
    tokens: Path | None,
    words: Path | None,
    output: Path,
    max_memory: int,
    as_json: bool,
) -> None:
    """Draw FILE (any format that compile writes), or a topology: at most 60 states and 300 arcs.

    SVG needs nothing and follows the reader's light or dark; PNG needs matplotlib. Arcs read read:written, the start is
    filled, final states are doubled, arcs that read nothing are dashed.

    \b
    Example:
      wfst-losses draw --topology compact --num-labels 3 --output compact.svg
      wfst-losses draw TLG.fst --tokens tokens.txt --words words.txt --output TLG.png
    """
    problem = _problem(file, topology, num_labels, tokens, words, output)
    if problem:
        raise click.UsageError(problem, click.get_current_context())
    refuse_overwriting()
    from wfst_losses.cli.graph_file import read_limited
    from wfst_losses.inspection.drawing import draw
    from wfst_losses.inspection.pictures import to_svg, write_png

    input_names, output_names = _names(tokens, words)
    if file is not None:
        graph, title = read_limited(file, max_memory).graph, file.name
        _check_names(tokens, input_names, "reads label", int(graph.input_label.max(initial=-1)))
        _check_names(words or tokens, output_names, "writes", int(graph.output_label.max(initial=-1)))
    else:
        num_labels = num_labels or len(input_names or ())
        graph, title = _built(str(topology), num_labels), f"{topology}, {num_labels} labels"
    drawing = draw(graph, input_names, output_names)
    if output.suffix.lower() == ".png":
        try:
            write_png(drawing, title, output)
        except ModuleNotFoundError as error:
            raise FailedJob(str(error)) from error
    else:
        from topologies.atomic import replacing

        with replacing(output) as stream:
            stream.write(to_svg(drawing, title).encode())
    answer = {"output": str(output), "num_states": graph.num_states, "num_arcs": graph.num_arcs}
    if as_json:
        print_json({**answer, "file_bytes": output.stat().st_size})
        return
    click.echo(f"{output}: {graph.num_states:,} states, {graph.num_arcs:,} arcs")


def _problem(
    file: Path | None,
    topology: str | None,
    num_labels: int | None,
    tokens: Path | None,
    words: Path | None,
    output: Path,
) -> str | None:
    wrong = {
        "draw takes either FILE or --topology": (file is None) == (topology is None),
        "--topology needs either --num-labels or --tokens": topology is not None
        and (num_labels is None) == (tokens is None),
        "--num-labels goes with --topology": topology is None and num_labels is not None,
        "--words goes with FILE": words is not None and file is None,
        f"--output {output} is neither .svg nor .png": output.suffix.lower() not in (".svg", ".png"),
    }
    return next((message for message, is_wrong in wrong.items() if is_wrong), None)


def _names(tokens: Path | None, words: Path | None) -> tuple[list[str] | None, list[str] | None]:
    """Of what is read, and of what is written."""
    from wfst_losses.graphs.symbols import read_words
    from wfst_losses.graphs.tokens import read_tokens

    read = None if tokens is None else read_tokens(tokens)
    return read, read if words is None else read_words(words)


def _check_names(path: Path | None, names: list[str] | None, does: str, most: int) -> None:
    """A table of another graph would give wrong names to some labels and none to others."""
    if names is not None and most >= len(names):
        raise ValueError(
            f"{path} has names for 0..{len(names) - 1}, but the graph {does} {most}: expected its own table"
        )


def _built(name: str, num_labels: int) -> Graph:
    import topologies
    from wfst_losses.inspection.drawing import MOST_ARCS, MOST_STATES

    rule = topologies.build(name, num_labels)
    size = rule.size()
    if size.num_states > MOST_STATES or size.num_arcs > MOST_ARCS:
        raise ValueError(
            f"topology {name!r} of {num_labels:,} labels has {size.num_states:,} states and {size.num_arcs:,} arcs, "
            f"expected at most {MOST_STATES} and {MOST_ARCS} for a picture that can be read"
        )
    return rule.graph()
