"""Detection error trade-off curves as a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from detection import Events, det_curve

LINE_STYLES = ("-", "--", ":", "-.")
MOST_FALSE_ALARMS_PER_HOUR = 300.0


def write_det(events: dict[str, dict[str, Events]], losses: dict[str, str], sets: dict[str, str], path: Path) -> None:
    """One panel per set, one curve per loss: false rejects over false alarms per hour, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(sets), figsize=(5 * len(sets), 4), sharey=True, squeeze=False)
    for axis, (part, title) in zip(axes[0], sets.items(), strict=True):
        for (name, label), style in zip(losses.items(), LINE_STYLES, strict=False):
            found = events[part][name]
            rates, rejects = det_curve(found)
            shown = (rates > 0) & (rates <= MOST_FALSE_ALARMS_PER_HOUR)
            # Half a keyword stands for none missed: 0 has no place on the axis.
            floor = 0.5 / max(1, len(found.hits))
            axis.step(rates[shown], 100 * np.maximum(rejects[shown], floor), style, where="post", label=label)
        axis.set(xscale="log", yscale="log", xlabel="false alarms per hour", title=title)
        axis.grid(which="both", alpha=0.3)
    axes[0, 0].set_ylabel("false rejects (%)")
    axes[0, -1].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)
    os.replace(temporary, path)
