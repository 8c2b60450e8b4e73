"""Lines 1 to 5: what became of the bad calls, as `scorecard.py` counts them."""

from __future__ import annotations

import collections
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_NUM_LOSS_CASES, _NUM_OTHER_CASES = 250, 100
_MIN_CLEAR, _MAX_MESSAGE = 0.95, 2000


@functools.cache
def _records(*options: str) -> list[dict[str, Any]]:
    """Every case with its outcome; Python is given ``options``."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "outcomes.json"
        command = [sys.executable, *options, str(Path(__file__).with_name("scorecard.py")), "--output", str(output)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        found: list[dict[str, Any]] = json.loads(output.read_text(encoding="utf-8"))["wfst-losses"]
        return found


def _outcomes(*options: str) -> collections.Counter[str]:
    return collections.Counter(record["outcome"] for record in _records(*options))


def cases() -> tuple[bool, str]:
    """How many, unique by entry, argument and defect, each in a process of its own."""
    found = {(record["entry"], record["argument"], record["defect"]) for record in _records()}
    losses = sum("loss" in entry.lower() for entry, _, _ in found)
    others = len(found) - losses
    held = losses >= _NUM_LOSS_CASES and others >= _NUM_OTHER_CASES and len(found) == len(_records())
    return held, f"{losses:,} at the losses, {others:,} elsewhere"


def deaths() -> tuple[bool, str]:
    """None."""
    found = _outcomes()
    return not (found["death"] or found["hang"]), f"{found['death']} deaths, {found['hang']} hangs"


def silent() -> tuple[bool, str]:
    """None."""
    return not _outcomes()["silent"], f"{_outcomes()['silent']}"


def messages() -> tuple[bool, str]:
    """Where a refusal is due: argument, place or value, not too long, nothing on stdout."""
    due = [record for record in _records() if record["due"] == "refusal"]
    clear = sum(record["outcome"] == "clear" for record in due)
    longest = max(len(record["message"]) for record in due)
    held = clear >= _MIN_CLEAR * len(due) and longest < _MAX_MESSAGE
    return held, f"{clear:,} of {len(due):,}, the longest of {longest} characters"


def without_assertions() -> tuple[bool, str]:
    """The same under ``python -O``."""
    found = _outcomes("-O")
    held = not (found["death"] or found["hang"] or found["silent"])
    due = [record for record in _records("-O") if record["due"] == "refusal"]
    clear = sum(record["outcome"] == "clear" for record in due)
    counted = ", ".join(f"{number:,} {name}" for name, number in sorted(found.items()))
    return held and clear >= _MIN_CLEAR * len(due), counted
