"""The experiment's training curves: development word error rates, by system, every seed and their mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from results import read_json
from systems import TITLES


def plot_curves(chosen: dict[int, dict[str, Any]], path: Path) -> None:
    """Draw converged CTC, then what was trained on from there; thin lines are seeds, the thick one is their mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "curves"
    import matplotlib.pyplot as plt

    figure, (before, after) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", width_ratios=(2, 3))
    systems = list(next(iter(chosen.values())))
    for place, system in enumerate(systems):
        axis, colour = (before, "black") if system == "converged" else (after, f"C{place - 1}")
        seeds = []
        for runs in chosen.values():
            curve = read_json(Path(runs[system]["exp_dir"]) / "curves.json")
            seeds.append([(entry["epoch"], entry["dev_wer"]) for entry in curve])
            axis.plot(*zip(*seeds[-1], strict=True), color=colour, alpha=0.2, linewidth=0.8)
        shared = min(map(len, seeds))
        means = [sum(seed[index][1] for seed in seeds) / len(seeds) for index in range(shared)]
        axis.plot([epoch for epoch, _ in seeds[0][:shared]], means, color=colour, label=TITLES[system])
    before.set(title="CTC, until it is flat", xlabel="epoch", ylabel="development word error rate (%)", yscale="log")
    after.set(title="trained on, at the rate that was chosen", xlabel="epoch")
    after.legend(fontsize=8)
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary, metadata={"Date": None})
    plt.close(figure)
    os.replace(temporary, path)
