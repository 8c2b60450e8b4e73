"""The recipe's scripts import each other by name, as they do when run from the command line."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPE = Path(__file__).parents[2] / "tools" / "digits"
sys.path.insert(0, str(RECIPE))


@pytest.fixture(scope="session")
def recordings():
    """Three speakers, twelve recordings of every digit: tones, so that no test needs speech."""
    from corpus import SAMPLING_RATE, DigitRecording

    rng = np.random.default_rng(0)
    made = []
    for number, speaker in enumerate(("ada", "bob", "cy")):
        for digit in range(10):
            for index in range(12):
                time = np.arange(int(rng.integers(1600, 3200))) / SAMPLING_RATE
                tone = np.sin(2 * np.pi * (200 + 150 * digit + 20 * number) * time)
                made.append(DigitRecording(digit, speaker, index, (0.1 * (number + 1) * tone).astype(np.float32)))
    return made


@pytest.fixture(scope="session")
def data_dir(recordings, tmp_path_factory):
    """A little prepared data of tones."""
    import prepare

    folder = tmp_path_factory.mktemp("digits") / "data"
    draws = ["--train-draws", "2", "--dev-draws", "1", "--test-draws", "1", "--held-out-draws", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "read_folder", lambda _folder: recordings)
        patch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115, PTH123 (progress bars)
        prepare.prepare(prepare.get_parser().parse_args(["--corpus-dir", "tones", "--output-dir", str(folder), *draws]))
    return folder


@pytest.fixture(scope="session")
def forkserver():
    """Processes that have torch, lhotse and the recipe imported when they begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.digits.workers"])
    with pytest.MonkeyPatch.context() as patch:
        # The server imports before it hears of this process's path.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(RECIPE.parents[1]), str(RECIPE)]))
        first = context.Process(target=os.getpid)
        first.start()
        first.join()
    return context
