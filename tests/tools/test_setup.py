"""tools/setup.sh: which interpreter and environment it takes, when it installs, what it says where it cannot.

No packages are fetched: the interpreters are stand-ins that answer as Python would and log their calls.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = "awk basename bash cat chmod cksum cp df dirname flock grep mkdir mv paste realpath rm sed touch uname"

# Answers the probe, makes "virtual environments" by copying itself, logs each call of pip.
STAND_IN = """#!/usr/bin/env bash
case "$*" in
    "-I -c"*) echo "{answer}" ;;
    -V) echo "Python {answer}" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "$*" >>"$PIP_LOG"; [[ "$*" != *"{fails_on}"* ]] ;;
esac
"""


class Machine:
    """A PATH with the programs that setup.sh calls and no Python, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.environments = folder / "environments"
        self.pip_log = folder / "pip.log"
        self.programs.mkdir()
        for name in PROGRAMS.split():
            program = shutil.which(name)
            if program is not None:
                (self.programs / name).symlink_to(program)

    def add_python(self, answer: str, path: str = "bin/python3", *, fails_on: str = "fails on nothing") -> Path:
        program = self.folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STAND_IN.format(answer=answer, fails_on=fails_on))
        program.chmod(0o755)
        return program

    def add_distribution(self, path: str) -> None:
        (self.folder / f"{path}.dist-info").mkdir(parents=True)

    def set_up(self, *arguments: str, script: str = "setup.sh") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.programs),
            "HOME": str(self.folder / "home"),
            "PIP_LOG": str(self.pip_log),
            "WFST_LOSSES_ENVIRONMENTS": str(self.environments),
        }
        command = [str(self.programs / "bash"), str(ROOT / "tools" / script), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def pip_calls(self) -> list[str]:
        calls = self.pip_log.read_text().splitlines() if self.pip_log.exists() else []
        self.pip_log.unlink(missing_ok=True)
        return [call for call in calls if "--version" not in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


linux_x86_64 = pytest.mark.skipif(
    os.uname().sysname != "Linux" or os.uname().machine != "x86_64",
    reason="the full environment is for Linux x86-64",
)


@pytest.mark.parametrize("script", ["setup.sh", "test.sh", "demo.sh", "lint.sh"])
def test_without_python_one_line_says_so_and_how_to_get_it(machine: Machine, script: str) -> None:
    done = machine.set_up(script=script)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        f"{script}: no CPython 3.11 3.12 3.13 3.10 found: pip install uv && uv python install"
    )


def test_without_venv_module_one_line_names_the_package(machine: Machine) -> None:
    python = machine.add_python("3.11 bare")
    done = machine.set_up()
    assert done.returncode == 1
    assert done.stderr.startswith(f"setup.sh: {python} has no venv module: apt-get install python3.11-venv")
    assert machine.pip_calls() == []


@pytest.mark.parametrize("answer", ["3.9 ready", "3.14 ready", "2.7 ready"])
def test_other_pythons_are_passed_over(machine: Machine, answer: str) -> None:
    machine.add_python(answer)
    assert "no CPython 3.11" in machine.set_up().stderr


@linux_x86_64
def test_python_3_10_gets_the_full_environment_and_the_second_call_does_nothing(machine: Machine) -> None:
    machine.add_python("3.12 ready")
    machine.add_python("3.10 ready", "bin/python3.10")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    calls = machine.pip_calls()
    assert len(calls) == 3
    assert all("constraints/full.txt" in call for call in (calls[0], calls[2]))
    assert calls[1].endswith("--no-deps -r " + str(ROOT / "tools/constraints/k2.txt"))
    assert calls[-1].endswith(f"-e {ROOT}[torch,k2,openfst,digits,speech,icefall,dev]")
    assert "k2 1.23.4, lhotse 1.32.1, numpy 1.26.4, torch 1.13.1" in done.stdout
    assert done.stdout.index("Downloads 2.1 GB") < done.stdout.index("Set up in")
    again = machine.set_up()
    assert again.stdout == f"The full environment is ready: {machine.environments / '.venv'}\n"
    assert machine.pip_calls() == []


def test_without_python_3_10_the_free_environment_says_what_it_leaves_out(machine: Machine) -> None:
    machine.add_python("3.12 ready")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert "Left out: k2" in done.stdout
    programs = machine.environments / ".venv-free" / "bin"
    get = f"{programs}/pip install uv && {programs}/uv python install 3.10"
    assert f"To add it: {get} && bash tools/setup.sh --environment full" in done.stdout
    calls = machine.pip_calls()
    assert all("constraints/free.txt" in call for call in calls)
    assert "k2" not in calls[-1].split("-e ")[-1].replace(str(ROOT), "")


@linux_x86_64
def test_a_shim_that_does_not_run_leads_to_the_version_beside_it(machine: Machine) -> None:
    shim = machine.folder / "pyenv" / "shims" / "python3.10"
    shim.parent.mkdir(parents=True)
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    (machine.programs / "python3.10").symlink_to(shim)
    machine.add_python("3.10 ready", "pyenv/versions/3.10.4/bin/python3.10")
    command = [
        str(machine.programs / "bash"),
        "-c",
        f"source '{ROOT}/tools/setup.sh'; find_python 3.10; echo $found",
    ]
    environment = {"PATH": f"{shim.parent}:{machine.programs}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(machine.folder / "pyenv/versions/3.10.4/bin/python3.10")


@linux_x86_64
def test_changed_requirements_are_installed_in_place(machine: Machine) -> None:
    machine.add_python("3.10 ready", "bin/python3.10")
    machine.set_up()
    machine.pip_calls()
    stamp = machine.environments / ".venv" / ".wfst-losses"
    stamp.write_text(f"{ROOT} another sum\n")
    kept = machine.environments / ".venv" / "kept"
    kept.touch()
    assert machine.set_up().returncode == 0
    assert len(machine.pip_calls()) == 3
    assert kept.exists()
    assert machine.set_up("--fresh").returncode == 0
    assert not kept.exists()


def test_an_environment_made_for_another_place_is_built_anew(machine: Machine) -> None:
    machine.add_python("3.11 ready")
    machine.set_up("--environment", "free")
    folder = machine.environments / ".venv-free"
    (folder / ".wfst-losses").write_text("/somewhere/else 1 2\n")
    (folder / "old").touch()
    assert machine.set_up("--environment", "free").returncode == 0
    assert not (folder / "old").exists()


def test_a_failed_install_is_named_and_taken_up_again(machine: Machine) -> None:
    machine.add_python("3.11 ready", fails_on="-U pip")
    done = machine.set_up("--environment", "free")
    assert done.returncode == 1
    assert "setup.sh: pip gets no packages (see above): check the network" in done.stderr
    (machine.environments / ".venv-free" / "bin" / "python").unlink()
    machine.add_python("3.11 ready")
    assert machine.set_up("--environment", "free").returncode == 0


@pytest.mark.parametrize("distribution", ["torch-2.13.0+cpu", "torch-2.13.0", "numpy-1.0"])
def test_an_environment_made_by_hand_is_taken_over(machine: Machine, distribution: str) -> None:
    machine.add_python("3.11 ready", "environments/.venv-free/bin/python")
    machine.add_distribution(f"environments/.venv-free/lib/python3.11/site-packages/{distribution}")
    done = machine.set_up("--environment", "free")
    assert done.returncode == 0, done.stderr
    assert "Taking over .venv-free" in done.stdout


@pytest.mark.parametrize("distribution", ["torch-2.12.0+cu130", "k2-1.24.4.dev20250807"])
def test_an_environment_made_by_hand_keeps_its_torch_and_k2(machine: Machine, distribution: str) -> None:
    machine.add_python("3.11 ready", "environments/.venv-free/bin/python")
    machine.add_distribution(f"environments/.venv-free/lib/python3.11/site-packages/{distribution}")
    done = machine.set_up("--environment", "free")
    assert done.returncode == 1
    name, version = distribution.partition("+")[0].split("-")
    assert f".venv-free holds {name} {version}, not" in done.stderr
    assert machine.pip_calls() == []


def test_an_environment_by_hand_with_an_unfit_python_is_left_alone(machine: Machine) -> None:
    machine.add_python("3.9 ready", "environments/.venv-free/bin/python")
    machine.add_python("3.11 ready")
    done = machine.set_up("--environment", "free")
    assert done.returncode == 1
    assert "move it away, or rebuild it with --fresh" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--environment", "both"], "--environment is both, expected full or free"),
        (["--environment"], "--environment needs a value"),
        (["--bogus"], "unknown argument --bogus"),
        (["--python", "/nowhere/python"], "--python /nowhere/python does not run"),
        (
            ["--python=python3", "--environment=full"],
            "--python python3 is Python 3.12, the full environment needs 3.10",
        ),
    ],
)
def test_a_bad_call_is_one_line(machine: Machine, arguments: list[str], message: str) -> None:
    machine.add_python("3.12 ready")
    done = machine.set_up(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"setup.sh: {message}")
    assert machine.pip_calls() == []


def test_no_room_is_said_before_the_download(machine: Machine) -> None:
    machine.add_python("3.11 ready")
    (machine.programs / "df").unlink()
    df = machine.programs / "df"
    df.write_text("#!/usr/bin/env bash\nprintf 'head\\n/dev/x 9 9 1048577 9%% /\\n'\n")
    df.chmod(0o755)
    done = machine.set_up("--environment", "free")
    assert done.returncode == 1
    assert "setup.sh: 1 GiB free in" in done.stderr
    assert not any(" -e " in call for call in machine.pip_calls())
