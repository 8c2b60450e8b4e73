"""The experiment's tables: word error rates by seed, system, test set and decoding, with paired intervals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from data import load_cuts
from decode import METHODS, TEST_SPLITS
from results import read_json
from scoring import bootstrap_by_utterance, errors_by_recording, paired_bootstrap
from systems import BASELINE, TITLES

SPLIT_NAMES = {"test": "seen speakers", "test_held_out": "held-out speaker"}


def make_report(data_dir: Path, chosen: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Collect what every seed decoded: rates, means, relative reductions, bootstrap intervals."""
    cells: dict[str, Any] = {}
    for split in TEST_SPLITS:
        cuts = list(load_cuts(data_dir, split))
        texts = [cut.supervisions[0].text for cut in cuts]
        recordings = [cut.supervisions[0].custom["recordings"] for cut in cuts]
        for method in METHODS:
            hypotheses = {
                seed: {
                    system: read_json(Path(run["exp_dir"]) / "decode" / f"hyps-{split}-{method}.json")
                    for system, run in runs.items()
                }
                for seed, runs in chosen.items()
            }
            ordered = {
                seed: {system: [found[cut.id] for cut in cuts] for system, found in by_system.items()}
                for seed, by_system in hypotheses.items()
            }
            cells[f"{split}/{method}"] = make_cell(texts, recordings, ordered)
    return {
        "data": read_json(data_dir / "summary.json"),
        "chosen": {str(seed): value for seed, value in chosen.items()},
        "cells": cells,
    }


def make_cell(
    texts: list[str], recordings: list[list[str]], hypotheses: dict[int, dict[str, list[list[str]]]]
) -> dict[str, Any]:
    """Return rates by system and seed, and each against CTC trained on: per seed and with the seeds' errors pooled."""
    systems = list(next(iter(hypotheses.values())))
    counts = {
        seed: {system: errors_by_recording(texts, recordings, found) for system, found in by_system.items()}
        for seed, by_system in hypotheses.items()
    }
    wer = {system: [rate(by_system[system]) for by_system in counts.values()] for system in systems}
    paired = {
        system: {
            str(seed): {
                "by_recording": paired_bootstrap(counts[seed][BASELINE], counts[seed][system]),
                "by_utterance": bootstrap_by_utterance(texts, by_system[BASELINE], by_system[system]),
            }
            for seed, by_system in hypotheses.items()
        }
        for system in fine_tuned(systems)
    }
    pooled = {system: pool([by_system[system] for by_system in counts.values()]) for system in systems}
    return {
        "wer": wer,
        "mean": {system: float(np.mean(rates)) for system, rates in wer.items()},
        "spread": {system: float(np.std(rates, ddof=1)) if len(rates) > 1 else 0.0 for system, rates in wer.items()},
        "against_continued": paired,
        "pooled": {system: paired_bootstrap(pooled[BASELINE], pooled[system]) for system in fine_tuned(systems)},
    }


def fine_tuned(systems: Iterable[str]) -> list[str]:
    """Return the systems that are held against CTC trained on."""
    return [name for name in systems if name not in ("converged", BASELINE)]


def rate(counts: dict[str, tuple[int, int]]) -> float:
    """Return the word error rate in percent."""
    return 100.0 * sum(errors for errors, _ in counts.values()) / max(1, sum(words for _, words in counts.values()))


