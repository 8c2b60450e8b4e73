"""Line 23: the command line as a process with an exit status and two streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "wfst_losses.cli"]
_LARGE = ("compile", "--topology", "correct", "--num-labels", "1500", "--output")
_MOST_SECONDS = 2.0
STATUSES: dict[str, tuple[int, tuple[str, ...]]] = {
    "done": (0, ("inspect", "--topology", "compact", "--num-labels", "50", "--json")),
    "a failed job": (1, (*_LARGE[:-2], "3", "--output", "/proc/graph.txt")),
    "a bad call": (2, ("inspect", "--topology", "other", "--num-labels", "50")),
    "too large": (3, (*_LARGE[:-2], "50000", "--output", "{folder}/graph.pt")),
}


def command_line() -> tuple[bool, str]:
    """Exit statuses, stdout that holds the answer alone, one line of error, an interrupt, a closed pipe."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (status, arguments) in STATUSES.items():
            command = [*COMMAND, *(argument.replace("{folder}", folder) for argument in arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            is_quiet = done.stderr == "" if status == 0 else (done.stdout, done.stderr.count("\n")) == ("", 1)
            if done.returncode != status or not is_quiet or (status == 0 and not json.loads(done.stdout)):
                wrong.append(f"{name}: status {done.returncode}, {done.stderr[-200:]!r}")
        waits = [_seconds_to_interrupt(Path(folder)) for _ in range(5)]
    # A reader that leaves early, as head does.
    shell = f"set -o pipefail; {' '.join(COMMAND)} list | true"
    piped = subprocess.run(["/bin/bash", "-c", shell], capture_output=True, text=True, check=False)
    if piped.returncode not in (0, 1) or piped.stderr:
        wrong.append(f"a closed pipe: status {piped.returncode}, {piped.stderr[-200:]!r}")
    held = not wrong and all(wait is not None and wait <= _MOST_SECONDS for wait in waits)
    statuses = ", ".join(str(status) for status, _ in STATUSES.values())
    slowest = max((wait for wait in waits if wait is not None), default=float("nan"))
    figure = f"exit statuses {statuses}; 130 at most {slowest:.2f} s after an interrupt; a closed pipe says nothing"
    return held, "; ".join([figure, *wrong])


def _seconds_to_interrupt(folder: Path) -> float | None:
    """From Ctrl-C while a graph is built and written to the end; None if the end was another one."""
    command = [*COMMAND, *_LARGE, str(folder / "graph.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(path.name.startswith(".graph") for path in folder.iterdir()):
            time.sleep(0.001)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
        spent = time.monotonic() - begin
        nothing_left = not any(folder.iterdir())
        is_clean = (process.returncode, *said) == (130, "", "wfst-losses: interrupted\n") and nothing_left
    return spent if is_clean else None
