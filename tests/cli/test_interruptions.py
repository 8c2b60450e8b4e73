"""Commands that are stopped: by Ctrl-C, by a kill, by a full disk."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from wfst_losses.graphs.files import read_graph_file

from .calling import begin, call

LARGE = ("compile", "--topology", "correct", "--num-labels", 1500, "--output")
SMALL = ("compile", "--topology", "correct", "--num-labels", 3, "--output")


def wait_until_writing(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(path.name.startswith(".graph") for path in folder.iterdir()):
        assert process.poll() is None, "ended before it wrote"
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("ending", [".fst.txt", ".pt"])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_kill_leaves_no_partial_file_and_the_next_run_succeeds(tmp_path: Path, ending: str, delay: float) -> None:
    output = tmp_path / f"graph{ending}"
    with begin(*LARGE, output) as process:
        wait_until_writing(process, tmp_path)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    # The faster format may have been done.
    assert not output.exists() or read_graph_file(output).graph.num_arcs == 1500**2
    assert call(*SMALL, output).returncode == 0
    assert read_graph_file(output).graph.num_arcs == 9


def test_a_kill_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    output = tmp_path / "graph.txt"
    assert call(*SMALL, output).returncode == 0
    before = output.read_bytes()
    with begin(*LARGE, output) as process:
        wait_until_writing(process, tmp_path)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert output.read_bytes() == before


def test_an_interrupt_while_writing_is_status_130_and_leaves_nothing(tmp_path: Path) -> None:
    with begin(*LARGE, tmp_path / "graph.txt") as process:
        wait_until_writing(process, tmp_path)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "wfst-losses: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.5])
def test_an_interrupt_while_torch_is_imported_is_status_130(tmp_path: Path, delay: float) -> None:
    with begin(*LARGE, tmp_path / "graph.txt") as process:
        while "torch" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None, "ended before it imported torch"
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "wfst-losses: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".fst.txt", ".pt"])
def test_a_full_disk_is_status_1_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"graph{ending}"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = call(*LARGE, output, "--json", preexec_fn=limit)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"wfst-losses: {output}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_progress_stays_out_of_the_answer(tmp_path: Path) -> None:
    done = call(*SMALL, tmp_path / "graph.txt", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["num_arcs"] == 9
