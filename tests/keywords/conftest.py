"""The recipe's scripts import each other, and the digits recipe's, by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path[:0] = [str(TOOLS / "keywords"), str(TOOLS / "digits")]


@pytest.fixture(scope="session")
def recordings():
    """Three speakers, twelve recordings of every digit: tones, a semitone higher by speaker."""
    from corpus import SAMPLING_RATE, DigitRecording

    rng = np.random.default_rng(0)
    made = []
    for number, speaker in enumerate(("ada", "bob", "cy")):
        for digit in range(10):
            for index in range(12):
                time = np.arange(int(rng.integers(1600, 3200))) / SAMPLING_RATE
                tone = np.sin(2 * np.pi * (300 * 1.3**digit * 1.06**number) * time)
                made.append(DigitRecording(digit, speaker, index, (0.1 * (number + 1) * tone).astype(np.float32)))
    return made
