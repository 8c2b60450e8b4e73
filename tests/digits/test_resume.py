"""Training killed at any moment goes on and ends as one that was not, to the last bit; a full disk loses nothing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

pytest.importorskip("lhotse")
pytest.importorskip("kaldialign")
pytest.importorskip("tensorboard")

import train

from . import workers
from .conftest import RECIPE

KILLS = 10
OPTIONS = [
    *("--channels", "8", "--num-blocks", "2", "--intermediate-layers", "1", "--block", "conformer"),
    *("--num-train-parts", "1", "--num-threads", "1", "--max-duration", "12", "--num-epochs", "2", "--patience", "9"),
    *("--stages", "ctc:0", "mwer:4", "--lattice", "log-probs", "--num-paths", "4", "--spec-augment"),
    *("--save-every-steps", "1", "--resume"),
]


def begin(context, data_dir, exp_dir):
    """A training in a process of its own, and the moment it started."""
    started = context.Event()
    arguments = ["--data-dir", str(data_dir), "--exp-dir", str(exp_dir), *OPTIONS]
    process = context.Process(target=workers.run_training, args=(arguments, started))
    process.start()
    assert started.wait(120)
    return process, time.monotonic()


def wait_for_checkpoints(process, path, number):
    """Until the file was written so many times, or its writer has ended."""
    seen = path.stat().st_mtime_ns if path.exists() else 0
    while number and process.is_alive():
        now = path.stat().st_mtime_ns if path.exists() else 0
        number -= now != seen
        seen = now
        time.sleep(0.005)


def state(path):
    """Everything in a checkpoint that decides what comes next; the seconds it took do not."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    facts = json.loads(found["facts"])
    for entry in [facts, *facts["curves"]]:
        entry.pop("seconds")
        entry.pop("cpu_seconds")
    facts["params"].pop("exp_dir")
    return {**found, "facts": facts}


def assert_same(found, wanted, where=""):
    """Equal to the last bit, at every depth."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key in wanted:
            assert_same(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, pair in enumerate(zip(found, wanted, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), where
    else:
        assert found == wanted, where


@pytest.mark.timeout(900)  # one training and ten parts of it: seconds, but on a busy machine
def test_killed_ten_times_it_ends_with_the_same_parameters(tmp_path, data_dir, forkserver):
    context = forkserver
    process, start = begin(context, data_dir, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    seconds = time.monotonic() - start
    draw = random.Random(0)
    last = tmp_path / "broken" / "last.pt"
    steps = []
    while len(steps) < KILLS:
        process, _ = begin(context, data_dir, tmp_path / "broken")
        wait_for_checkpoints(process, last, draw.choice([0, 1, 1, 2]))
        # Anywhere in a step, in the middle of writing as well.
        process.join(timeout=draw.uniform(0.0, seconds / 12))
        process.kill()
        process.join()
        if process.exitcode == 0:
            # Done before its time: from the start once more, so that the kills go on.
            last.unlink()
            continue
        assert process.exitcode == -signal.SIGKILL
        steps.append(state(last)["facts"]["step"] if last.exists() else 0)
    process, _ = begin(context, data_dir, tmp_path / "broken")
    process.join()
    assert process.exitcode == 0
    assert len(set(steps)) > 3, steps
    for name in ("last.pt", "best.pt"):
        assert_same(state(tmp_path / "broken" / name), state(tmp_path / "whole" / name))
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("broken", "whole")]
    assert summaries[0] == summaries[1]


def test_a_resumed_training_is_the_one_that_was_begun(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115, PTH123 (progress bars)
    tiny = ["--channels", "8", "--num-blocks", "1", "--num-train-parts", "1", "--max-duration", "30"]
    common = ["--data-dir", str(data_dir), "--exp-dir", str(tmp_path), *tiny, "--num-threads", "1", "--resume"]
    parse = train.get_parser().parse_args
    first = train.train(parse([*common, "--num-epochs", "1"]))
    with pytest.raises(ValueError, match=r"last.pt has num_epochs=1, expected 2 as now"):
        train.train(parse([*common, "--num-epochs", "2"]))
    assert train.train(parse([*common, "--num-epochs", "1"])) == first


def test_a_full_disk_is_told_and_keeps_the_last_checkpoint(tmp_path):
    """The system's own refusal: the process may not write files as long as the second checkpoint."""
    code = """
import resource, signal, sys, torch
import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
path = Path(sys.argv[1])
for size in (8, 1000):
    model = torch.nn.Linear(size, size)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save_checkpoint(path, model, optimizer, {"size": size})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""
    path = tmp_path / "last.pt"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=RECIPE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "checkpoint not written (File too large), the one before is kept" in done.stderr.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]
    assert json.loads(torch.load(path, weights_only=True)["facts"]) == {"size": 8}
