"""Every command: its answer alone on stdout, its failure in one line on stderr, its exit status."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from topologies import TOPOLOGIES, build
from wfst_losses.backends import BACKENDS
from wfst_losses.cli.commands import commands, run
from wfst_losses.graphs.files import read_graph_file

from .calling import COMMAND, call, environment


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status, message = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (status, message, captured.err) == (0, "", "")
    return captured.out


def answered_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(answered(capsys, *arguments, "--json"))
    return answer


@pytest.mark.parametrize("name", commands.commands)
def test_help_has_an_example_and_every_command_takes_json(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = answered(capsys, name, "--help")
    assert f"Example:\n    wfst-losses {name}" in text
    assert "--json" in text


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answered_json(capsys, "list")
    assert [topology["name"] for topology in answer["topologies"]] == list(TOPOLOGIES)
    assert (
        next(row["size"] for row in answer["topologies"] if row["name"] == "selfless") == "V states, V^2 - V + 1 arcs"
    )
    available = {backend["name"]: backend["is_available"] for backend in answer["backends"]}
    assert list(available) == list(BACKENDS)
    assert available["k2"] == (importlib.util.find_spec("k2") is not None)
    assert {"ctc_loss", "mwer_loss", "lattice_mwer_loss"} <= {loss["name"] for loss in answer["losses"]}
    text = answered(capsys, "list")
    for kind in ("topologies", "backends", "losses", "samplers", "risks"):
        for entry in answer[kind]:
            assert entry["name"] in text
    for backend in answer["backends"]:
        assert backend["is_available"] or f"not available: {backend['reason']}" in text


def test_doctor_agrees_with_this_environment(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answered_json(capsys, "doctor")
    assert answer["fits"]
    assert (answer["route"] == "k2-free") == (importlib.util.find_spec("k2") is None)
    assert (answer["line_that_adds_k2"] is None) == (answer["route"] != "k2-free")
    assert "Everything fits." in answered(capsys, "doctor")


def test_doctor_fails_where_something_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wfst_losses.inspection import environment as machine

    wrong = machine.Environment(
        python="3.10.1",
        torch=machine.Package("1.13.1"),
        numpy=machine.Package("2.1.0"),
        lhotse=machine.Package("1.33.0"),
    )
    monkeypatch.setattr(machine, "read_environment", lambda: wrong)
    assert run(["doctor"]) == (1, "2 things do not fit")
    text = capsys.readouterr().out
    assert "mend it: pip install 'numpy<2'" in text
    assert "mend it: pip install 'lhotse==1.32.1'" in text
    assert run(["doctor", "--json"])[0] == 1
    answer = json.loads(capsys.readouterr().out)
    assert [misfit["fix"] for misfit in answer["misfits"]] == ["pip install 'numpy<2'", "pip install 'lhotse==1.32.1'"]


def test_inspect_answers_in_closed_form(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answered_json(capsys, "inspect", "--topology", "correct", "--num-labels", 50_000)
    assert (answer["num_states"], answer["num_arcs"]) == (50_000, 2_500_000_000)
    assert (answer["num_epsilon_arcs"], answer["is_deterministic"]) == (0, True)
    text = answered(capsys, "inspect", "--topology", "compact", "--num-labels", 50_000)
    assert "epsilon arcs     49,999" in text


@pytest.mark.parametrize("ending", [".txt", ".fst.txt", ".pt"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_compile_then_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, ending: str) -> None:
    path = tmp_path / f"graph{ending}"
    made = answered_json(capsys, "compile", "--topology", name, "--num-labels", 7, "--output", path)
    found = answered_json(capsys, "inspect", path)
    for key in ("num_states", "num_arcs", "num_epsilon_arcs", "num_labels", "format", "file_bytes"):
        assert made[key] == found[key], key
    assert found["num_arcs"] == read_graph_file(path).graph.num_arcs
    # k2 has no arc that takes no frame, and the answer says so.
    exact = name == "compact" and ending == ".pt"
    assert made["form"] == ("epsilon-free" if exact else "as defined")
    text = answered(capsys, "compile", "--topology", name, "--num-labels", 7, "--output", path)
    assert ("epsilon-free form" in text) == exact
    if not exact:
        assert made["num_arcs"] == build(name, 7).size().num_arcs
    assert list(tmp_path.iterdir()) == [path]


def test_compile_counts_the_labels_of_tokens_txt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n#0 3\n")
    output = tmp_path / "graph.pt"
    arguments = ("compile", "--topology", "minimal", "--tokens", tmp_path / "tokens.txt", "--output", output)
    assert answered_json(capsys, *arguments)["num_labels"] == 3
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 2\n")
    status, message = run([str(argument) for argument in arguments])
    assert (status, "tokens.txt, line 2: id is '2'" in message) == (2, True)


BAD_CALLS: list[tuple[Sequence[str], str]] = [
    ([], "Missing command"),
    (["compil"], "compil"),
    (["list", "--jsn"], "--jsn"),
    (["inspect"], "either FILE or --topology"),
    (["inspect", "there.txt", "--topology", "compact", "--num-labels", "3"], "either FILE or --topology"),
    (["inspect", "--topology", "compact"], "go together"),
    (["inspect", "there.txt", "--num-labels", "4"], "go together"),
    (["inspect", "--topology", "compact", "--num-labels", "0"], "--num-labels"),
    (["inspect", "--topology", "round", "--num-labels", "3"], "expected one of 'correct', 'compact'"),
    (["inspect", "missing.pt"], "missing.pt"),
    (["inspect", "."], "is a directory"),
    (["inspect", "there.txt"], "there.txt, line 1"),
    (["compile", "--topology", "compact", "--output", "x.pt"], "either --num-labels or --tokens"),
    (["compile", "--topology", "compact", "--num-labels", "3"], "--output"),
    (["compile", "--num-labels", "3", "--output", "x.pt"], "--topology"),
    (["compile", "--topology", "compact", "--num-labels", "3", "--output", "x.far"], "ends in none of .txt, .fst, .pt"),
    (["compile", "--topology", "compact", "--num-labels", "3", "--output", "no/x.pt"], "no folder no"),
    (["compile", "--topology", "compact", "--num-labels", "three", "--output", "x.pt"], "three"),
    (["compile", "--topology", "round", "--num-labels", "3", "--output", "x.pt"], "topology is 'round'"),
    (["compile", "--topology", "compact", "--tokens", "there.txt", "--output", "x.pt"], "there.txt, line 1"),
    (["compile", "--topology", "compact", "--num-labels", "3", "--output", "x.pt", "--max-memory", "lots"], "lots"),
    (["compile", "--topology", "minimal", "--num-labels", "70000", "--output", "x.pt"], "expected below 65535 for k2"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS, ids=lambda value: " ".join(value) if value else "")
def test_a_bad_call_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.txt").write_text("neither graph nor tokens\n")
    status, said = run(arguments)
    assert status == 2
    assert message in said
    assert len(said) < 2000
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.txt"]


def test_too_large_is_status_3_with_both_figures(tmp_path: Path) -> None:
    arguments = ["compile", "--topology", "correct", "--num-labels", "100000", "--output", str(tmp_path / "x.fst.txt")]
    status, message = run(arguments)
    assert status == 3
    assert "10,000,000,000 arcs" in message
    assert "400,004,000,000 bytes" in message
    assert "the limit is 8,589,934,592 bytes" in message
    assert run([*arguments[:4], "200", *arguments[5:], "--max-memory", "1MB"])[0] == 3
    assert run([*arguments[:4], "200", *arguments[5:], "--max-memory", "2MB"])[0] == 0
    assert run(["inspect", str(tmp_path / "x.fst.txt"), "--max-memory", "100k"])[0] == 3


def test_a_process_says_it_on_stderr_and_only_there(tmp_path: Path) -> None:
    done = call("inspect", tmp_path / "missing\nfile.pt")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("wfst-losses: ")
    done = call("inspect", "--topology", "minimal", "--num-labels", 3, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["num_arcs"] == 3


def test_what_cannot_be_written_to_is_status_1(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, "inspect", "--topology", "minimal", "--num-labels", "3"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment())
    assert (done.returncode, done.stderr) == (1, "wfst-losses: the answer cannot be written: No space left on device\n")


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from wfst_losses.inspection import sizes

    def broken(topology: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(sizes, "topology_sizes", broken)
    assert run(["inspect", "--topology", "minimal", "--num-labels", "3"]) == (1, "RuntimeError: two\nlines")


def test_the_version_is_the_packages() -> None:
    import wfst_losses

    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"wfst-losses, version {wfst_losses.__version__}\n")


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from wfst_losses.cli.commands import run; run(['--help']); "
        "print([name for name in ('torch', 'numpy', 'k2', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "[]"
