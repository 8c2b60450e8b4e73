"""What a call does inside torch: how many operators it runs, and how much memory it takes at its height."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def num_operators(call: Callable[[], object]) -> int:
    """Operators dispatched on the CPU."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        call()
    return sum(event.count for event in trace.key_averages() if event.key.startswith("aten::"))


def peak_bytes(call: Callable[[], object], folder: Path) -> int:
    """Height of torch's CPU allocations above where they stood before the call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    trace.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    assert memory
    height = highest = 0
    for event in memory:
        height += event["args"]["Bytes"]
        highest = max(highest, height)
    return highest
