"""Train a keyword spotter on spoken digits with three losses, and compare what it misses at equal false alarms.

    python tools/keywords/compare.py --output-dir outputs/keywords [--corpus-dir recordings] [--keywords three seven]

Without ``--corpus-dir``, a folder of the Free Spoken Digit Dataset's recordings, the digits are synthesised. One or
two digits are keywords, all others in the streams speak against them. Smoothed max pooling, plain max pooling and
frame-level cross-entropy train the same network from the same start, on the same batches, with the same rates.
Writes ``report.json``, ``table.md`` and ``det.png``, and every step's own files.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
import numpy as np
import plots
import prepare_streams
import score_spotter
import train_spotter
from detection import Events, false_reject_rate
from keyword_losses import LOSSES
from lexicon import WORDS
from results import write_json, write_text
from score_spotter import SETS


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True)
    add("--corpus-dir", type=Path, help="folder of {digit}_{speaker}_{index}.wav, 8 kHz mono")
    add("--keywords", nargs="+", choices=WORDS, default=["zero", "seven"])
    add("--held-out-speaker", help="speaker kept out of training; the last by name if not given")
    add("--seeds", type=int, nargs="+", default=[0], help="trainings; the streams stay the same")
    add("--num-epochs", type=int, default=6)
    add("--false-alarms-per-hour", type=float, nargs="+", default=[5.0, 10.0, 50.0])
    add("--num-threads", type=int, default=2)
    return parser


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Write the streams."""
    command = ["--output-dir", str(args.output_dir / "data"), "--keywords", *args.keywords]
    if args.corpus_dir is not None:
        command += ["--corpus-dir", str(args.corpus_dir)]
    if args.held_out_speaker is not None:
        command += ["--held-out-speaker", args.held_out_speaker]
    return prepare_streams.prepare_streams(prepare_streams.get_parser().parse_args(command))


def train_and_score(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """One training and what came of it."""
    exp_dir = args.output_dir / f"{name}-{seed}"
    common = ["--data-dir", str(args.output_dir / "data"), "--exp-dir", str(exp_dir)]
    common += ["--num-threads", str(args.num_threads)]
    own = ["--loss", name, "--seed", str(seed), "--num-epochs", str(args.num_epochs)]
    began = time.perf_counter()
    facts = train_spotter.train_spotter(train_spotter.get_parser().parse_args([*common, *own]))
    seconds = time.perf_counter() - began
    scored = score_spotter.score_spotter(score_spotter.get_parser().parse_args(common))
    return {**scored, "train_seconds": round(seconds, 1), "curve": facts["curve"]}


def make_report(args: argparse.Namespace, summary: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> Any:
    """False-reject rates by loss, set and rate, one per seed."""
    by_loss: dict[str, Any] = {}
    for name, seeds in runs.items():
        rejects = {
            part: {
                f"{rate:g}": [false_reject_rate(Events(**run["sets"][part]), rate) for run in seeds]
                for rate in args.false_alarms_per_hour
            }
            for part in SETS
        }
        kept = ("detector", "dev_false_reject_rate", "train_seconds", "curve")
        by_loss[name] = {"false_reject_rate": rejects, "runs": [{key: run[key] for key in kept} for run in seeds]}
    return {
        "data": summary,
        "seeds": args.seeds,
        "num_epochs": args.num_epochs,
        "false_alarms_per_hour": args.false_alarms_per_hour,
        "losses": by_loss,
    }


def to_markdown(report: dict[str, Any]) -> str:
    """A table: false rejects in percent by loss, at each rate of false alarms, on each set; mean and spread."""
    rates = [f"{rate:g}" for rate in report["false_alarms_per_hour"]]
    keywords, num_seeds = " and ".join(report["data"]["keywords"]), len(report["seeds"])
    spread = f"; mean and standard deviation over {num_seeds} trainings" if num_seeds > 1 else ""
    lines = [
        f"False rejects in percent at so many false alarms per hour, keywords {keywords}{spread}.",
        "",
        "| trained with | " + " | ".join(f"{SETS[part]}, {rate}/h" for part in SETS for rate in rates) + " |",
        "|---|" + "---:|" * (len(SETS) * len(rates)),
    ]
    for name, facts in report["losses"].items():
        cells = [percent(facts["false_reject_rate"][part][rate]) for part in SETS for rate in rates]
        lines.append(f"| {LOSSES[name]} | " + " | ".join(cells) + " |")
    sizes = [
        f"{SETS[part]}: {report['data'][part]['keyword_recordings']} recordings of keywords, "
        f"{report['data'][part]['keywords']} places in {report['data'][part]['hours']:.2f} h"
        for part in SETS
    ]
    return "\n".join([*lines, "", "; ".join(sizes) + "."]) + "\n"


def percent(rates: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    values = 100 * np.array(rates)
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train, score, report."""
    start, cpu_start = time.perf_counter(), time.process_time()
    summary = prepare(args)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LOSSES}
    for seed in args.seeds:
        for name, done in runs.items():
            done.append(train_and_score(args, name, seed))
    report = make_report(args, summary, runs)
    events = {
        part: {LOSSES[name]: [Events(**run["sets"][part]) for run in seeds] for name, seeds in runs.items()}
        for part in SETS
    }
    plots.write_det(events, SETS, args.output_dir / "det.png")
    report["seconds"] = round(time.perf_counter() - start, 1)
    report["cpu_seconds"] = round(time.process_time() - cpu_start, 1)
    write_json(args.output_dir / "report.json", report)
    write_text(args.output_dir / "table.md", to_markdown(report))
    return report


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    result = main(arguments)
    print(to_markdown(result))
    print(
        json.dumps({key: result[key] for key in ("seconds", "cpu_seconds")} | {"output_dir": str(arguments.output_dir)})
    )
