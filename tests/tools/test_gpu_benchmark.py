"""tools/benchmarks/gpu.py: runs without a GPU where asked to, and says so where not."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-W", "ignore", ROOT / "tools" / "benchmarks" / "gpu.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_a_tiny_form_runs_in_the_interpreter(tmp_path: Path) -> None:
    done = run("--interpret", "--rounds", 1, "--output", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found == json.loads(done.stdout.splitlines()[-1])
    assert [row["what"] for row in found["checks"]] == [
        f"{loss} compact {dtype}" for loss in ("ctc", "mmi") for dtype in ("float32", "float64")
    ]
    assert all(row["holds"] and row["same_bits_twice"] for row in found["checks"])
    assert found["ctc_ms"].keys() == {"native", "torch"}
    assert found["denominator"]["arc_frames_per_second"] > 0
    assert [row["topology"] for row in found["mmi_memory"]] == ["compact"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("torch sees no CUDA device; --interpret runs a tiny form on the CPU")
