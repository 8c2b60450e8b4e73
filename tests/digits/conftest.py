"""The recipe's scripts import each other by name, as they do when run from the command line."""

from __future__ import annotations

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
