"""Predicted peak memory beside measured, on a grid that the formulas were written with and on one they were not.

python tools/benchmarks/memory.py --backends native reference --output docs/results/memory_free.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from topologies import TOPOLOGIES
from wfst_losses.inspection.measured_memory import measured_step_bytes
from wfst_losses.inspection.memory import predicted_step_memory
from wfst_losses.inspection.steps import Step

# V, T, B, tokens of a target, successors (None: CTC).
CALIBRATION = {
    "native": [(500, 1000, 16, 60, None), (50, 2000, 16, 300, None), (500, 1000, 16, 60, 50)],
    "reference": [(50, 100, 32, 100, None), (1000, 100, 32, 10, None), (300, 50, 8, 20, 20)],
    "k2": [(500, 200, 8, 30, None), (30, 300, 16, 60, None), (50, 100, 4, 20, 20)],
}
CHECK = {
    "native": [(120, 1500, 24, 180, None), (2000, 300, 12, 25, None), (250, 600, 20, 70, 100), (80, 4000, 3, 200, 8)],
    "reference": [(200, 150, 20, 60, None), (120, 80, 12, 30, 40)],
    "k2": [(200, 250, 12, 50, None), (80, 80, 6, 25, 12)],
}
WITHIN = 0.25


def measure(grid: str, backend: str, topology: str, point: tuple[int, int, int, int, int | None]) -> dict[str, Any]:
    """One point of a grid."""
    num_labels, num_frames, num_utterances, num_tokens, num_successors = point
    loss = "ctc" if num_successors is None else "mmi"
    step = Step(loss, topology, num_labels, num_frames, num_utterances, num_tokens, backend, num_successors)
    predicted, measured = predicted_step_memory(step), measured_step_bytes(step)
    found = {name: value for name, value in dataclasses.asdict(step).items() if value is not None}
    ratio = predicted.peak_bytes / measured
    holds = ratio >= 1 if predicted.is_upper_bound else abs(ratio - 1) <= WITHIN
    return {
        "grid": grid,
        **found,
        "predicted_bytes": predicted.peak_bytes,
        "measured_bytes": measured,
        "is_upper_bound": predicted.is_upper_bound,
        "ratio": round(ratio, 3),
        "holds": holds,
    }


def main() -> None:
    """Measure both grids and write the points."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["native", "reference"], choices=list(CHECK))
    parser.add_argument("--grids", nargs="+", default=["calibration", "check"], choices=["calibration", "check"])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    grids = {"calibration": CALIBRATION, "check": CHECK}
    points = []
    for grid in arguments.grids:
        for backend in arguments.backends:
            for point in grids[grid][backend]:
                for topology in TOPOLOGIES:
                    points.append(measure(grid, backend, topology, point))
                    print(
                        *(f"{points[-1][name]}" for name in ("grid", "backend", "loss", "topology", "ratio")),
                        flush=True,
                    )
                    arguments.output.write_text(json.dumps(points, indent=1) + "\n")
    print(f"{sum(point['holds'] for point in points)} of {len(points)} hold")


if __name__ == "__main__":
    main()
