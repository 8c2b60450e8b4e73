"""Strings of digits: recordings of one speaker joined with pauses, under white noise or babble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from corpus import SAMPLING_RATE, DigitRecording, resample, speakers_of
from lexicon import WORDS
from lhotse.augmentation import Speed

NOISES = ("white", "babble")
MIN_DIGITS, MAX_DIGITS = 3, 7
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 0.25
MIN_SNR_DB, MAX_SNR_DB = 0.0, 10.0
NUM_BABBLE_SPEAKERS = 6
FRAME_SAMPLES = SAMPLING_RATE // 100
NUM_EQUALISER_WAVES = 4
LEVEL = 0.05  # root mean square of every recording before mixing: speakers differ by a factor of ten


@dataclass(frozen=True)
class DigitString:
    """A noisy utterance and where it comes from; samples are a whole number of 10 ms frames."""

    name: str
    speaker: str
    recordings: tuple[str, ...]
    draw: int
    text: str
    noise: str
    snr_db: float
    samples: np.ndarray


@dataclass(frozen=True)
class Variation:
    """How far training data strays from the recordings.

    Attributes:
        max_speed_change: 0.1 plays each string at one speed between 0.9 and 1.1, pitch included.
        max_recording_speed_change: the same for each recording by itself.
        max_equaliser_db: gain or loss, at most, of a smooth random filter on each recording.
        speed_factors: each string is played at one of these, by lhotse, or as it is where there are none.
    """

    max_speed_change: float = 0.0
    max_recording_speed_change: float = 0.0
    max_equaliser_db: float = 0.0
    speed_factors: tuple[float, ...] = ()

    @property
    def of_recordings(self) -> bool:
        """Whether recordings are changed one by one."""
        return self.max_recording_speed_change > 0 or self.max_equaliser_db > 0


NO_VARIATION = Variation()


def string_lengths(num_recordings: int, rng: np.random.Generator) -> list[int]:
    """Cut ``num_recordings`` (at least 3) into lengths of 3 to 7 that sum to it."""
    lengths = []
    left = num_recordings
    while left > MAX_DIGITS:
        # What stays must be cuttable too: never leave 1 or 2.
        length = int(rng.integers(MIN_DIGITS, min(MAX_DIGITS, left - MIN_DIGITS) + 1))
        lengths.append(length)
        left -= length
    lengths.append(left)
    return lengths


def scale_to(samples: np.ndarray, level: float) -> np.ndarray:
    """Scale to a root mean square of ``level``; silence stays silence."""
    present = np.sqrt(np.mean(np.square(samples)))
    return (samples * (level / present) if present > 0 else samples).astype(np.float32)


def join(recordings: Sequence[DigitRecording], rng: np.random.Generator) -> np.ndarray:
    """Join recordings with a random pause before each and after the last, padded to whole frames."""
    pauses = rng.uniform(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS, len(recordings) + 1) * SAMPLING_RATE
    pieces = []
    for pause, recording in zip(pauses, recordings, strict=False):
        pieces += [np.zeros(int(pause), dtype=np.float32), scale_to(recording.samples, LEVEL)]
    num_samples = sum(map(len, pieces)) + int(pauses[-1])
    num_samples += -num_samples % FRAME_SAMPLES
    joined = np.zeros(num_samples, dtype=np.float32)
    joined[: sum(map(len, pieces))] = np.concatenate(pieces)
    return joined


def at_speed(speech: np.ndarray, speed: float) -> np.ndarray:
    """Play a string faster or slower, as a tape would, to the nearest whole frame."""
    num_samples = round(len(speech) / speed / FRAME_SAMPLES) * FRAME_SAMPLES
    return speech if num_samples == len(speech) else resample(speech, len(speech), num_samples)


def perturb_speed(speech: np.ndarray, factor: float) -> np.ndarray:
    """Play a string faster or slower with lhotse's resampler, padded to whole frames."""
    if factor == 1:
        return speech
    played = Speed(factor)(speech[None], SAMPLING_RATE)[0]
    return np.pad(played, (0, -len(played) % FRAME_SAMPLES))


