"""The experiment on tones: both fine-tunings start alike and take the same steps; the report says what was found."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path

import pytest

pytest.importorskip("lhotse")
pytest.importorskip("kaldialign")
pytest.importorskip("tensorboard")

import experiment
import prepare
import report
import torch
import train
from curves import plot_curves
from systems import TITLES


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_one_seed_from_converged_ctc_to_the_report(tmp_path, recordings, monkeypatch):
    monkeypatch.setattr(prepare, "read_folder", lambda _folder: recordings)
    draws = ["--train-draws", "2", "--dev-draws", "1", "--test-draws", "1", "--held-out-draws", "1"]
    data_dir = tmp_path / "data"
    prepare.prepare(prepare.get_parser().parse_args(["--corpus-dir", "tones", "--output-dir", str(data_dir), *draws]))
    options = ["--channels", "8", "--num-blocks", "1", "--num-train-parts", "1", "--hold-epochs", "1"]
    options += ["--max-epochs", "2", "--fine-tune-epochs", "1", "--learning-rates", "1e-4", "1e-3", "--num-paths", "4"]
    command = ["--output-dir", str(tmp_path / "out"), "--data-dir", str(data_dir), *options]
    also = ["mwer-tokens", "mwer-nbest", "mwer-negative", "mwer-exact"]
    args = experiment.get_parser().parse_args([*command, "--seeds", "0", "--also", *also])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        chosen = experiment.run_stages(args, pool)[0]
    folder = tmp_path / "out" / "seed0"
    curves = {}
    for path in folder.glob("*-*/curves.json"):
        curves[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    both_rates = ["continued-0.0001", "continued-0.001", "mwer-0.0001", "mwer-0.001"]
    assert sorted(curves) == sorted([*both_rates, *(f"{name}-0.003" for name in also)])
    assert {curve[0]["dev_wer"] for curve in curves.values()} == {chosen["converged"]["dev_wer"]}
    assert len({curve[-1]["step"] for curve in curves.values()}) == 1
    assert set(chosen["mwer"]["grid"]) == {"0.0001", "0.001"}
    assert chosen["mwer"]["dev_wer"] == min(chosen["mwer"]["grid"].values())
    # No two systems are the same training under two names.
    losses = {name: curve[-1]["loss"] for name, curve in curves.items() if not name.endswith("1")}
    assert len(set(losses.values())) == len(losses) == len(also)

    monkeypatch.setattr(train, "train", lambda _args: pytest.fail("a finished stage was run again"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert experiment.run_stages(args, pool) == {0: chosen}

    plot_curves({0: chosen}, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {TITLES[name]} -->" in drawn for name in chosen if name != "converged")

    text = report.to_markdown(report.make_report(data_dir, {0: chosen}))
    assert "trained on 80 words of 40 recordings, chosen on\n100 words of 100 recordings" in text
    wer = json.loads((Path(chosen["mwer"]["exp_dir"]) / "decode" / "wer.json").read_text(encoding="utf-8"))
    assert f"| MWER | {wer['test']['greedy']['wer']:.2f} ± 0.00 |" in text
    assert f"| 0 | {chosen['converged']['dev_wer']:.2f} ({chosen['converged']['steps']:,}) |" in text


def test_a_cell_holds_rates_by_seed_and_the_reduction_against_ctc_trained_on():
    texts, recordings = ["one two three", "four five six"], [["1_a_0", "2_a_0", "3_a_0"], ["4_a_0", "5_a_0", "6_a_0"]]
    right = [text.split() for text in texts]
    two_wrong = [["one", "two", "one"], ["four", "five"]]
    one_wrong = [["one", "two", "three"], ["four", "five"]]
    found = {"converged": two_wrong, "continued": two_wrong, "mwer": one_wrong}
    cell = report.make_cell(texts, recordings, {0: found, 1: {**found, "mwer": right}})
    assert cell["wer"]["continued"] == pytest.approx([100 / 3, 100 / 3])
    assert cell["wer"]["mwer"] == pytest.approx([100 / 6, 0])
    assert cell["against_continued"]["mwer"]["0"]["by_recording"]["relative"] == pytest.approx(50)
    assert cell["against_continued"]["mwer"]["1"]["by_recording"]["relative"] == pytest.approx(100)
    assert cell["pooled"]["mwer"]["relative"] == pytest.approx(75)
