"""How benchmarks measure: forms take turns in one process; medians of wall and processor time; JSON and a table."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch


def take_turns(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each form, wall and processor time; a first round warms up and is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in forms}
    processor: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            form()
            if turn:
                wall[name].append(time.perf_counter() - begin)
                processor[name].append(time.process_time() - begin_processor)
    return {
        name: {
            "wall_ms": 1e3 * statistics.median(wall[name]),
            "processor_ms": 1e3 * statistics.median(processor[name]),
        }
        for name in forms
    }


def machine(num_threads: int) -> dict[str, Any]:
    """What a result depends on."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "processor": model,
        "cpu_count": os.cpu_count(),
        "num_threads": num_threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def peak_bytes(form: Callable[[], object]) -> int:
    """The most memory that running ``form`` adds to the process, looked at every millisecond."""
    process, done = psutil.Process(), threading.Event()
    gc.collect()
    _give_back_freed_memory()
    before = process.memory_info().rss
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        form()
    finally:
        done.set()
        watcher.join()
    return max(peak, process.memory_info().rss) - before


def _give_back_freed_memory() -> None:
    """What was freed but not given back would be used again without being seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def in_process_of_its_own(arguments: list[str]) -> dict[str, Any]:
    """The last line of JSON that this script prints when run with other arguments: memory is not yet there to reuse."""
    done = subprocess.run([sys.executable, sys.argv[0], *arguments], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print one line of JSON, and write it to a file."""
    text = json.dumps(result)
    print(text)
    if output is not None:
        temporary = output.with_name(output.name + ".tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        temporary.replace(output)
