"""Lines that tests, laws and other scripts show: run, and what passed is counted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fuzz
from figure import Measure

ROOT = Path(__file__).parents[2]
NUM_EXAMPLES = 500


def passing(*paths: str, chosen: str = "") -> Measure:
    """Exactly these tests, those whose names hold ``chosen`` (pytest's ``-k``): one passes or more, and none fails."""

    def measure() -> tuple[bool, str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
        done = subprocess.run(
            [*command, "-k", chosen] if chosen else command, cwd=ROOT, capture_output=True, text=True, check=False
        )
        last = done.stdout.strip().rsplit("\n", 1)[-1]
        counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)}
        figure = ", ".join(f"{number:,} {kind}" for kind, number in counts.items()) or last
        return done.returncode == 0 and counts.get("passed", 0) > 0, f"tests: {figure}"

    return measure


def laws(*names: str) -> Measure:
    """Laws of `laws.py`, 500 random examples each."""

    def measure() -> tuple[bool, str]:
        found = ", ".join(f"{name}: {NUM_EXAMPLES} random batches" for name in names)
        try:
            for name in names:
                fuzz.check(name, seed=0, num_examples=NUM_EXAMPLES)
        except Exception as error:  # noqa: BLE001 (whatever broke it)
            return False, f"{found}; broken: {error!r:.200}"
        return True, found

    return measure


def script(name: str, *arguments: str) -> Measure:
    """Another script of this folder: what it says last."""

    def measure() -> tuple[bool, str]:
        command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode == 0, "; ".join(done.stdout.strip().split("\n")[-2:])

    return measure
