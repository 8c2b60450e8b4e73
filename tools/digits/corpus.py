"""A corpus of spoken digits is a list of recordings: real ones from a folder, or synthesised ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLING_RATE = 8000
FILE_NAME = re.compile(r"^(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>[0-9]+)\.wav$")
TEST_INDICES = range(5)
DEV_INDICES = range(5, 10)


@dataclass(frozen=True)
class DigitRecording:
    """One spoken digit: mono float32 samples at 8 kHz, full scale 1."""

    digit: int
    speaker: str
    index: int
    samples: np.ndarray

    @property
    def name(self) -> str:
        """Digit, speaker and index, as the Free Spoken Digit Dataset names its files."""
        return f"{self.digit}_{self.speaker}_{self.index}"


def read_folder(folder: Path) -> list[DigitRecording]:
    """Read ``{digit}_{speaker}_{index}.wav`` files (the Free Spoken Digit Dataset's names), sorted by name.

    Raises:
        ValueError: if the folder holds no such file, or one of them is not 8 kHz mono.
    """
    import soundfile

    recordings = []
    for path in sorted(folder.glob("*.wav")):
        match = FILE_NAME.match(path.name)
        if match is None:
            continue
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLING_RATE or samples.ndim != 1:
            raise ValueError(f"{path}: expected {SAMPLING_RATE} Hz mono, got {rate} Hz, shape {samples.shape}")
        digit, speaker, index = int(match["digit"]), match["speaker"], int(match["index"])
        recordings.append(DigitRecording(digit, speaker, index, samples))
    if not recordings:
        raise ValueError(f"{folder}: expected files such as 7_jackson_32.wav, found none")
    return recordings


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample by cutting the spectrum: exact for band-limited signals that begin and end in silence."""
    num_samples = round(len(samples) * new_rate / rate)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(num_samples // 2 + 1, dtype=spectrum.dtype)
    num_kept = min(len(kept), len(spectrum))
    kept[:num_kept] = spectrum[:num_kept]
    return (np.fft.irfft(kept, n=num_samples) * (num_samples / len(samples))).astype(np.float32)


def speakers_of(recordings: list[DigitRecording]) -> list[str]:
    """Return the speakers' names, sorted."""
    return sorted({recording.speaker for recording in recordings})


def split(recordings: list[DigitRecording], held_out_speaker: str) -> dict[str, list[DigitRecording]]:
    """Split into train, dev and test by index, and all of one speaker into test_held_out.

    Indices 0-4 are test and 5-9 development, as the Free Spoken Digit Dataset asks; the rest is training.
    """
    speakers = speakers_of(recordings)
    if held_out_speaker not in speakers:
        raise ValueError(f"held_out_speaker: expected one of {', '.join(speakers)}, got {held_out_speaker!r}")
    parts: dict[str, list[DigitRecording]] = {"train": [], "dev": [], "test": [], "test_held_out": []}
    for recording in recordings:
        if recording.speaker == held_out_speaker:
            parts["test_held_out"].append(recording)
        elif recording.index in TEST_INDICES:
            parts["test"].append(recording)
        elif recording.index in DEV_INDICES:
            parts["dev"].append(recording)
        else:
            parts["train"].append(recording)
    for name, part in parts.items():
        if len(part) < 3:
            raise ValueError(f"corpus: expected at least 3 recordings for {name}, got {len(part)}")
    return parts
