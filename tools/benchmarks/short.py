"""Fail where a speed has fallen below half of what it must be: CTC beside torch, and arc-frames of a denominator.

    python tools/benchmarks/short.py [--attempts 3]

A minute, no k2. Ratios are of processor times on one thread, and other work on the machine disturbs them still:
run it alone. It is tried again before it fails.
"""

from __future__ import annotations

import argparse
import sys

import torch
from ctc import SHAPES
from ctc import measure as measure_ctc
from mmi import NATIVE, native_form, random_log_probs, random_ngram
from timing import take_turns

import topologies
from wfst_losses.graphs.denominator import denominator

CTC_RATIOS = (8.0, 8.0, 5.0)
"""Targets, for each of `SHAPES`."""
ARC_FRAMES_PER_SECOND = 2e9
ROUNDS = 5


def shortfalls() -> list[str]:
    """What is below half its target, in words."""
    found = []
    for shape, target in zip(SHAPES, CTC_RATIOS, strict=True):
        ratio = measure_ctc(shape, "correct", ROUNDS)["ratio"]
        print(f"CTC {shape}: {ratio:.2f} times torch, target {target:g}")
        if ratio < target / 2:
            found.append(f"CTC {shape} is {ratio:.2f} times as fast as torch, expected at least {target / 2:g}")
    graph = denominator(topologies.build("correct", 300), random_ngram(1517, 25_000, 300))
    time = take_turns({NATIVE: native_form(graph, random_log_probs(8, 100, 300))}, ROUNDS)[NATIVE]["processor_ms"]
    rate = 2e3 * graph.num_arcs * 8 * 100 / time
    print(f"denominator: {rate:.2e} arc-frames/s, target {ARC_FRAMES_PER_SECOND:.0e}")
    if rate < ARC_FRAMES_PER_SECOND / 2:
        found.append(f"a denominator runs {rate:.2e} arc-frames/s, expected at least {ARC_FRAMES_PER_SECOND / 2:.0e}")
    return found


def main() -> None:
    """Try until nothing falls short, at most as often as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=3)
    attempts = parser.parse_args().attempts
    torch.set_num_threads(1)
    for attempt in range(attempts):
        found = shortfalls()
        if not found:
            return
        print(f"attempt {attempt + 1} of {attempts}: " + "; ".join(found))
    sys.exit("too slow")


if __name__ == "__main__":
    main()
