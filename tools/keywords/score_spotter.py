"""Run a trained spotter over the streams: scores of the keywords spoken, and of every detection where none was.

    python tools/keywords/score_spotter.py --data-dir data --exp-dir exp/smoothed

A detector thresholds posteriors as they are, or smoothed as in training: which, the development streams decide, the
same way for every loss. Writes ``events.json`` into the experiment's folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
import torch
from data import eval_loader, load_cuts, unpack
from detection import Events, add_events, false_reject_rate, smooth
from keyword_losses import filter_of
from lhotse import CutSet
from results import write_json
from spotter import SUBSAMPLING, Spotter, load_spotter

SETS = {"test": "test", "test_held_out": "unseen speaker"}
CHOOSING_RATE = 10.0
"""False alarms per hour at which the development streams choose."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder written by prepare_streams.py")
    add("--exp-dir", type=Path, required=True, help="folder written by train_spotter.py")
    add("--num-threads", type=int, default=2)
    return parser


@torch.no_grad()
def detect(model: Spotter, cuts: CutSet, keywords: list[str]) -> dict[str, Events]:
    """Events of all streams by detector: ``smoothed`` posteriors, or ``plain`` ones."""
    events = {"smoothed": Events(), "plain": Events()}
    for batch in eval_loader(cuts):
        features, num_frames, _, _ = unpack(batch)
        logits, lengths = model(features, num_frames)
        for row, length, cut in zip(logits, lengths.tolist(), batch["supervisions"]["cut"], strict=True):
            frame_seconds = cut.frame_shift * SUBSAMPLING
            posteriors = row[:length].double().sigmoid().numpy()
            words = cut.supervisions[0].alignment["word"]
            spoken = [(keywords.index(word.symbol), word.start, word.end) for word in words if word.symbol in keywords]
            add_events(events["plain"], posteriors, spoken, frame_seconds)
            smoothed = smooth(posteriors, **filter_of(frame_seconds))
            add_events(events["smoothed"], smoothed, spoken, frame_seconds)
    return events


def score_spotter(args: argparse.Namespace) -> dict[str, Any]:
    """Choose the detector, score the test streams, write and return ``events.json``."""
    torch.set_num_threads(args.num_threads)
    model, facts = load_spotter(args.exp_dir / "last.pt")
    keywords: list[str] = facts["keywords"]
    on_dev = detect(model, load_cuts(args.data_dir, "dev"), keywords)
    rejects = {name: false_reject_rate(events, CHOOSING_RATE) for name, events in on_dev.items()}
    chosen = min(rejects, key=lambda name: rejects[name])  # smoothed where they are equal
    result: dict[str, Any] = {"loss": facts["loss"], "detector": chosen, "dev_false_reject_rate": rejects, "sets": {}}
    for name in SETS:
        result["sets"][name] = asdict(detect(model, load_cuts(args.data_dir, name), keywords)[chosen])
    write_json(args.exp_dir / "events.json", result)
    return result


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    scored = score_spotter(arguments)
    rates = {name: false_reject_rate(Events(**events), CHOOSING_RATE) for name, events in scored["sets"].items()}
    print(json.dumps({"detector": scored["detector"], f"false rejects at {CHOOSING_RATE:g} per hour": rates}))
