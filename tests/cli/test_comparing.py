"""`memory`, `compare` and `draw`: answers, pages and pictures, and calls that they refuse."""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from topologies import TOPOLOGIES, build
from wfst_losses.cli.commands import run
from wfst_losses.cli.memory_command import shown_bytes
from wfst_losses.graphs.files import write_graph_file
from wfst_losses.inspection import measured_memory
from wfst_losses.inspection.comparison import MODIFIED

from .calling import call, environment

ARPA = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-0.6 </s>
-99 <s> -0.3
-0.5 a -0.2
-0.4 b -0.1

\\2-grams:
-0.2 <s> a
-0.3 a b
-0.4 b </s>

\\end\\
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n")
    (tmp_path / "G.arpa").write_text(ARPA)
    (tmp_path / "lexicon.txt").write_text("a a\nb b a\n")
    return tmp_path


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status, message = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (status, message) == (0, "")
    return captured.out


def answered_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(answered(capsys, *arguments, "--json"))
    return answer


def test_memory_measures_beside_its_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("memory", "--topology", "compact", "--num-labels", 100, "--frames", 1000, "--batch", 16, "--threads", 1)
    answer = answered_json(capsys, *given)
    assert answer["predicted_bytes"] == pytest.approx(answer["measured_bytes"], rel=0.25)
    assert answer["not_measured"] is None
    text = answered(capsys, *given, "--no-measure")
    assert shown_bytes(answer["predicted_bytes"]) in text
    assert "no: not asked for" in text


def test_memory_of_more_than_the_limit_is_told_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answered_json(capsys, "memory", "--topology", "correct", "--num-labels", 50_000, "--batch", 100_000)
    assert answer["measured_bytes"] is None
    assert answer["not_measured"].startswith("predicted to take more than --max-memory")
    assert answer["predicted_bytes"] > 10**13


