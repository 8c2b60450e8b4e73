"""``wfst-losses doctor``: what is here, and what does not fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from wfst_losses.cli.output import FailedJob, json_option, print_json, print_table, progress

if TYPE_CHECKING:
    from wfst_losses.inspection.environment import Environment, Package


@click.command("doctor", short_help="What is here, what does not fit, and the line that mends it.")
@json_option
def doctor_command(as_json: bool) -> None:
    """Which torch, k2, CUDA and GPU are here, whether they fit, and the line that mends what does not.

    Exit status 1 when something does not fit.

    \b
    Example:
      wfst-losses doctor
    """
    from wfst_losses.inspection import environment as machine

    with progress("Loading torch and k2"):
        environment = machine.read_environment()
    found = machine.misfits(environment)
    to_add_k2 = machine.line_that_adds_k2(environment) if environment.route == machine.FREE else None
    if as_json:
        print_json(
            {
                "route": environment.route,
                "fits": not found,
                "misfits": [dataclasses.asdict(misfit) for misfit in found],
                "line_that_adds_k2": to_add_k2,
                "environment": dataclasses.asdict(environment),
            }
        )
    else:
        print_table(_rows(environment) + ([("to add k2", to_add_k2)] if to_add_k2 else []))
        for misfit in found:
            click.echo(f"\nDoes not fit: {misfit.message}\n  mend it: {misfit.fix}")
        if not found:
            click.echo("\nEverything fits.")
    if found:
        raise FailedJob("one thing does not fit" if len(found) == 1 else f"{len(found)} things do not fit")


def _rows(environment: Environment) -> list[tuple[str, str]]:
    from wfst_losses.inspection.environment import ROUTES

    k2 = _version(environment.k2)
    if environment.k2_torch:
        cuda = f", CUDA {environment.k2_cuda}" if environment.k2_cuda else ", CPU only" * (not environment.k2.error)
        k2 += f", built for torch {environment.k2_torch}{cuda}"
    return [
        ("route", f"{environment.route}: {ROUTES[environment.route]}"),
        ("python", f"{environment.python} ({environment.implementation}, {environment.system})"),
        ("torch", _version(environment.torch)),
        ("CUDA", f"{environment.cuda} in torch" if environment.cuda else "none in torch"),
        ("GPU", ", ".join(environment.gpus) or "none that torch sees"),
        ("k2", k2),
        ("numpy", _version(environment.numpy)),
        ("numba", _version(environment.numba)),
        ("lhotse", _version(environment.lhotse)),
    ]


def _version(package: Package) -> str:
    if package.version is None:
        return "not installed"
    return f"{package.version}, does not load" if package.error else package.version
