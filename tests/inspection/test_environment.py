"""What fits and what does not, on machines that are made up; and this one."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from wfst_losses.inspection import environment as machine
from wfst_losses.inspection.environment import FREE, FULL, OWN, Environment, Package, misfits, read_environment

FULL_MACHINE = Environment(
    python="3.10.13",
    torch=Package("1.13.1+cu117"),
    k2=Package("1.23.4"),
    numpy=Package("1.26.4"),
    numba=Package("0.68.1"),
    lhotse=Package("1.32.1"),
    cuda="11.7",
    k2_torch="1.13.1+cu117",
    k2_cuda="11.7",
    pip="26.2.1",
)
OWN_MACHINE = Environment(
    python="3.12.4",
    torch=Package("2.8.0+cu128"),
    k2=Package("1.24.4.dev20250807+cuda12.8.torch2.8.0"),
    numpy=Package("2.2.0"),
    numba=Package("0.68.1"),
    lhotse=Package("1.33.0"),
    cuda="12.8",
    gpus=("NVIDIA H200",),
    k2_torch="2.8.0",
    k2_cuda="12.8",
)
FREE_MACHINE = dataclasses.replace(OWN_MACHINE, k2=Package(), k2_torch=None, k2_cuda=None)


@pytest.mark.parametrize(
    ("environment", "route"), [(FULL_MACHINE, FULL), (OWN_MACHINE, OWN), (FREE_MACHINE, FREE)], ids=str
)
def test_the_three_routes_fit(environment: Environment, route: str) -> None:
    assert environment.route == route
    assert misfits(environment) == []


@pytest.mark.parametrize(
    ("environment", "changes", "message", "fix"),
    [
        (FREE_MACHINE, {"torch": Package()}, "torch is not installed", "pip install torch"),
        (FREE_MACHINE, {"torch": Package("1.12.0")}, "torch 1.12.0 is too old", "pip install --upgrade torch"),
        (FREE_MACHINE, {"torch": Package("2.8.0", "no libc10")}, "no libc10", "--force-reinstall 'torch==2.8.0'"),
        (FREE_MACHINE, {"missing": ("rich", "numba")}, "rich numba", "pip install rich numba"),
        (FREE_MACHINE, {"numba": Package("0.50", "numpy")}, "numba does not load", "--upgrade numba"),
        (FREE_MACHINE, {"topologies_message": "another topologies: pip x"}, "another topologies", "pip x"),
        (FULL_MACHINE, {"numpy": Package("2.0.0")}, "numpy 2.0.0 does not fit torch 1.13.1", "pip install 'numpy<2'"),
        (FULL_MACHINE, {"lhotse": Package("1.32.2")}, "lhotse 1.32.2 does not fit", "pip install 'lhotse==1.32.1'"),
        (
            FULL_MACHINE,
            {"torch": Package("2.8.0")},
            "was built for torch 1.13.1",
            "pip install 'k2==1.23.4' 'torch==1.",
        ),
        (
            FULL_MACHINE,
            {"torch": Package("2.8.0"), "pip": "26.3"},
            "was built for torch 1.13.1",
            "pip install 'pip<26.3' && pip install 'k2==1.23.4'",
        ),
        (FULL_MACHINE, {"python": "3.11.7"}, "built for CPython 3.10", "pip uninstall -y k2"),
        (FULL_MACHINE, {"k2": Package("1.23.4", "undefined symbol")}, "undefined symbol", "pip install 'k2==1.23.4'"),
        (OWN_MACHINE, {"torch": Package("2.9.1")}, "built for torch 2.8.0, installed is torch 2.9.1", "'torch==2.8.0'"),
        (OWN_MACHINE, {"torch": Package("2.9.1")}, "built for torch", "k2-1.24*+cuda12.8.torch2.9.1-cp312-cp312-*.whl"),
        (OWN_MACHINE, {"cuda": "13.0"}, "built for CUDA 12.8, torch for CUDA 13.0", "+cuda13.0.torch2.8.0"),
        (OWN_MACHINE, {"k2": Package("0.3.0")}, "k2 0.3.0 is too old", "pip install --no-deps k2-1.24*"),
        (OWN_MACHINE, {"k2": Package("unknown", "no _k2")}, "does not load: no _k2", "pip install --no-deps k2-1.24*"),
    ],
)
def test_each_misfit_names_the_line_that_mends_it(
    environment: Environment, changes: dict[str, object], message: str, fix: str
) -> None:
    found = misfits(dataclasses.replace(environment, **changes))  # type: ignore[arg-type]
    assert len(found) == 1
    assert message in found[0].message
    assert fix in found[0].fix


def test_this_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    environment = read_environment()
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    assert environment.torch == Package(torch.__version__)
    assert environment.missing == ()
    assert environment.topologies_message is None


@pytest.mark.k2
def test_the_k2_here_tells_what_it_was_built_for() -> None:
    import _k2

    assert read_environment().k2_torch == _k2.version.torch_version


def test_a_package_that_kills_its_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine._PROBES, "json", "import os; os.abort()")
    assert "killed the process" in str(machine._probe("json")["error"])
    monkeypatch.setitem(machine._PROBES, "json", "raise ImportError('first line\\nsecond')")
    assert machine._probe("json") == {"error": "ImportError: first line"}
    assert machine._probe("not_a_package_at_all") == {}


@pytest.mark.parametrize(("version", "torch"), [("1.24.4.dev20250807+cuda12.8.torch2.8.0", "2.8.0"), (None, None)])
def test_a_k2_that_does_not_load_is_known_by_its_name(version: str | None, torch: str | None) -> None:
    assert machine._k2_torch_by_name(version) == torch
