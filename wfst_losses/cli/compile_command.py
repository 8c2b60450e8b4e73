"""``wfst-losses compile``: a topology as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wfst_losses.cli.output import json_option, max_memory_option, print_json, progress

if TYPE_CHECKING:
    from topologies import AbstractTopology


@click.command("compile")
@click.option("--topology", required=True, help="The name of a topology; wfst-losses list has them.")
@click.option("--num-labels", type=click.IntRange(min=1), help="Labels of the network, blank included.")
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="tokens.txt instead of --num-labels: '<blk> 0' first, '#0' and on last.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .txt or .fst.txt for OpenFst text, .pt for k2.",
)
@max_memory_option
@json_option
def compile_command(
    topology: str, num_labels: int | None, tokens: Path | None, output: Path, max_memory: int, as_json: bool
) -> None:
    """Write a topology to a file, whole or not at all.

    OpenFst text keeps virtual arcs; its labels are ours + 1, 0 is epsilon. k2 has no arc that takes no frame: the
    .pt, which k2.Fsa.from_dict(torch.load(...)) reads, holds the exact epsilon-free form, and the answer says so.

    \b
    Example:
      wfst-losses compile --topology compact --tokens data/lang/tokens.txt --output compact.fst.txt
      wfst-losses compile --topology correct --num-labels 500 --output correct.pt
    """
    if (num_labels is None) == (tokens is None):
        raise click.UsageError("compile takes either --num-labels or --tokens", click.get_current_context())
    if output.suffix.lower() not in {".txt", ".pt"}:
        # Asked before torch is loaded; `format_by_name` says the same.
        raise click.UsageError(f"--output {output} ends in neither .txt nor .pt", click.get_current_context())
    if not output.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {output.parent}", click.get_current_context())
    import topologies

    if tokens is not None:
        from wfst_losses.graphs.tokens import read_tokens

        num_labels = len(read_tokens(tokens))
    answer = _write(topologies.build(topology, int(num_labels or 0)), output, max_memory)
    if as_json:
        print_json(answer)
        return
    form = " in its epsilon-free form" if answer["form"] == "epsilon-free" else ""
    click.echo(
        f"{output}: {answer['topology']}, {answer['num_labels']:,} labels{form}, {answer['num_states']:,} states, "
        f"{answer['num_arcs']:,} arcs ({answer['num_epsilon_arcs']:,} epsilon), {answer['format']}, "
        f"{answer['file_bytes']:,} bytes"
    )


def _write(topology: AbstractTopology, output: Path, max_memory: int) -> dict[str, Any]:
    from wfst_losses.inspection.sizes import predicted_compile_bytes
    from wfst_losses.memory_limit import MemoryLimitError

    predicted = predicted_compile_bytes(topology, for_k2=output.suffix.lower() == ".pt")
    if predicted > max_memory:
        what = f"topology {topology.name!r} with {topology.num_labels:,} labels ({topology.size().num_arcs:,} arcs)"
        raise MemoryLimitError(what, predicted, max_memory)
    with progress(f"Loading torch and building {topology.name}"):
        from wfst_losses.graphs.files import OPENFST_TEXT, format_by_name, write_graph_file

        graph = topology.graph()
    found = format_by_name(output)
    num_lines = graph.num_arcs + int((graph.final_score > float("-inf")).sum())
    with progress(f"Writing {output.name}", num_lines if found == OPENFST_TEXT else None) as advance:
        written = write_graph_file(graph, output, on_lines=advance)
    return {
        "topology": topology.name,
        "num_labels": topology.num_labels,
        "form": "as defined" if written is graph else "epsilon-free",
        "num_states": written.num_states,
        "num_arcs": written.num_arcs,
        "num_epsilon_arcs": written.num_epsilon_arcs,
        "format": found,
        "output": str(output),
        "file_bytes": output.stat().st_size,
    }
