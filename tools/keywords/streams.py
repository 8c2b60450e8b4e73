"""Streams of spoken digits as lhotse cuts: features on disk, and an alignment that says where each word is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import digits_path  # noqa: F401
import numpy as np
from corpus import SAMPLING_RATE, DigitRecording, speakers_of
from lexicon import WORDS
from lhotse import CutSet, LilcomChunkyWriter, MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from mixing import (
    FRAME_SAMPLES,
    LEVEL,
    NOISES,
    at_speed,
    babble_noise,
    mix,
    scale_to,
    white_noise,
)
from prepare import make_extractor
from tqdm import tqdm

MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 0.5
MIN_SNR_DB, MAX_SNR_DB = 5.0, 20.0


@dataclass(frozen=True)
class Stream:
    """Noisy digits of one speaker; ``words`` are (word, start, duration) in seconds."""

    name: str
    speaker: str
    words: tuple[tuple[str, float, float], ...]
    noise: str
    samples: np.ndarray


def join(
    recordings: Sequence[DigitRecording], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[tuple[str, float, float], ...]]:
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

    ``max_speed_change`` 0.1 plays each stream at one speed between 0.9 and 1.1: training data only.
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


def make_cut(stream: Stream, extractor: object, writer: LilcomChunkyWriter) -> MonoCut:
    """Features stored, words as an alignment; the audio is not kept."""
    features = extractor.extract_from_samples_and_store(stream.samples[None], writer, SAMPLING_RATE)  # type: ignore[attr-defined]
    features.recording_id, features.channels = stream.name, 0
    supervision = SupervisionSegment(
        id=stream.name,
        recording_id=stream.name,
        start=0.0,
        duration=features.duration,
        text=" ".join(word for word, _, _ in stream.words),
        speaker=stream.speaker,
        alignment={"word": [AlignmentItem(*word) for word in stream.words]},
        custom={"noise": stream.noise},
    )
    return MonoCut(
        id=stream.name,
        start=0.0,
        duration=features.duration,
        channel=0,
        features=features,
        supervisions=[supervision],
    )


def write_split(streams: Iterator[Stream], num_words: int, name: str, output_dir: Path) -> CutSet:
    """Write a split's features and manifest; the manifest appears only when complete."""
    extractor, cuts = make_extractor(), []
    output_dir.mkdir(parents=True, exist_ok=True)
    with LilcomChunkyWriter(output_dir / f"feats_{name}") as writer, tqdm(total=num_words, desc=name) as progress:
        for stream in streams:
            cuts.append(make_cut(stream, extractor, writer))
            progress.update(len(stream.words))
    temporary = output_dir / f"cuts_{name}.tmp.jsonl.gz"
    cut_set = CutSet.from_cuts(cuts)
    cut_set.to_file(temporary)
    os.replace(temporary, output_dir / f"cuts_{name}.jsonl.gz")
    return cut_set
