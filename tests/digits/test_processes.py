"""Several processes take the step that one process takes with all their utterances."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lhotse")
pytest.importorskip("kaldialign")
pytest.importorskip("tensorboard")

from .conftest import RECIPE
from .workers import distributed_gradients, gradients

ROOT = RECIPE.parents[1]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(context, shares, loss, infinite=(), duplicates=((), ())):
    """The gradient that each of two processes ends up with."""
    results, port = context.SimpleQueue(), free_port()
    arguments = (port, results, shares, loss, list(infinite), duplicates)
    workers = [context.Process(target=distributed_gradients, args=(rank, *arguments)) for rank in range(len(shares))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=250)
        assert worker.exitcode == 0
    found = {rank: (torch.from_numpy(gradient), number) for rank, gradient, number in (results.get() for _ in workers)}
    return [found[rank] for rank in sorted(found)]


@pytest.mark.parametrize(
    ("loss", "shares", "infinite"),
    [
        ("ctc", [[0, 1, 2, 3], [4, 5]], []),
        ("mmi", [[0], [1, 2, 3, 4, 5]], [2]),
        ("ctc", [[0, 1, 2, 3], [4, 5]], [4, 5]),
        ("mmi", [[0, 1], [2]], [0, 1, 2]),
        ("mwer", [[0, 1, 2, 3], [4, 5]], []),
    ],
    ids=["uneven", "an infinite one", "a process without a finite one", "none at all", "expected errors"],
)
def test_two_processes_give_the_gradient_of_one(loss, shares, infinite, forkserver):
    rows = sorted(row for share in shares for row in share)
    alone, number = gradients(rows, loss, infinite, [True] * len(rows))
    assert number == len(rows) - len(infinite)
    assert (alone.norm() == 0) == (number == 0)
    for gradient, their_number in together(forkserver, shares, loss, infinite):
        assert their_number == number
        assert (gradient - alone).norm() <= 1e-6 * alone.norm()


def test_an_utterance_handed_out_twice_counts_once(forkserver):
    alone, _ = gradients([0, 1, 2], "ctc", [], [True] * 3)
    for gradient, number in together(forkserver, [[0, 1, 2], [0]], "ctc", duplicates=((), (0,))):
        assert number == 3
        assert (gradient - alone).norm() <= 1e-6 * alone.norm()


@pytest.mark.timeout(900)  # three processes import torch: seconds, but on a busy machine
def test_torchrun_trains_to_the_end(tmp_path, data_dir):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", f"--master_port={free_port()}"]
    options = ["--data-dir", str(data_dir), "--exp-dir", str(tmp_path), "--num-epochs", "1", "--max-duration", "10"]
    tiny = ["--channels", "8", "--num-blocks", "2", "--intermediate-layers", "1", "--num-train-parts", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(RECIPE / "train.py"), *options, *tiny, "--stages", "ctc:0", "mmi:2"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr[:4000]
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["epochs"] == 1
    assert json.loads(done.stdout[done.stdout.index("{") :]) == summary
    (entry,) = json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"))
    assert entry["step"] == summary["steps"] > 2
    assert {"ctc", "mmi", "ctc_at_1", "loss", "num_left_out"} <= set(entry)
    assert sorted(path.name for path in tmp_path.glob("*.pt*")) == ["best.pt", "last.pt"]
