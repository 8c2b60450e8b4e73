"""``compile`` of decoding graphs: from files to files, and what is wrong with a file in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.graphs.relations import relation
from topologies import build
from wfst_losses.cli.commands import run
from wfst_losses.graphs.decoding_graph import decoding_graph
from wfst_losses.graphs.files import read_graph_file
from wfst_losses.graphs.lexicon import Lexicon
from wfst_losses.graphs.symbols import read_words

ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.2
-0.5\t</s>
-0.6\tA\t-0.3
-0.7\tB\t-0.1
-0.8\tC

\\2-grams:
-0.4\t<s> A
-0.3\tA B

\\end\\
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tokens.txt").write_text("<blk> 0\na 1\nb 2\n#0 3\n#1 4\n")
    Path("lexicon.txt").write_text("A a\nB a b\nC b\nC b b\n")
    Path("G.arpa").write_text(ARPA)
    return tmp_path


FILES = ["--tokens", "tokens.txt", "--lexicon", "lexicon.txt", "--lm", "G.arpa", "--engine", "openfst"]


def compiled(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, message = run(["compile", *arguments, "--json"])
    captured = capsys.readouterr()
    assert (status, message, captured.err) == (0, "", "")
    answer: dict[str, Any] = json.loads(captured.out)
    return answer


@pytest.mark.parametrize("ending", [".txt", ".fst", ".pt", ".safetensors"])
def test_the_file_holds_the_graph(folder: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    answer = compiled(capsys, "--topology", "compact", *FILES, "--output", f"TLG{ending}")
    lexicon = Lexicon.from_file("lexicon.txt", "tokens.txt")
    made = decoding_graph(build("compact", 3), lexicon.language_model("G.arpa"), lexicon, engine="openfst")
    found = read_graph_file(f"TLG{ending}", writes_words=True).graph
    assert relation(found, 3) == pytest.approx(relation(made.graph, 3), rel=1e-5)
    assert (answer["num_arcs"], answer["writes"]) == (found.num_arcs, "words")
    assert (answer["form"] == "epsilon-free") == (ending == ".pt")
    assert list(answer["stages"]) == ["lexicon", "grammar", "lexicon o grammar"]
    assert read_words("TLG.words.txt") == ["<eps>", "A", "B", "C"]
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("TLG")) == sorted(
        [f"TLG{ending}", "TLG.words.txt"]
    )


def test_numbers_of_words_may_be_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("words.txt").write_text("<eps> 0\nC 1\nB 2\nA 3\n#0 4\n")
    answer = compiled(
        capsys, "--topology", "minimal", *FILES, "--words", "words.txt", "--output", "x.fst", "--store", "kept"
    )
    written = set(read_graph_file("x.fst", writes_words=True).graph.output_label.tolist())
    assert written == {-1, 1, 2, 3}
    assert "words" not in answer
    assert len(list(Path("kept").glob("*.safetensors"))) == 1


def test_lossless_compact_and_models_of_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tokens.txt").write_text("<blk> 0\nA 1\nB 2\nC 3\n")
    sizes = {}
    for lossless in ([], ["--lossless", "expanded"], ["--lossless", "shared"]):
        arguments = ["--topology", "correct", "--tokens", "tokens.txt", "--lm", "G.arpa", "--output", "x.safetensors"]
        answer = compiled(capsys, *arguments, *lossless)
        assert answer["writes"] == "tokens"
        sizes[answer["lossless"]] = relation(read_graph_file("x.safetensors").graph, 3)
    assert sizes["expanded"] == pytest.approx(sizes[None])
    assert sizes["shared"] == pytest.approx(sizes[None])


TOPOLOGY = ["--topology", "compact", "--output", "TLG.fst"]
OPTIONS: list[tuple[list[str], str]] = [
    (["--num-labels", "3", "--lm", "G.arpa"], "they go with --tokens"),
    (["--tokens", "tokens.txt", "--words", "tokens.txt"], "--words goes with --lexicon"),
    (["--tokens", "tokens.txt", "--silence", "a"], "--silence goes with --lexicon"),
    ([*FILES, "--lossless", "shared"], "--lossless goes with --topology correct"),
    (["--sentencepiece", "G.arpa"], "--sentencepiece needs the words"),
    (["--sentencepiece", "G.arpa", "--lexicon", "lexicon.txt"], "takes the place of --lexicon"),
    ([*FILES, "--silence", "z"], "silence is 'z'"),
    ([*FILES, "--engine", "fst"], "--engine"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:60])
def test_options_that_do_not_fit(folder: Path, options: list[str], message: str) -> None:
    status, said = run(["compile", *TOPOLOGY, *options])
    assert (status, message in said) == (2, True), said
    assert not list(folder.glob("*TLG*"))


COMPILE = ["compile", "--topology", "correct", "--tokens", "tokens.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*COMPILE, "--output", "tokens.txt"], "--output tokens.txt is the file of --tokens too"),
        ([*COMPILE, "--output", "same.txt"], "--output same.txt is the file of --tokens too"),
        (
            [*COMPILE, "--lexicon", "TLG.words.txt", "--output", "TLG.pt"],
            "TLG.words.txt, which is written beside --output, is the file of --lexicon too",
        ),
        (
            ["draw", "--topology", "correct", "--tokens", "same.svg", "--output", "same.svg"],
            "--output same.svg is the file of --tokens too",
        ),
        (
            ["compare", "--tokens", "tokens.txt", "--lm", "G.arpa", "--report", "G.arpa"],
            "--report G.arpa is the file of --lm too",
        ),
    ],
)
def test_no_file_that_is_read_is_written_over(folder: Path, arguments: list[str], message: str) -> None:
    Path("lexicon.txt").rename("TLG.words.txt")
    Path("same.txt").symlink_to("tokens.txt")
    Path("same.svg").hardlink_to("tokens.txt")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    status, said = run(arguments)
    assert (status, message in said, said.count("\n")) == (2, True, 0), said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


CHANGES: list[tuple[str, str, str, str]] = [
    ("G.arpa", "-0.6\tA", "x\tA", "G.arpa, line 8: log-probability is 'x'"),
    ("G.arpa", "ngram 2=2", "ngram 2=3", "G.arpa, line 16: 2 2-grams end here"),
    ("G.arpa", "-0.3\tA B", "-0.3\tA D", "G.arpa, line 14: word 'D' has no pronunciation in the lexicon"),
    ("lexicon.txt", "B a b", "B a z", "lexicon.txt, line 2: token 'z' of word 'B' is not among the tokens"),
    ("lexicon.txt", "A a", "A", "lexicon.txt, line 1: word 'A' has no pronunciation"),
    ("lexicon.txt", "A a", "A b #1", "lexicon.txt, line 4: the pronunciation of 'C' begins with that of 'C' on line 3"),
    ("lexicon.txt", "B a b", "B a #2\nD a", "lexicon.txt, line 1"),
    ("tokens.txt", "b 2", "b 3", "tokens.txt, line 3: id is '3'"),
]


@pytest.mark.parametrize(("name", "before", "after", "message"), CHANGES, ids=[change[3] for change in CHANGES])
def test_what_is_wrong_with_a_file_is_one_line(folder: Path, name: str, before: str, after: str, message: str) -> None:
    content = Path(name).read_text()
    assert before in content
    Path(name).write_text(content.replace(before, after, 1))
    status, said = run(["compile", *TOPOLOGY, *FILES])
    assert status == 2
    if name == "lexicon.txt" and after.startswith("B a #2"):
        assert "lexicon.txt, line" in said
        assert "expected a disambiguation symbol there" in said
    else:
        assert message in said
    assert "\n" not in said
    assert not list(folder.glob("*TLG*"))


@pytest.mark.parametrize("name", ["G.arpa", "tokens.txt"])
def test_a_file_cut_anywhere_makes_no_graph_or_the_same(folder: Path, name: str) -> None:
    whole = Path(name).read_bytes()
    assert run(["compile", *TOPOLOGY, *FILES])[0] == 0
    graph = Path("TLG.fst").read_bytes()
    refused = 0
    for length in range(0, len(whole), 3):
        for path in folder.glob("*TLG*"):
            path.unlink()
        Path(name).write_bytes(whole[:length])
        status, _ = run(["compile", *TOPOLOGY, *FILES])
        refused += status == 2
        # Without the end of the last line, or without the disambiguation symbols in tokens.txt, all is there still.
        assert status in (0, 2)
        assert [path.read_bytes() for path in folder.glob("*TLG.fst*")] == [graph] * (status == 0)
    assert refused > len(whole) // 9


def test_too_large_a_graph_is_refused_before_it_is_composed(folder: Path) -> None:
    status, said = run(["compile", *TOPOLOGY, *FILES, "--max-memory", "1k"])
    assert status == 3
    assert "topology 'compact' over lexicon o grammar" in said
    assert not list(folder.glob("*TLG*"))