def test_memory_takes_a_model_of_a_file_and_no_formula_for_cuda(
    capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    given = ("memory", "--topology", "correct", "--loss", "mmi", "--no-measure", "--tokens", files / "tokens.txt")
    answer = answered_json(capsys, *given, "--lm", files / "G.arpa")
    assert (answer["num_labels"], answer["graph_bytes"] > 0) == (3, True)
    answer = answered_json(capsys, *given, "--lm", files / "G.arpa", "--device", "cuda")
    assert answer["predicted_bytes"] is None
    assert "no formula for CUDA" in answered(capsys, *given, "--lm", files / "G.arpa", "--device", "cuda")


def test_closed_forms_load_neither_torch_nor_k2() -> None:
    code = (
        "import sys; from wfst_losses.cli.commands import run; print(run(sys.argv[1:]));"
        "print(sorted(set(sys.modules) & {'torch', 'k2', 'numba', 'matplotlib'}))"
    )
    for arguments in (
        ["inspect", "--topology", "correct", "--num-labels", "50000", "--json"],
        ["compare", "--num-labels", "50000", "--lm-arcs", "5000000", "--json"],
        ["memory", "--topology", "correct", "--num-labels", "50000", "--no-measure", "--json"],
        ["draw", "--topology", "correct", "--num-labels", "3", "--output", "/dev/null/x.svg"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment()
        )
        assert done.stdout.splitlines()[-1] == "[]", (arguments, done.stderr)


def test_compare_over_a_bigram(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("compare", "--num-labels", 300, "--lm-arcs", 30_000, "--threads", 1)
    answer = answered_json(capsys, *given)
    assert {size["name"] for size in answer["denominator"]} > {*TOPOLOGIES, MODIFIED}
    assert {(step["loss"], step["backend"]) for step in answer["memory"]} == {
        (loss, backend) for loss in ("ctc", "mmi") for backend in ("native", "k2")
    }
    assert answer["recommendation"]["topology"] == "correct"
    text = answered(capsys, *given, "--backend", "k2")
    assert "Take minimal. MMI on k2 takes 50% of correct's memory with it." in " ".join(text.split())
    assert "30,000 arcs" in text


def test_compare_over_files(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    given = ("compare", "--tokens", files / "tokens.txt", "--lm", files / "G.arpa", "--frames", 20, "--threads", 1)
    answer = answered_json(capsys, *given)
    sizes = {size["name"]: size for size in answer["decoding"]}
    assert sizes[MODIFIED]["num_arcs"] == sizes["compact"]["num_epsilon_free_arcs"]
    assert sizes["minimal"]["num_arcs"] < sizes["correct"]["num_arcs"]
    assert answer["denominator"]
    if importlib.util.find_spec("k2") is None and importlib.util.find_spec("kaldifst") is None:
        return
    answer = answered_json(
        capsys,
        "compare",
        "--tokens",
        files / "tokens.txt",
        "--lexicon",
        files / "lexicon.txt",
        "--lm",
        files / "G.arpa",
    )
    assert answer["denominator"] == []
    assert {step["loss"] for step in answer["memory"]} == {"ctc"}
    assert len(answer["decoding"]) == len(TOPOLOGIES) + 3


def test_compare_measures(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"correct": 1000, "compact": 900, "minimal": 400, "selfless": 990}
    monkeypatch.setattr(measured_memory, "measured_step_bytes", lambda step, **_: peaks[step.topology])
    answer = answered_json(capsys, "compare", "--num-labels", 200, "--backend", "native", "--measure")
    assert {step["topology"]: step["measured_bytes"] for step in answer["memory"]} == peaks
    assert answer["recommendation"]["topology"] == "minimal"


class _Page(HTMLParser):
    """Tags that are open, what they hold, and anything that leads elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_whole_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    given = ("compare", "--num-labels", 300, "--lm-arcs", 30_000, "--threads", 1)
    answer = answered_json(capsys, *given, "--report", path)
    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert "script" not in page.count
    assert not re.search(r"url\(|@import", text)
    # A picture per topology, a chart of sizes, and one per loss and backend.
    assert page.count["svg"] == len(TOPOLOGIES) + 1 + 4
    assert page.count["table"] == 1
    assert f"Take {answer['recommendation']['topology']}." in text
    assert "prefers-color-scheme: dark" in text
    for size in answer["decoding"]:
        assert size["name"] in text
        assert f"{size['num_arcs']:,}" in text


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_draw_writes_svg_with_all_states_and_arcs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "picture.svg"
    answer = answered_json(capsys, "draw", "--topology", name, "--num-labels", 3, "--output", path)
    graph = build(name, 3).graph()
    assert (answer["num_states"], answer["num_arcs"]) == (graph.num_states, graph.num_arcs)
    root = ET.parse(path).getroot()  # noqa: S314 (our own)
    space = "{http://www.w3.org/2000/svg}"
    finals = int((graph.final_score > -1).sum())
    assert len(root.findall(f"{space}circle")) == graph.num_states + finals
    pairs = set(zip(graph.source.tolist(), graph.destination.tolist(), strict=True))
    assert len(root.findall(f"{space}path")) == len(pairs)
    written = " ".join(element.text or "" for element in root.findall(f"{space}text"))
    for label in range(3):
        assert f"{label}:" in written
    assert ("ε:ε" in written) == (name == "compact")


def test_draw_names_labels_and_reads_files(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    graph = files / "graph.fst"
    write_graph_file(build("minimal", 3).graph(), graph)
    answered(capsys, "draw", graph, "--tokens", files / "tokens.txt", "--output", files / "graph.svg")
    assert ">&lt;blk&gt;:ε, a:a, b:b<" in (files / "graph.svg").read_text(encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        answered(capsys, "draw", graph, "--output", files / "graph.png")
        content = (files / "graph.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 50
        assert height > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("memory --topology corect --num-labels 5", "--topology is 'corect', expected one of 'correct'"),
        ("memory --topology correct", "expected either --num-labels or --tokens"),
        ("memory --topology correct --num-labels 5 --loss mmi", "--loss mmi needs a language model"),
        ("memory --topology correct --num-labels 5 --lm G.arpa", "--lm needs the names of the tokens"),
        ("memory --topology correct --num-labels 5 --loss mmi --lm-arcs 21", "has at most 20"),
        (
            "memory --topology correct --num-labels 5 --frames 3 --target-tokens 4",
            "--target-tokens is 4, above --frames, 3",
        ),
        ("memory --topology correct --num-labels 5 --frames 0", "--frames"),
        ("memory --topology correct --tokens G.arpa", "G.arpa, line 1"),
        ("memory --topology correct --loss mmi --tokens tokens.txt --lm tokens.txt", "tokens.txt"),
        ("compare --num-labels 1", "--num-labels"),
        ("compare --num-labels 5 --report nowhere/x.html", "there is no folder nowhere"),
        ("compare --num-labels 5 --lexicon lexicon.txt", "--lexicon needs the names of the tokens"),
        ("compare --tokens tokens.txt --lm broken.arpa --report x.html", "broken.arpa"),
        ("draw --output x.svg", "draw takes either FILE or --topology"),
        ("draw --topology correct --output x.svg", "--topology needs either --num-labels or --tokens"),
        ("draw --topology correct --num-labels 3 --output x.gif", "x.gif is neither .svg nor .png"),
        ("draw --topology correct --num-labels 3 --output nowhere/x.svg", "there is no folder nowhere"),
        ("draw --topology correct --num-labels 50 --output x.svg", "50 states and 2,500 arcs, expected at most 60"),
        ("draw G.arpa --output x.svg", "G.arpa"),
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], files: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.chdir(files)
    (files / "broken.arpa").write_text(ARPA[:60])
    before = sorted(files.iterdir())
    status, said = run(arguments.split())
    captured = capsys.readouterr()
    assert status == 2
    assert message in said
    assert captured.out == ""
    assert sorted(files.iterdir()) == before


def test_a_large_composition_is_refused(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    given = ["--tokens", str(files / "tokens.txt"), "--lm", str(files / "G.arpa"), "--max-memory", "1k"]
    for command in (["memory", "--topology", "correct", "--loss", "mmi"], ["compare"]):
        status, said = run([*command, *given])
        assert (status, "the limit is 1,024 bytes" in said) == (3, True)
    assert capsys.readouterr().out == ""


def test_a_process_of_its_own_says_it_in_one_line(files: Path) -> None:
    done = call("draw", "--topology", "correct", "--num-labels", 99, "--output", files / "x.svg")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
