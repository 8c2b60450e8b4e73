"""Kill a compiling command at random moments, and fill the disk under it: no partial file may have a final name.

    python tools/reliability/kills.py --kills 100

After each SIGKILL the output is missing or whole, and the next run succeeds and clears what was left. With a limit on
the size of files, as a full disk does it, the command says so in one line, exit status 1, and leaves nothing.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from wfst_losses.graphs.files import read_graph_file

NUM_LABELS = 700
FORMATS = (".pt", ".fst.txt")
COMMAND = [sys.executable, "-m", "wfst_losses.cli", "compile", "--topology", "correct"]


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def begin(output: Path, num_labels: int = NUM_LABELS, *, most_bytes: int | None = None) -> subprocess.Popen[str]:
    """Start the command; ``most_bytes`` is where files end, as on a full disk."""

    def limit() -> None:
        if most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [*COMMAND, "--num-labels", str(num_labels), "--output", str(output)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509 (no threads here)
    )


def seconds_alone(output: Path) -> float:
    """How long the command takes when nobody kills it."""
    start = time.monotonic()
    with begin(output) as process:
        process.wait()
    output.unlink()
    return time.monotonic() - start


def kill_once(output: Path, delay: float) -> bool:
    """Kill after a delay, tell whether it was still running, and check what is left."""
    with begin(output) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        was_running = process.wait() == -signal.SIGKILL
    if output.exists() and read_graph_file(output).graph.num_arcs != NUM_LABELS**2:
        raise SystemExit(f"{output} is no whole graph after a kill at {delay:.3f} s")
    output.unlink(missing_ok=True)
    with begin(output, 3) as process:
        status = process.wait()
    if status != 0 or read_graph_file(output).graph.num_arcs != 9:
        raise SystemExit(f"the run after a kill at {delay:.3f} s ended with status {status}")
    output.unlink()
    return was_running


def fill_disk(output: Path) -> None:
    """Files end at 100 kB: status 1, one line, nothing left."""
    with begin(output, most_bytes=100_000) as process:
        _, message = process.communicate()
    left = [path.name for path in output.parent.iterdir()]
    if process.returncode != 1 or message.count("\n") != 1 or output.name not in message or left:
        raise SystemExit(f"full disk: status {process.returncode}, {message!r}, left {left}")


def main() -> int:
    """Kill, fill, count."""
    args = get_parser().parse_args()
    rng = random.Random(args.seed)
    running = 0
    with tempfile.TemporaryDirectory() as folder:
        for ending in FORMATS:
            output = Path(folder) / f"graph{ending}"
            whole = seconds_alone(output)
            for _ in tqdm(range(args.kills // len(FORMATS)), desc=f"kills, {ending}"):
                running += kill_once(output, rng.uniform(0, whole))
            for path in Path(folder).iterdir():  # what a kill leaves under a temporary name
                path.unlink()
            fill_disk(output)
    print(f"{args.kills // len(FORMATS) * len(FORMATS)} kills, {running} of them before the end: no partial file")
    print("full disk: a clear error, nothing left")
    return 0 if running else 1


if __name__ == "__main__":
    raise SystemExit(main())
