"""``wfst-losses inspect``: the sizes of a graph file or of a topology."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from wfst_losses.cli.output import json_option, max_memory_option, print_json, print_table, progress


@click.command("inspect", short_help="States, arcs and bytes of a graph file or a topology.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topology", help="The name of a topology, sized in closed form.")
@click.option("--num-labels", type=click.IntRange(min=1), help="Labels of the network, blank included.")
@max_memory_option
@json_option
def inspect_command(
    file: Path | None, topology: str | None, num_labels: int | None, max_memory: int, as_json: bool
) -> None:
    """States, arcs, epsilon arcs, labels and bytes of FILE (any format that compile writes), or of a topology.

    A topology is answered in closed form: no graph of that size is built.

    \b
    Example:
      wfst-losses inspect graph.pt
      wfst-losses inspect --topology compact --num-labels 50000
    """
    if (file is None) == (topology is None):
        raise click.UsageError("inspect takes either FILE or --topology with --num-labels", click.get_current_context())
    if (topology is None) != (num_labels is None):
        raise click.UsageError("--topology and --num-labels go together", click.get_current_context())
    answer = _file(file, max_memory) if file is not None else _topology(str(topology), int(num_labels or 0))
    if as_json:
        print_json(answer)
    else:
        print_table([(_TITLES.get(name, name), _shown(value)) for name, value in answer.items()])


_TITLES = {
    "num_states": "states",
    "num_arcs": "arcs",
    "num_epsilon_arcs": "epsilon arcs",
    "num_labels": "labels",
    "mean_arcs_per_state": "arcs per state",
    "max_arcs_per_state": "at most",
    "is_deterministic": "deterministic",
    "num_bytes": "bytes in memory",
    "k2_bytes": "bytes in k2",
    "file_bytes": "bytes on disk",
}


def _file(path: Path, max_memory: int) -> dict[str, Any]:
    from wfst_losses.cli.graph_file import read_limited
    from wfst_losses.inspection.sizes import graph_sizes

    with progress(f"Reading {path.name}"):
        read = read_limited(path, max_memory)
        sizes = graph_sizes(read.graph)
    return {
        "file": str(path),
        "format": read.format,
        **dataclasses.asdict(sizes),
        "file_bytes": path.stat().st_size,
    }


def _topology(name: str, num_labels: int) -> dict[str, Any]:
    import topologies
    from wfst_losses.inspection.sizes import topology_sizes

    topology = topologies.build(name, num_labels)
    return {"topology": topology.name, **dataclasses.asdict(topology_sizes(topology))}


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