def pool(counts: list[dict[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """Add the errors and words of each recording over several systems."""
    return {name: (sum(c[name][0] for c in counts), sum(c[name][1] for c in counts)) for name in counts[0]}


def to_markdown(report: dict[str, Any]) -> str:
    """Write the tables: mean and spread first, then each seed with its paired interval."""
    cells = report["cells"]
    columns = [f"{SPLIT_NAMES[split]}, {method}" for split in TEST_SPLITS for method in METHODS]
    systems = list(next(iter(cells.values()))["wer"])
    lines = [
        f"Word error rate in percent, mean and standard deviation over {len(report['chosen'])} seeds.",
        *describe_data(report),
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for system in systems:
        values = [f"{cell['mean'][system]:.2f} ± {cell['spread'][system]:.2f}" for cell in cells.values()]
        lines.append(f"| {TITLES[system]} | " + " | ".join(values) + " |")
    for system in fine_tuned(systems):
        changes = [interval(cell["pooled"][system]) for cell in cells.values()]
        lines.append(f"| {TITLES[system]} against CTC trained on, relative | " + " | ".join(changes) + " |")
    lines += ["", *seed_lines(report, columns), "", *development_lines(report["chosen"])]
    return "\n".join(lines) + "\n"


def seed_lines(report: dict[str, Any], columns: list[str]) -> list[str]:
    """Return each seed's rates, and the reductions with their intervals."""
    lines = [
        "Each seed: CTC converged / trained on, then each fine-tuning and its relative reduction of the second with",
        "its 95 % interval (paired bootstrap, drawing recordings).",
        "",
        "| seed | | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    cells = report["cells"].values()
    for index, seed in enumerate(report["chosen"]):
        rates = [f"{cell['wer']['converged'][index]:.2f} / {cell['wer'][BASELINE][index]:.2f}" for cell in cells]
        lines.append(f"| {seed} | CTC | " + " | ".join(rates) + " |")
        for system in fine_tuned(next(iter(cells))["wer"]):
            values = [
                f"{cell['wer'][system][index]:.2f}; "
                + interval(cell["against_continued"][system][seed]["by_recording"])
                for cell in cells
            ]
            lines.append(f"| {seed} | {TITLES[system]} | " + " | ".join(values) + " |")
    return lines


def describe_data(report: dict[str, Any]) -> list[str]:
    """Say in a sentence of two lines what was trained and tested on what."""
    data = report["data"]
    parameters = {run["num_parameters"] for runs in report["chosen"].values() for run in runs.values()}
    sizes = [f"{data[name]['words']:,} words of {data[name]['recordings']:,} recordings" for name in ("train", "dev")]
    tests = [f"{data[split]['words']:,} ({SPLIT_NAMES[split]})" for split in TEST_SPLITS]
    counts = ", ".join(f"{count:,}" for count in sorted(parameters))
    return [
        f"Models of {counts} parameters; trained on {sizes[0]}, chosen on",
        f"{sizes[1]}, tested on {' and '.join(tests)} words.",
    ]


def development_lines(chosen: dict[str, dict[str, Any]]) -> list[str]:
    """Return what the development set said: the converged model, and every fine-tuning at each learning rate."""
    first = next(iter(chosen.values()))
    grids = [(name, lr) for name, run in first.items() if "grid" in run for lr in run["grid"]]
    columns = [f"{TITLES[name]}, rate {lr}" for name, lr in grids]
    epochs = sorted({run["epochs"] for runs in chosen.values() for run in runs.values() if "grid" in run})
    length = f"{', '.join(map(str, epochs))} epochs, same steps"
    lines = [
        f"Development set, greedy: the best checkpoint of each training. The fine-tunings run for {length}.",
        "",
        "| seed | CTC, converged (steps) | " + " | ".join(columns) + " | steps of each |",
        "|---|---:|" + "---:|" * (len(columns) + 1),
    ]
    for seed, runs in chosen.items():
        values = [f"{runs[name]['grid'][lr]:.2f}" for name, lr in grids]
        converged = f"{runs['converged']['dev_wer']:.2f} ({runs['converged']['steps']:,})"
        lines.append(f"| {seed} | {converged} | {' | '.join(values)} | {runs['mwer']['steps']:,} |")
    return lines


def interval(paired: dict[str, float]) -> str:
    """Write a relative reduction with its interval; positive is fewer errors."""
    return f"{paired['relative']:.1f} % [{paired['relative_low']:.1f}, {paired['relative_high']:.1f}]"
