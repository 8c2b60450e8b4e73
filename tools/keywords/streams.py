"""Streams of spoken digits: words of one speaker with pauses between them, under white noise or babble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import digits_path  # noqa: F401
import numpy as np
from corpus import SAMPLING_RATE, DigitRecording, speakers_of
from lexicon import WORDS
from mixing import FRAME_SAMPLES, LEVEL, NOISES, at_speed, babble_noise, mix, scale_to, white_noise

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 0.5
MIN_SNR_DB, MAX_SNR_DB = 5.0, 20.0

SpokenWord = tuple[str, float, float]
"""Word, start and duration in seconds."""


@dataclass(frozen=True)
class Stream:
    """Noisy digits of one speaker, a whole number of 10 ms frames, and where each word is."""

    name: str
    speaker: str
    words: tuple[SpokenWord, ...]
    noise: str
    samples: np.ndarray


def join(recordings: Sequence[DigitRecording], rng: np.random.Generator) -> tuple[np.ndarray, tuple[SpokenWord, ...]]:
    """Recordings with a pause before each and after the last, in whole frames, and where each of them is."""
    pauses = (rng.uniform(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS, len(recordings) + 1) * SAMPLING_RATE).astype(int)
    pieces, words, position = [], [], 0
    for pause, recording in zip(pauses, recordings, strict=False):
        pieces += [np.zeros(pause, dtype=np.float32), scale_to(recording.samples, LEVEL)]
        position += int(pause)
        num_samples = len(recording.samples)
        words.append((WORDS[recording.digit], position / SAMPLING_RATE, num_samples / SAMPLING_RATE))
        position += num_samples
    rest = int(pauses[-1])
    pieces.append(np.zeros(rest + -(position + rest) % FRAME_SAMPLES, dtype=np.float32))
    return np.concatenate(pieces), tuple(words)


def draw_streams(
    recordings: Sequence[DigitRecording],
    babble_pool: Sequence[DigitRecording],
    num_draws: int,
    seed: int,
    prefix: str,
    *,
    max_digits: int,
    max_speed_change: float = 0.0,
) -> Iterator[Stream]:
    """Streams of at most ``max_digits``; every recording comes once per draw; white noise and babble take turns.

    ``max_speed_change`` 0.1 plays each stream at one speed between 0.9 and 1.1, pitch included: training data only.
    """
    for draw in range(num_draws):
        noise_name = NOISES[draw % len(NOISES)]
        for number, speaker in enumerate(speakers_of(list(recordings))):
            rng = np.random.default_rng([seed, draw, number])
            own = [recording for recording in recordings if recording.speaker == speaker]
            order = rng.permutation(len(own))
            for count, first in enumerate(range(0, len(own), max_digits)):
                joined, spoken = join([own[i] for i in order[first : first + max_digits]], rng)
                speech = at_speed(joined, 1.0 + float(rng.uniform(-max_speed_change, max_speed_change)))
                slower = len(speech) / len(joined)
                words = tuple((word, slower * start, slower * duration) for word, start, duration in spoken)
                white = noise_name == "white"
                noise = white_noise(len(speech), rng) if white else babble_noise(len(speech), babble_pool, rng)
                samples = mix(speech, noise, float(rng.uniform(MIN_SNR_DB, MAX_SNR_DB)))
                yield Stream(f"{prefix}-{draw:02d}-{speaker}-{count:04d}", speaker, words, noise_name, samples)
