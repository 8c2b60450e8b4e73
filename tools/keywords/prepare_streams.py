"""Prepare streams of spoken digits: lhotse manifests with a word alignment, and filter-bank features on disk.

Real speech (a folder of the Free Spoken Digit Dataset's recordings):

    python tools/keywords/prepare_streams.py --corpus-dir recordings --output-dir data

Without ``--corpus-dir`` the recordings are synthesised on the spot.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
from corpus import SAMPLING_RATE, read_folder, speakers_of, split
from lexicon import WORDS
from lhotse import CutSet, Fbank, LilcomChunkyWriter, MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from prepare import make_extractor
from results import write_json
from streams import Stream, draw_streams
from tqdm import tqdm

MAX_DIGITS = {"train": 6, "dev": 20, "test": 20, "test_held_out": 20}
"""The most digits in a stream, by set."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, help="folder for manifests and features")
    add("--corpus-dir", type=Path, help="folder of {digit}_{speaker}_{index}.wav, 8 kHz mono")
    add("--keywords", nargs="+", choices=WORDS, default=["zero", "seven"], help="kept out of babble")
    add("--held-out-speaker", help="speaker kept out of training; the last by name if not given")
    add("--train-draws", type=int, default=8, help="noise draws of the training recordings")
    add("--dev-draws", type=int, default=12)
    add("--test-draws", type=int, default=24)
    add("--held-out-draws", type=int, default=12)
    add("--max-speed-change", type=float, default=0.1, help="speed perturbation of the training part")
    add("--num-indices", type=int, default=30, help="synthesised recordings per voice and digit")
    add("--seed", type=int, default=0)
    return parser


def make_cut(stream: Stream, extractor: Fbank, writer: LilcomChunkyWriter) -> MonoCut:
    """Features stored, words as an alignment; the audio is not kept."""
    features = extractor.extract_from_samples_and_store(stream.samples[None], writer, SAMPLING_RATE)
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
    with (
        LilcomChunkyWriter(output_dir / f"feats_{name}") as writer,
        tqdm(total=num_words, desc=name, unit="digit") as progress,
    ):
        for stream in streams:
            cuts.append(make_cut(stream, extractor, writer))
            progress.update(len(stream.words))
    temporary = output_dir / f"cuts_{name}.tmp.jsonl.gz"
    cut_set = CutSet.from_cuts(cuts)
    cut_set.to_file(temporary)
    os.replace(temporary, output_dir / f"cuts_{name}.jsonl.gz")
    return cut_set


def prepare_streams(args: argparse.Namespace) -> dict[str, Any]:
    """Write everything train_spotter.py and score_spotter.py read, and return a summary (also ``summary.json``)."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.corpus_dir is not None:
        recordings = read_folder(args.corpus_dir)
    else:
        from synthesis import synthesise_corpus

        recordings = synthesise_corpus(args.num_indices, args.seed)
    held_out = args.held_out_speaker or speakers_of(recordings)[-1]
    parts = split(recordings, held_out)
    # Babble that holds keywords would make false alarms of right answers.
    babble_pool = [recording for recording in parts["train"] if WORDS[recording.digit] not in args.keywords]
    draws = {
        "train": args.train_draws,
        "dev": args.dev_draws,
        "test": args.test_draws,
        "test_held_out": args.held_out_draws,
    }
    summary: dict[str, Any] = {
        "corpus": "folder" if args.corpus_dir else "synthesised",
        "keywords": args.keywords,
        "held_out_speaker": held_out,
        "seed": args.seed,
    }
    for number, (name, num_draws) in enumerate(draws.items()):
        streams = draw_streams(
            parts[name],
            babble_pool,
            num_draws,
            args.seed * len(draws) + number,
            name,
            max_digits=MAX_DIGITS[name],
            max_speed_change=args.max_speed_change if name == "train" else 0.0,
        )
        cuts = write_split(streams, num_draws * len(parts[name]), name, args.output_dir)
        if name == "train":
            stats = cuts.compute_global_feature_stats()
            write_json(args.output_dir / "feature_stats.json", {key: stats[key].tolist() for key in stats})
        keyword_recordings = sum(WORDS[recording.digit] in args.keywords for recording in parts[name])
        summary[name] = {
            "recordings": len(parts[name]),
            "keyword_recordings": keyword_recordings,
            "streams": len(cuts),
            "words": num_draws * len(parts[name]),
            "keywords": num_draws * keyword_recordings,
            "hours": round(sum(cut.duration for cut in cuts) / 3600, 3),
        }
    write_json(args.output_dir / "summary.json", summary)
    return summary


if __name__ == "__main__":
    print(json.dumps(prepare_streams(get_parser().parse_args()), indent=2))
