"""Prepare spoken-digit strings: lhotse manifests and Fbank features on disk.

Real speech (a folder of the Free Spoken Digit Dataset's recordings):

    python tools/digits/prepare.py --corpus-dir recordings --output-dir data

Without ``--corpus-dir`` the recordings are synthesised on the spot.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from corpus import SAMPLING_RATE, DigitRecording, read_folder, speakers_of, split
from lexicon import make_tokens, write_tokens
from lhotse import CutSet, Fbank, FbankConfig, LilcomChunkyWriter, MonoCut, SupervisionSegment
from mixing import NO_VARIATION, DigitString, Variation, draw_strings
from results import write_json
from tqdm import tqdm

NUM_FEATURES = 40
SPLITS = ("train", "dev", "test", "test_held_out")


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for manifests, features, tokens")
    parser.add_argument("--corpus-dir", type=Path, help="folder of {digit}_{speaker}_{index}.wav, 8 kHz mono")
    parser.add_argument("--held-out-speaker", help="speaker kept out of training; the last by name if not given")
    parser.add_argument("--train-draws", type=int, default=32, help="noise draws of the training recordings")
    parser.add_argument("--dev-draws", type=int, default=8)
    parser.add_argument("--test-draws", type=int, default=12)
    parser.add_argument("--held-out-draws", type=int, default=6)
    parser.add_argument("--max-speed-change", type=float, default=0.1, help="speed perturbation of the training part")
    parser.add_argument("--max-recording-speed-change", type=float, default=0.0, help="the same by recording")
    parser.add_argument("--max-equaliser-db", type=float, default=0.0, help="random filter on each training recording")
    parser.add_argument("--speed-factors", type=float, nargs="*", default=[], help="lhotse's Speed, such as 0.9 1 1.1")
    parser.add_argument("--num-indices", type=int, default=30, help="synthesised recordings per voice and digit")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def make_extractor() -> Fbank:
    """Return the 40-bin, 8 kHz filter bank, with no dither so that features repeat exactly."""
    return Fbank(FbankConfig(sampling_rate=SAMPLING_RATE, num_filters=NUM_FEATURES, dither=0.0))


def make_cut(string: DigitString, extractor: Fbank, writer: LilcomChunkyWriter) -> MonoCut:
    """Compute and store the features of a string and return its cut; the audio itself is not kept."""
    features = extractor.extract_from_samples_and_store(string.samples[None], writer, SAMPLING_RATE)
    features.recording_id, features.channels = string.name, 0
    supervision = SupervisionSegment(
        id=string.name,
        recording_id=string.name,
        start=0.0,
        duration=features.duration,
        text=string.text,
        speaker=string.speaker,
        custom={
            "recordings": list(string.recordings),
            "draw": string.draw,
            "noise": string.noise,
            "snr_db": string.snr_db,
        },
    )
    return MonoCut(
        id=string.name,
        start=0.0,
        duration=features.duration,
        channel=0,
        features=features,
        supervisions=[supervision],
    )


def write_split(
    name: str,
    recordings: Sequence[DigitRecording],
    babble_pool: Sequence[DigitRecording],
    num_draws: int,
    seed: int,
    output_dir: Path,
    variation: Variation,
) -> CutSet:
    """Write the features and the manifest of one split; the manifest appears only when complete."""
    extractor = make_extractor()
    strings = draw_strings(recordings, babble_pool, num_draws, seed, name, variation=variation)
    cuts = []
    with (
        LilcomChunkyWriter(output_dir / f"feats_{name}") as writer,
        tqdm(total=num_draws * len(recordings), desc=name, unit="digit") as progress,
    ):
        for string in strings:
            cuts.append(make_cut(string, extractor, writer))
            progress.update(len(string.recordings))
    temporary = output_dir / f"cuts_{name}.tmp.jsonl.gz"
    cut_set = CutSet.from_cuts(cuts)
    cut_set.to_file(temporary)
    os.replace(temporary, output_dir / f"cuts_{name}.jsonl.gz")
    return cut_set


def prepare(args: argparse.Namespace) -> dict[str, object]:
    """Write everything train.py and decode.py read, and return a summary (also in ``summary.json``)."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.corpus_dir is not None:
        recordings = read_folder(args.corpus_dir)
    else:
        from synthesis import synthesise_corpus

        recordings = synthesise_corpus(args.num_indices, args.seed)
    held_out = args.held_out_speaker or speakers_of(recordings)[-1]
    parts = split(recordings, held_out)
    num_draws = dict(zip(SPLITS, (args.train_draws, args.dev_draws, args.test_draws, args.held_out_draws), strict=True))
    factors = tuple(args.speed_factors)
    variation = Variation(args.max_speed_change, args.max_recording_speed_change, args.max_equaliser_db, factors)
    write_tokens(args.output_dir / "tokens.txt", make_tokens())
    summary: dict[str, object] = {
        "corpus": "folder" if args.corpus_dir else "synthesised",
        "held_out_speaker": held_out,
        "seed": args.seed,
    }
    for number, name in enumerate(SPLITS):
        cuts = write_split(
            name,
            parts[name],
            parts["train"],
            num_draws[name],
            args.seed * len(SPLITS) + number,
            args.output_dir,
            variation if name == "train" else NO_VARIATION,
        )
        if name == "train":
            stats = cuts.compute_global_feature_stats()
            write_json(args.output_dir / "feature_stats.json", {key: stats[key].tolist() for key in stats})
        summary[name] = {
            "recordings": len(parts[name]),
            "speakers": len(speakers_of(parts[name])),
            "strings": len(cuts),
            "words": sum(len(cut.supervisions[0].text.split()) for cut in cuts),
            "hours": round(sum(cut.duration for cut in cuts) / 3600, 3),
        }
    write_json(args.output_dir / "summary.json", summary)
    return summary


if __name__ == "__main__":
    print(json.dumps(prepare(get_parser().parse_args()), indent=2))
