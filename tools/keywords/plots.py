"""Detection error trade-off curves as a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from detection import Events, det_curve, false_reject_rate

LINE_STYLES = ("-", "--", ":", "-.")
MOST_FALSE_ALARMS_PER_HOUR = 300.0


def write_det(events: dict[str, dict[str, list[Events]]], sets: dict[str, str], path: Path) -> None:
    """One panel per set, one curve per loss (the mean over seeds, seeds faint): both axes logarithmic.

    ``events`` are by set and by loss, one per seed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(sets), figsize=(5 * len(sets), 4), sharey=True, squeeze=False)
    for axis, (part, title) in zip(axes[0], sets.items(), strict=True):
        for (label, seeds), style in zip(events[part].items(), LINE_STYLES, strict=False):
            # Half a keyword stands for none missed, and there is no less than one false alarm: 0 has no place here.
            floor = 0.5 / max(1, len(seeds[0].hits))
            grid = np.geomspace(1 / seeds[0].hours, MOST_FALSE_ALARMS_PER_HOUR, 200)
            means = np.mean([[false_reject_rate(found, rate) for rate in grid] for found in seeds], axis=0)
            (line,) = axis.plot(grid, 100 * np.maximum(means, floor), style, label=label)
            for found in seeds if len(seeds) > 1 else ():
                rates, rejects = det_curve(found)
                shown = (rates > 0) & (rates <= MOST_FALSE_ALARMS_PER_HOUR)
                steps = 100 * np.maximum(rejects[shown], floor)
                axis.step(rates[shown], steps, where="post", color=line.get_color(), alpha=0.25, linewidth=0.7)
        axis.set(xscale="log", yscale="log", xlabel="false alarms per hour", title=title)
        axis.grid(which="both", alpha=0.3)
    axes[0, 0].set_ylabel("false rejects (%)")
    axes[0, -1].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
    os.replace(temporary, path)
