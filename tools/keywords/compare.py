"""Train a keyword spotter on spoken digits with three losses, and compare what it misses at equal false alarms.

    python tools/keywords/compare.py --output-dir outputs/keywords [--corpus-dir recordings] [--keywords three seven]

Without ``--corpus-dir``, a folder of the Free Spoken Digit Dataset's recordings, the digits are synthesised. Streams
of digits under noise are written as lhotse cuts with alignments; one or two digits are keywords, all others speak
against them. Smoothed max pooling, plain max pooling and frame-level cross-entropy train the same network from the
same start, on the same batches, with the same rates. Writes ``report.json``, ``table.md`` and ``det.png``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
import plots
import torch
from corpus import read_folder, speakers_of, split
from data import eval_loader, train_loader, unpack
from detection import Events, add_events, false_reject_rate, smooth
from lexicon import WORDS
from lhotse import CutSet
from results import write_json, write_text
from spotter import SUBSAMPLING, Spotter, filter_of, frame_loss, output_frame_seconds, pooling_loss
from streams import draw_streams, write_split
from torch import Tensor
from tqdm import tqdm

SETS = {"test": "test", "test_held_out": "unseen speaker"}
LOSSES = {
    "smoothed": "smoothed max pooling",
    "plain": "plain max pooling",
    "frames": "frame-level cross-entropy",
}


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True)
    add("--corpus-dir", type=Path, help="folder of {digit}_{speaker}_{index}.wav, 8 kHz mono")
    add("--keywords", nargs="+", choices=WORDS, default=["three", "seven"])
    add("--held-out-speaker", help="speaker kept out of training; the last by name if not given")
    add("--train-draws", type=int, default=4, help="noise draws of the training recordings")
    add("--test-draws", type=int, default=24)
    add("--held-out-draws", type=int, default=12)
    add("--num-indices", type=int, default=30, help="synthesised recordings per voice and digit")
    add("--num-epochs", type=int, default=12)
    add("--lr", type=float, default=3e-3)
    add("--max-duration", type=float, default=120.0, help="seconds of speech in a batch")
    add("--negative-weight", type=float, default=0.3, help="weight of what lies outside of keywords, for all losses")
    add("--label-seconds", type=float, default=0.3, help="how much of a keyword's end cross-entropy labels")
    add("--false-alarms-per-hour", type=float, nargs="+", default=[2.0, 10.0, 50.0])
    add("--seed", type=int, default=0)
    add("--num-threads", type=int, default=2)
    return parser


def prepare(args: argparse.Namespace) -> dict[str, CutSet]:
    """Write features and manifests of training and test streams."""
    if args.corpus_dir is not None:
        recordings = read_folder(args.corpus_dir)
    else:
        from synthesis import synthesise_corpus

        recordings = synthesise_corpus(args.num_indices, args.seed)
    parts = split(recordings, args.held_out_speaker or speakers_of(recordings)[-1])
    # Babble that holds keywords would make false alarms of right answers.
    babble_pool = [recording for recording in parts["train"] if WORDS[recording.digit] not in args.keywords]
    draws = {"train": args.train_draws, "test": args.test_draws, "test_held_out": args.held_out_draws}
    cuts = {}
    for number, (name, num_draws) in enumerate(draws.items()):
        seed = args.seed * len(draws) + number
        sizes: dict[str, Any] = {"max_digits": 6, "max_speed_change": 0.1} if name == "train" else {"max_digits": 20}
        streams = draw_streams(parts[name], babble_pool, num_draws, seed, name, **sizes)
        cuts[name] = write_split(streams, num_draws * len(parts[name]), name, args.output_dir / "data")
    return cuts


def make_losses(args: argparse.Namespace) -> dict[str, Callable[..., Tensor]]:
    """The three losses by name, each ``(logits, lengths, cuts, keywords)`` to ``(B,)``."""
    weight = args.negative_weight
    return {
        "smoothed": partial(pooling_loss, is_smoothed=True, negative_weight=weight),
        "plain": partial(pooling_loss, is_smoothed=False, negative_weight=weight),
        "frames": partial(frame_loss, label_seconds=args.label_seconds, negative_weight=weight),
    }


def train(args: argparse.Namespace, name: str, cuts: CutSet) -> tuple[Spotter, dict[str, Any]]:
    """Train from the seed's own start on its own batches, the same for every loss.

    Returns each epoch's mean loss as well, and how often an utterance had no place for its keyword.
    """
    torch.manual_seed(args.seed)
    stats = {key: values.tolist() for key, values in cuts.compute_global_feature_stats().items()}
    model = Spotter(stats, len(args.keywords))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    loss_function = make_losses(args)[name]
    num_steps = args.num_epochs * sum(1 for _ in train_loader(cuts, args.max_duration, args.seed, 1).sampler)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=num_steps + args.num_epochs, pct_start=0.15
    )
    curve, num_impossible = [], 0
    for epoch in tqdm(range(1, args.num_epochs + 1), desc=LOSSES[name], unit="epoch"):
        total, count = 0.0, 0
        for batch in train_loader(cuts, args.max_duration, args.seed, epoch, augment=True):
            features, num_frames, _, _ = unpack(batch)
            logits, lengths = model(features, num_frames)
            losses = loss_function(logits, lengths, batch["supervisions"]["cut"], args.keywords)
            finite = losses.isfinite()
            optimizer.zero_grad(set_to_none=True)
            losses[finite].mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total, count = total + float(losses[finite].detach().sum()), count + int(finite.sum())
            num_impossible += int((~finite).sum())
        curve.append(total / max(1, count))
    return model.eval(), {"curve": curve, "num_impossible": num_impossible}


@torch.no_grad()
def detect(model: Spotter, cuts: CutSet, keywords: list[str]) -> Events:
    """Run the detector over all streams: the same smoothing of posteriors, whatever the loss."""
    events = Events()
    frame_seconds = output_frame_seconds(cuts[0])
    for batch in eval_loader(cuts):
        features, num_frames, _, _ = unpack(batch)
        logits, lengths = model(features, num_frames)
        for row, length, cut in zip(logits, lengths.tolist(), batch["supervisions"]["cut"], strict=True):
            scores = smooth(row[:length].double().sigmoid().numpy(), **filter_of(frame_seconds))
            words = cut.supervisions[0].alignment["word"]
            spoken = [(keywords.index(word.symbol), word.start, word.end) for word in words if word.symbol in keywords]
            add_events(events, scores, spoken, frame_seconds)
    return events


def to_markdown(report: dict[str, Any]) -> str:
    """A table: false rejects in percent by loss, at each rate of false alarms, on each set."""
    rates = report["false_alarms_per_hour"]
    heads = [f"{SETS[name]}, {rate:g}/h" for name in SETS for rate in rates]
    lines = ["| trained with | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, label in LOSSES.items():
        row = report["losses"][name]["false_reject_rate"]
        lines.append(
            f"| {label} | " + " | ".join(f"{100 * row[part][f'{r:g}']:.1f}" for part in SETS for r in rates) + " |"
        )
    facts = [
        f"{SETS[name]}: {facts['keywords']} keywords in {facts['hours']:.2f} h"
        for name, facts in report["sets"].items()
    ]
    return "False rejects (%) at false alarms per hour\n\n" + "\n".join(lines) + "\n\n" + "; ".join(facts) + "\n"


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train, detect, report."""
    start = time.perf_counter()
    torch.set_num_threads(args.num_threads)
    cuts = prepare(args)
    report: dict[str, Any] = {
        "corpus": "folder" if args.corpus_dir else "synthesised",
        "keywords": args.keywords,
        "false_alarms_per_hour": args.false_alarms_per_hour,
        "subsampling": SUBSAMPLING,
        "train_hours": sum(cut.duration for cut in cuts["train"]) / 3600,
        "settings": {key: value for key, value in vars(args).items() if not isinstance(value, Path)},
        "sets": {},
        "losses": {},
    }
    events: dict[str, dict[str, Events]] = {name: {} for name in SETS}
    for name in LOSSES:
        began = time.perf_counter()
        model, facts = train(args, name, cuts["train"])
        seconds = time.perf_counter() - began
        rates: dict[str, dict[str, float]] = {}
        for part, by_loss in events.items():
            found = by_loss[name] = detect(model, cuts[part], args.keywords)
            rates[part] = {f"{rate:g}": false_reject_rate(found, rate) for rate in args.false_alarms_per_hour}
            report["sets"][part] = {"hours": found.hours, "keywords": len(found.hits)}
        report["losses"][name] = {"false_reject_rate": rates, "train_seconds": round(seconds, 1), **facts}
    plots.write_det(events, {**LOSSES}, SETS, args.output_dir / "det.png")
    report["seconds"] = round(time.perf_counter() - start, 1)
    write_json(args.output_dir / "report.json", report)
    write_text(args.output_dir / "table.md", to_markdown(report))
    return report


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    result = main(arguments)
    print(to_markdown(result))
    print(json.dumps({"seconds": result["seconds"], "output_dir": str(arguments.output_dir)}))