def equalise(samples: np.ndarray, max_gain_db: float, rng: np.random.Generator) -> np.ndarray:
    """Pass a recording through a random smooth filter: another microphone, room or mood of the speaker."""
    spectrum = np.fft.rfft(samples)
    frequency = np.linspace(0.0, 1.0, len(spectrum))
    weights = rng.uniform(-1.0, 1.0, NUM_EQUALISER_WAVES) * max_gain_db / NUM_EQUALISER_WAVES
    phases = rng.uniform(0.0, 2 * np.pi, NUM_EQUALISER_WAVES)
    waves = np.cos(np.pi * np.outer(np.arange(1, NUM_EQUALISER_WAVES + 1), np.sqrt(frequency)) + phases[:, None])
    return np.fft.irfft(spectrum * 10 ** (weights @ waves / 20), n=len(samples)).astype(np.float32)


def vary(recording: DigitRecording, variation: Variation, rng: np.random.Generator) -> DigitRecording:
    """Return a recording as it might have been made another time; draws nothing where nothing varies."""
    if not variation.of_recordings:
        return recording
    speed = 1.0 + float(rng.uniform(-variation.max_recording_speed_change, variation.max_recording_speed_change))
    samples = resample(recording.samples, len(recording.samples), round(len(recording.samples) / speed))
    samples = equalise(samples, variation.max_equaliser_db, rng)
    return replace(recording, samples=samples)


def white_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise with a flat spectrum."""
    return rng.standard_normal(num_samples).astype(np.float32)


def babble_noise(num_samples: int, pool: Sequence[DigitRecording], rng: np.random.Generator) -> np.ndarray:
    """Return several people speaking at once: sums of recordings drawn from ``pool``, end to end."""
    babble = np.zeros(num_samples, dtype=np.float32)
    for _ in range(NUM_BABBLE_SPEAKERS):
        position = -int(rng.integers(0, SAMPLING_RATE // 2))
        while position < num_samples:
            voice = scale_to(pool[int(rng.integers(len(pool)))].samples, LEVEL)
            first, last = max(0, position), min(num_samples, position + len(voice))
            if last > first:
                babble[first:last] += voice[first - position : last - position]
            position += len(voice)
    return babble


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise at a signal-to-noise ratio, both powers taken over the whole string, pauses included."""
    ratio = 10 ** (snr_db / 20)
    return speech + scale_to(noise, float(np.sqrt(np.mean(np.square(speech)))) / ratio)


def draw_strings(
    recordings: Sequence[DigitRecording],
    babble_pool: Sequence[DigitRecording],
    num_draws: int,
    seed: int,
    prefix: str,
    *,
    variation: Variation = NO_VARIATION,
) -> Iterator[DigitString]:
    """Yield strings in which every recording comes once per draw; white noise and babble take turns.

    A draw joins each speaker's recordings anew, so no two draws hold the same strings. ``variation`` is for
    training data only.
    """
    for draw in range(num_draws):
        noise_name = NOISES[draw % len(NOISES)]
        for number, speaker in enumerate(speakers_of(list(recordings))):
            rng = np.random.default_rng([seed, draw, number])
            own = [recording for recording in recordings if recording.speaker == speaker]
            order = rng.permutation(len(own))
            ends = np.cumsum(string_lengths(len(own), rng))
            for count, members in enumerate(np.split(order, ends[:-1])):
                chosen = [own[i] for i in members]
                voices = [vary(recording, variation, rng) for recording in chosen]
                speed = 1.0 + float(rng.uniform(-variation.max_speed_change, variation.max_speed_change))
                speech = at_speed(join(voices, rng), speed)
                if variation.speed_factors:
                    speech = perturb_speed(speech, float(rng.choice(variation.speed_factors)))
                white = noise_name == "white"
                noise = white_noise(len(speech), rng) if white else babble_noise(len(speech), babble_pool, rng)
                snr_db = float(rng.uniform(MIN_SNR_DB, MAX_SNR_DB))
                yield DigitString(
                    name=f"{prefix}-{draw:02d}-{speaker}-{count:04d}",
                    speaker=speaker,
                    recordings=tuple(recording.name for recording in chosen),
                    draw=draw,
                    text=" ".join(WORDS[recording.digit] for recording in chosen),
                    noise=noise_name,
                    snr_db=round(snr_db, 2),
                    samples=mix(speech, noise, snr_db),
                )
