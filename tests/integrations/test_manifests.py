"""Manifests against a topology: frames as lhotse counts them, feasibility as the loss has it."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import topologies
from wfst_losses import ctc_loss
from wfst_losses.cli.commands import run
from wfst_losses.integrations.manifests import EMPTY, TOO_SHORT, UNKNOWN, UNSUPERVISED, Frames, check_manifest
from wfst_losses.integrations.text_units import by_characters, by_lexicon, by_words

ROOT = Path(__file__).parents[2]
TOKENS = ["<blk>", "a", "b", "c"]


def cut(number: int, text: str | None, num_frames: int = 8, **changes: Any) -> dict[str, Any]:
    duration = num_frames / 100
    supervision = {"id": f"s{number}", "recording_id": "r", "start": 0.0, "duration": duration, "channel": 0}
    if text is not None:
        supervision["text"] = text
    features = {"frame_shift": 0.01, "sampling_rate": 16000, "num_frames": num_frames}
    made = {"id": f"c{number}", "start": 0.0, "duration": duration, "channel": 0, "type": "MonoCut"}
    return {**made, "supervisions": [supervision], "features": features, **changes}


def write(path: Path, cuts: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(entry) + "\n" for entry in cuts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def found(path: Path, topology: str = "correct", **frames: Any) -> dict[str, str]:
    findings = []
    rule = topologies.build(topology, len(TOKENS))
    frames = {"subsampling": 1, **frames}
    check_manifest(path, rule, by_characters(TOKENS), Frames(**frames), on_finding=findings.append)
    return {finding.cut_id: finding.problem for finding in findings}


@pytest.mark.parametrize("topology", topologies.TOPOLOGIES)
@pytest.mark.parametrize("subsampling", [1, 3])
def test_too_short_is_where_the_loss_is_infinite(tmp_path: Path, topology: str, subsampling: int) -> None:
    texts = ["a", "aa", "ab", "aab", "abb", "aaaa", "abcabc", "bccb"]
    lengths = [1, 2, 3, 4, 5, 6, 7, 9, 12, 18, 21]
    cases = [(text, length) for text in texts for length in lengths]
    path = write(tmp_path / "cuts.jsonl.gz", [cut(i, *case) for i, case in enumerate(cases)])
    log_probs = torch.randn(len(cases), 21, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    targets = [[TOKENS.index(letter) for letter in text] for text, _ in cases]
    losses = ctc_loss(log_probs, targets, [length // subsampling for _, length in cases], topology=topology)
    wanted = {f"c{i}": TOO_SHORT for i in torch.nonzero(losses.isinf()).flatten().tolist()}
    assert 0 < len(wanted) < len(cases)
    assert found(path, topology, subsampling=subsampling) == wanted


def test_each_problem_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    cuts = [
        cut(0, "abc"),
        cut(1, ""),
        cut(2, None),
        cut(3, "axz"),
        cut(4, "aaaaaaaa"),
        cut(5, "a", supervisions=[]),
        cut(6, "cab  cab"),
    ]
    path = write(tmp_path / "cuts.jsonl", cuts)
    findings = []
    summary = check_manifest(
        path,
        topologies.build("correct", 4),
        by_characters(TOKENS),
        Frames(subsampling=1),
        output=tmp_path / "good.jsonl.gz",
        on_finding=findings.append,
    )
    problems = [(finding.cut_id, finding.problem) for finding in findings]
    wanted = [("c1", EMPTY), ("c2", EMPTY), ("c3", UNKNOWN), ("c4", TOO_SHORT), ("c5", UNSUPERVISED)]
    assert problems == wanted
    assert findings[2].unknown == ("x", "z")
    assert (findings[3].min_frames, findings[3].num_frames) == (15, 8)
    assert (summary.num_cuts, summary.num_kept, summary.num_supervisions) == (7, 2, 6)
    assert summary.unknown == {"x": 1, "z": 1}
    with gzip.open(tmp_path / "good.jsonl.gz") as kept:
        assert [json.loads(line) for line in kept] == [cuts[0], cuts[6]]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cuts.jsonl", "good.jsonl.gz"]


def test_lost_frames_are_those_of_icefalls_encoders(tmp_path: Path) -> None:
    for lost, output_frames in ((5, lambda n: ((n - 7) // 2 + 1) // 2), (3, lambda n: ((n - 1) // 2 - 1) // 2)):
        path = write(tmp_path / "cuts.jsonl", [cut(n, "a" * max(1, output_frames(n) + 1), n) for n in range(9, 40)])
        findings = []
        rule = topologies.build("minimal", 4)
        check_manifest(path, rule, by_characters(TOKENS), Frames(4, lost), on_finding=findings.append)
        assert [finding.num_frames for finding in findings] == [max(0, output_frames(n)) for n in range(9, 40)]


def test_frames_are_counted_as_lhotse_does(tmp_path: Path) -> None:
    pytest.importorskip("lhotse", exc_type=ImportError)
    from lhotse import CutSet, MonoCut, SupervisionSegment
    from lhotse.dataset.input_strategies import PrecomputedFeatures
    from lhotse.testing.dummies import dummy_features

    def make(number: int, seconds: float) -> MonoCut:
        features = dummy_features(number, duration=seconds)
        supervision = SupervisionSegment(f"s{number}", features.recording_id, 0.0, seconds, text="a" * 99)
        return MonoCut(f"c{number}", 0.0, seconds, 0, features=features, supervisions=[supervision])

    whole = [make(i, seconds) for i, seconds in enumerate((1.0, 0.123, 2.345, 0.715))]
    cuts = [
        *whole,
        whole[0].truncate(offset=0.333, duration=0.2045),
        whole[2].pad(duration=3.0),
        whole[2].pad(duration=3.0, direction="left"),
        whole[0].append(whole[3]),
        whole[1].append(whole[2]).truncate(duration=1.111),
    ]
    manifest = CutSet.from_cuts(entry.with_id(f"cut{i}") for i, entry in enumerate(cuts))
    manifest.to_file(tmp_path / "cuts.jsonl.gz")
    wanted = PrecomputedFeatures().supervision_intervals(manifest)["num_frames"].tolist()
    findings = []
    rule = topologies.build("minimal", 4)
    path = tmp_path / "cuts.jsonl.gz"
    check_manifest(path, rule, by_characters(TOKENS), Frames(1), on_finding=findings.append)
    # Texts are longer than anything but the longest cuts: those do not show up.
    shown = [frames for frames in wanted if frames < 99]
    assert [finding.num_frames for finding in findings] == shown
    assert len(shown) >= 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "c", "duration": 1.0}\nnot json\n', "cuts.jsonl, line 2: is no JSON"),
        (b"[1, 2]\n", "line 1: is b'\\[1, 2\\]"),
        (b'{"id": "r", "num_samples": 3}\n', "expected a cut with id and duration or tracks"),
        (b'{"id": "c", "duration": 1.0, "supervisions": [{"id": "s"}]}', "line 1: cut 'c' cannot be read \\(KeyError"),
        (b'{"id": "c", "duration": 1.0}\n' + b"[" * 100_000, "line 2: is nested too deep"),
        (b'{"id": ["a"], "duration": 1.0}', "line 1: id is \\['a'\\], expected text"),
        (b'{"id": "c", "start": -5, "duration": 1}', "line 1: cut 'c' .* start is -5, expected seconds, 0 to 1e\\+08"),
        (b'{"id": "c", "tracks": [{"offset": NaN, "cut": {"duration": 1}}]}', "line 1: cut 'c' .* offset is nan"),
        (
            b'{"id": "c", "duration": 1, "supervisions": [{"start": -5, "duration": 1}]}',
            "line 1: cut 'c' .* a supervision of 1.0 seconds starts at -5.0, expected one that is in it",
        ),
        *(
            (b'{"id": "c", "duration": %b}' % value, f"line 1: cut 'c' .* duration is {shown}, expected seconds")
            for value, shown in [
                (b"NaN", "nan"),
                (b'"1"', "'1'"),
                (b"true", "True"),
                (b"-1", "-1"),
                (b"1e30", "1e\\+30"),
                (b"9" * 400, "9{80}"),
            ]
        ),
        (gzip.compress(b'{"id": "c", "duration": 1.0}\n' * 99)[:-9], "is truncated or damaged"),
    ],
)
def test_what_is_no_manifest_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cuts.jsonl").write_bytes(content)
    (tmp_path / "kept.jsonl").write_text("as it was")
    with pytest.raises(ValueError, match=message):
        check_manifest(
            tmp_path / "cuts.jsonl",
            topologies.build("correct", 4),
            by_characters(TOKENS),
            Frames(),
            output=tmp_path / "kept.jsonl",
        )
    assert (tmp_path / "kept.jsonl").read_text() == "as it was"
    assert len(list(tmp_path.iterdir())) == 2


def test_units_of_text(tmp_path: Path) -> None:
    marked = ["<blk>", "▁a", "a", "b", "▁b"]
    assert by_characters(marked)("ab ba") == ([1, 3, 4, 2], [])
    assert by_characters(["<blk>", "a", "b", "▁"])("ab ba") == ([1, 2, 3, 2, 1], [])
    assert by_characters(["<blk>", "▁", "a", "b"])("a b") == ([2, 1, 3], [])
    assert by_characters(["<blk>", "a", "b"])("a <blk> b") == ([1, 2, 2], list("<lk>"))
    assert by_words(TOKENS)("a c x") == ([1, 3], ["x"])
    (tmp_path / "lexicon.txt").write_text("cab c a b\ncab c b\nbe b\n")
    assert by_lexicon(TOKENS, tmp_path / "lexicon.txt")("cab be ado") == ([3, 2, 2], ["ado"])
    (tmp_path / "lexicon.txt").write_text("cab c a b\nbad b a d\n")
    with pytest.raises(ValueError, match=r"lexicon.txt, line 2: 'd' is no token"):
        by_lexicon(TOKENS, tmp_path / "lexicon.txt")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("tokens.txt").write_text("<blk> 0\na 1\nb 2\nc 3\n#0 4\n")
    write(Path("cuts.jsonl.gz"), [cut(i, "aa" if i % 3 else "x", num_frames=8 if i % 2 else 9) for i in range(2500)])
    return lambda *more: run(["check-manifest", "cuts.jsonl.gz", "--tokens", "tokens.txt", *more])


def test_the_command(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, message = call("--subsampling", "3", "--json", "--max-listed", "2")
    assert (status, message) == (1, "1,667 of 2,500 cuts give no loss, or not the one meant")
    answer = json.loads(capsys.readouterr().out)
    assert answer["problems"] == {TOO_SHORT: 833, UNKNOWN: 834, EMPTY: 0, UNSUPERVISED: 0}
    assert answer["unknown_tokens"] == {"x": 834}
    assert [entry["cut_id"] for entry in answer["listed"]] == ["c0", "c1"]
    assert (
        call("--subsampling", "3", "--topology", "compact", "--output", "good.jsonl", "--findings", "f.jsonl")[0] == 0
    )
    text = capsys.readouterr().out
    assert "c0: unknown token 'x' in 'x'" in text
    assert "... and 814 more" in text
    assert "good.jsonl: 1,666 cuts" in text
    assert len(Path("good.jsonl").read_text().splitlines()) == 1666
    assert len(Path("f.jsonl").read_text().splitlines()) == 834


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "cuts.jsonl.gz"], "--output cuts.jsonl.gz is the file of MANIFEST too, expected another file"),
        (["--findings", "./tokens.txt"], "--findings tokens.txt is the file of --tokens too"),
        (["--output", "good", "--findings", "../" + "{here}/good"], "good is the file of --output good too"),
        (["--output", "no/good.jsonl"], "there is no folder no"),
        (["--lexicon", "tokens.txt", "--bpe-model", "tokens.txt"], "either --lexicon or --bpe-model"),
        (["--frame-shift", "0"], "expected seconds above 0"),
        (["--topology", "round"], "topology is 'round'"),
        (["--bpe-model", "tokens.txt"], "tokens.txt: sentencepiece cannot load it"),
    ],
)
def test_bad_calls_of_the_command(call: Any, arguments: list[str], message: str) -> None:
    if "sentencepiece" in message:
        pytest.importorskip("sentencepiece")
    before = sorted(Path().iterdir())
    status, said = call(*(argument.format(here=Path.cwd().name) for argument in arguments))
    assert (status, message in said) == (2, True), said
    assert sorted(Path().iterdir()) == before


def test_pieces_of_a_sentencepiece_model(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    Path("corpus.txt").write_text("abc abc cab cab bac\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input="corpus.txt", model_prefix="bpe", vocab_size=9, model_type="bpe", minloglevel=3
    )
    capsys.readouterr()
    processor = sentencepiece.SentencePieceProcessor()
    processor.load("bpe.model")
    names = ["<blk>", *(processor.id_to_piece(i) for i in range(3, processor.get_piece_size()))]
    Path("tokens.txt").write_text("".join(f"{name} {label}\n" for label, name in enumerate(names)), encoding="utf-8")
    write(Path("cuts.jsonl.gz"), [cut(0, "abc cab"), cut(1, "abd")])
    assert call("--bpe-model", "bpe.model", "--subsampling", "1", "--json")[0] == 1
    answer = json.loads(capsys.readouterr().out)
    num_pieces = len(processor.encode("abc cab"))
    assert answer["problems"][UNKNOWN] == 1
    assert answer["listed"][0]["unknown"] == ["d"]
    assert num_pieces < len("abc cab")
    assert answer["num_kept"] == 1


def test_neither_torch_nor_lhotse_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "cuts.jsonl", [cut(0, "a")])
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\n")
    code = (
        "import sys; from wfst_losses.cli.commands import run; "
        f"print(run(['check-manifest', {str(path)!r}, '--tokens', {str(tmp_path / 'tokens.txt')!r}])); "
        "print([name for name in ('torch', 'numba', 'lhotse') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-2:] == ["(0, '')", "[]"]


def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    """The peak of what Python holds, of five chunks against two."""
    import tracemalloc

    peaks = []
    rule = topologies.build("correct", 4)
    for number in (2_000, 5_000):
        path = write(tmp_path / "cuts.jsonl.gz", [cut(i, "x" if i % 2 else "a") for i in range(number)])
        tracemalloc.start()
        check_manifest(path, rule, by_characters(TOKENS), Frames(1), output=tmp_path / "good.jsonl.gz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert math.isclose(*peaks, rel_tol=0.1)
