"""``wfst-losses list``: the names that arguments take."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import click

from wfst_losses.cli.output import json_option, print_json, print_table, progress


@click.command("list", short_help="Topologies, backends, losses, samplers, risks.")
@json_option
def list_command(as_json: bool) -> None:
    """Topologies with their sizes, backends and whether they run here, losses, samplers, risks.

    \b
    Example:
      wfst-losses list
      wfst-losses list --json
    """
    with progress("Loading torch and the backends"):
        answer = _names()
    if as_json:
        print_json(answer)
        return
    print_table([_topology_row(topology) for topology in answer["topologies"]], heading="Topologies (V labels)")
    rows = [
        (backend["name"], "available" if backend["is_available"] else f"not available: {backend['reason']}")
        for backend in answer["backends"]
    ]
    print_table(rows, heading="Backends")
    for kind in ("losses", "samplers", "risks"):
        print_table([(entry["name"], entry["summary"]) for entry in answer[kind]], heading=kind.capitalize())


def _names() -> dict[str, list[dict[str, Any]]]:
    import wfst_losses
    from topologies import TOPOLOGIES
    from wfst_losses.backends import BACKENDS
    from wfst_losses.risks import RISKS
    from wfst_losses.samplers import SAMPLERS

    losses = {name: getattr(wfst_losses, name) for name in wfst_losses.__all__ if name.endswith("_loss")}
    return {
        "topologies": [
            {
                "name": name,
                "size": _summary(topology.size),
                "is_normalised": topology.is_normalised,
                "summary": _summary(topology),
            }
            for name, topology in TOPOLOGIES.items()
        ],
        "backends": [_backend(name) for name in BACKENDS],
        "losses": [{"name": name, "summary": _summary(loss)} for name, loss in losses.items()],
        "samplers": [
            {"name": name, "class": sampler.__name__, "summary": _summary(sampler)}
            for name, sampler in SAMPLERS.items()
        ],
        "risks": [{"name": name, "class": risk.__name__, "summary": _summary(risk)} for name, risk in RISKS.items()],
    }


def _backend(name: str) -> dict[str, Any]:
    from wfst_losses.backends import BACKENDS

    try:
        importlib.import_module(BACKENDS[name].partition(":")[0])
    except (ImportError, OSError, RuntimeError) as error:
        # A binary built for another torch fails in one of these ways.
        reason = str(error).partition("\n")[0]
        return {"name": name, "is_available": False, "reason": reason}
    return {"name": name, "is_available": True, "reason": None}


def _topology_row(topology: dict[str, Any]) -> tuple[str, ...]:
    normalised = "normalised" if topology["is_normalised"] else "not normalised"
    return topology["name"], topology["size"], normalised


def _summary(thing: object) -> str:
    """The first sentence of a docstring: where a formula or a definition is written once."""
    text = inspect.getdoc(thing) or ""
    return text.partition("\n\n")[0].replace("\n", " ").rstrip(".")
