"""The most memory that a step of training takes, measured in a process of its own.

The process loads everything, runs one small step, composes the graph of a denominator, and gives back what it can; then
its peak is set to what it holds, and the step is run. Its allocator returns what is freed at once
(``MALLOC_MMAP_THRESHOLD_``), so that the resident set is what is in use; glibc's default may hold on to more. On CUDA
it is `torch.cuda.max_memory_allocated`.

python -m wfst_losses.inspection.measured_memory STEP.json
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from wfst_losses.inspection.steps import Step, language_model

_PAGE = 4096


class MeasurementError(RuntimeError):
    """The step did not run to its end."""


def measured_step_bytes(step: Step, *, device: str = "cpu", timeout_seconds: float | None = None) -> int:
    """The peak of a loss and its gradient above the process before it, graphs kept between steps included.

    Raises:
        MeasurementError: if the step failed, with the last line it wrote.
        ValueError: where the system does not tell a process's peak (other than Linux) and ``device`` is the CPU.
    """
    if device == "cpu" and not Path("/proc/self/clear_refs").exists():
        raise ValueError("this system does not tell the peak of a process: memory is measured on Linux only")
    with tempfile.TemporaryDirectory(prefix="wfst-losses-") as folder:
        path = Path(folder) / "step.json"
        path.write_text(json.dumps({"device": device, "step": dataclasses.asdict(step)}, default=str))
        root = str(Path(__file__).resolve().parents[2])
        settings = {
            "MALLOC_MMAP_THRESHOLD_": str(_PAGE),
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        }
        done = subprocess.run(  # noqa: S603 (this interpreter, this module)
            [sys.executable, "-m", "wfst_losses.inspection.measured_memory", str(path)],
            capture_output=True, text=True, check=False, env={**os.environ, **settings}, timeout=timeout_seconds,
        )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise MeasurementError(f"measuring {step.loss} on {step.backend} failed: {last}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def main() -> None:
    """Measure the step in the file that is named, and print its peak as JSON."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    paths = {name: None if asked["step"][name] is None else Path(asked["step"][name]) for name in _PATHS}
    step = Step(**{**asked["step"], **paths})
    peak = _peak_bytes(step, asked["device"])
    sys.stdout.write("\n" + json.dumps({"peak_bytes": peak}) + "\n")


_PATHS = ("language_model", "tokens")


def _peak_bytes(step: Step, device: str) -> int:
    import torch

    torch.set_num_threads(step.num_threads)
    small = dataclasses.replace(
        step, num_labels=4, num_frames=8, num_utterances=2, num_tokens=2, num_successors=2, language_model=None
    )
    model = language_model(small) if step.has_denominator else None
    _run(small, model, *_inputs(small, device))
    model = None
    base = resident_bytes(device)
    if step.has_denominator:
        model = language_model(step)
        short = dataclasses.replace(step, num_frames=2, num_utterances=1, num_tokens=0)
        _run(short, model, *_inputs(short, device))
    inputs = _inputs(step, device)
    resident_bytes(device)
    forget_peak(device)
    _run(step, model, *inputs)
    return highest_bytes(device) - base


def _inputs(step: Step, device: str) -> tuple[Any, list[list[int]]]:
    """Made utterance by utterance, in place: making them must not take more than they do."""
    import torch

    draw = torch.Generator().manual_seed(0)
    log_probs = torch.empty(step.num_utterances, step.num_frames, step.num_labels)
    for index in range(step.num_utterances):
        log_probs[index].normal_(generator=draw)
        log_probs[index] -= torch.logsumexp(log_probs[index], dim=1, keepdim=True)
    targets = torch.randint(1, step.num_labels, (step.num_utterances, step.num_tokens), generator=draw).tolist()
    return log_probs.to(device).requires_grad_(), targets


def _run(step: Step, model: Any, log_probs: Any, targets: list[list[int]]) -> None:
    from wfst_losses.losses.ctc import ctc_loss
    from wfst_losses.losses.mmi import mmi_loss

    lengths = [step.num_frames] * step.num_utterances
    if step.has_denominator:
        losses = mmi_loss(
            log_probs, targets, lengths,
            language_model=model, topology=step.topology, backend=step.backend, memory=step.memory,
        )  # fmt: skip
    else:
        losses = ctc_loss(log_probs, targets, lengths, topology=step.topology, backend=step.backend)
    losses.sum().backward()  # type: ignore[no-untyped-call]


def resident_bytes(device: str = "cpu") -> int:
    """What the process holds once all that is free is given back."""
    gc.collect()
    if device != "cpu":
        import torch

        return int(torch.cuda.memory_allocated())
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return _status("VmRSS")


def forget_peak(device: str = "cpu") -> None:
    """Set the peak to what is in use now."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return
    import torch

    torch.cuda.reset_peak_memory_stats()


def highest_bytes(device: str = "cpu") -> int:
    """The peak since it was forgotten."""
    if device == "cpu":
        return _status("VmHWM")
    import torch

    return int(torch.cuda.max_memory_allocated())


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise MeasurementError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
