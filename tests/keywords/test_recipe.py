"""The scripts from end to end, on tones: a detector must come out, not only files."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("lhotse")
pytest.importorskip("matplotlib")

import compare
import prepare_streams
import score_spotter
import spotter
import train_spotter


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_stream_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    net = spotter.Spotter(40, 2, channels=16, num_blocks=2).eval()
    features = torch.randn(2, 57, 40)
    features[1, 33:] = 1e3
    together, lengths = net(features, torch.tensor([57, 33]))
    alone, alone_lengths = net(features[1:, :33], torch.tensor([33]))
    assert lengths.tolist() == [15, 9]
    assert alone_lengths.tolist() == [9]
    assert torch.allclose(together[1, :9], alone[0], atol=1e-5)


def test_the_rate_rises_to_its_height_and_falls_to_nothing():
    rates = [train_spotter.rate(step / 100) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[15] == pytest.approx(1.0)
    assert rates == sorted(rates[:16]) + sorted(rates[16:], reverse=True)
    assert rates[100] == train_spotter.rate(1.2) == pytest.approx(0.0, abs=1e-12)


@pytest.fixture
def prepared(tmp_path, recordings, monkeypatch):
    """Streams of tones in ``data``."""
    monkeypatch.setattr(prepare_streams, "read_folder", lambda _folder: recordings)
    draws = ["--train-draws", "3", "--dev-draws", "1", "--test-draws", "1", "--held-out-draws", "1"]
    command = ["--corpus-dir", "tones", "--output-dir", str(tmp_path / "data"), *draws]
    summary = prepare_streams.prepare_streams(prepare_streams.get_parser().parse_args(command))
    assert not list((tmp_path / "data").glob("*.tmp*"))
    return summary


def test_summary_counts_what_was_written(prepared):
    # Indices 0 to 4 are test, 5 to 9 development, 10 and 11 training, of two speakers; the third is held out.
    counts = {name: (prepared[name]["words"], prepared[name]["keywords"]) for name in prepare_streams.MAX_DIGITS}
    assert counts == {"train": (120, 24), "dev": (100, 20), "test": (100, 20), "test_held_out": (120, 24)}
    assert prepared["held_out_speaker"] == "cy"


def test_a_detector_comes_out(tmp_path, prepared):
    tiny = ["--channels", "16", "--num-blocks", "1", "--num-epochs", "15", "--max-duration", "10", "--lr", "1e-2"]
    common = ["--data-dir", str(tmp_path / "data"), "--exp-dir", str(tmp_path / "exp"), "--num-threads", "1"]
    facts = train_spotter.train_spotter(train_spotter.get_parser().parse_args([*common, *tiny]))
    assert facts["curve"][-1] < 0.5 * facts["curve"][0]
    model, read = spotter.load_spotter(tmp_path / "exp" / "last.pt")
    assert read == facts
    assert not model.training
    scored = score_spotter.score_spotter(score_spotter.get_parser().parse_args(common))
    assert json.loads((tmp_path / "exp" / "events.json").read_text(encoding="utf-8")) == scored
    events = score_spotter.Events(**scored["sets"]["test"])
    assert len(events.hits) == 20
    # By chance most keywords are missed at less than one false alarm in all.
    assert score_spotter.false_reject_rate(events, 0.9 / events.hours) <= 0.3


def test_the_report_is_made_of_the_events(tmp_path, prepared):
    args = compare.get_parser().parse_args(["--output-dir", str(tmp_path), "--seeds", "0", "1"])
    good = {"hours": 2.0, "hits": [0.9, 0.8, 0.3, 0.7], "false_alarms": [0.5, 0.2]}
    bad = {"hours": 2.0, "hits": [0.1, 0.1, 0.1, 0.9], "false_alarms": [0.5, 0.2]}
    runs = {
        name: [
            {
                "sets": dict.fromkeys(score_spotter.SETS, events),
                "detector": "smoothed",
                "dev_false_reject_rate": {},
                "train_seconds": 1.0,
                "curve": [1.0],
            }
            for events in seeds
        ]
        for name, seeds in {"smoothed": (good, good), "frames": (good, bad)}.items()
    }
    report = compare.make_report(args, prepared, runs)
    assert report["losses"]["frames"]["false_reject_rate"]["test"]["5"] == [0.0, 0.0]
    args.false_alarms_per_hour = [0.0]
    report = compare.make_report(args, prepared, runs)
    assert report["losses"]["frames"]["false_reject_rate"]["test"]["0"] == [0.25, 0.75]
    table = compare.to_markdown(report)
    assert "| smoothed max pooling | 25.0 ± 0.0 | 25.0 ± 0.0 |" in table
    assert "| frame-level cross-entropy | 50.0 ± 35.4 | 50.0 ± 35.4 |" in table
    assert "keywords zero and seven; mean and standard deviation over 2 trainings." in table


def test_the_picture_is_written_whole(tmp_path):
    events = score_spotter.Events(hours=1.0, hits=[0.9, 0.8, 0.3], false_alarms=[0.5, 0.2, 0.1])
    by_loss = {"smoothed max pooling": [events, events], "plain": [events]}
    compare.plots.write_det({"test": by_loss}, {"test": "test"}, tmp_path / "det.png")
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["det.png"]
