"""A call in a process of its own, with limits of time and memory: whatever it does, this process lives on."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from case import Outcome

MEMORY_BYTES = 8 << 30


def run_alone(call: Callable[[], tuple[Any, Any] | None], seconds: float) -> Outcome:
    """Call in a forked child and tell what became of it.

    A fork keeps what is imported and compiled, so that a case costs milliseconds; nothing it breaks comes back.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(call, writing, printed.fileno())
        os.close(writing)
        answer, in_time = _read(reading, seconds)
        os.close(reading)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    if not in_time:
        return Outcome("timeout", printed=text)
    if os.WIFSIGNALED(status):
        return Outcome(f"signal {os.WTERMSIG(status)}", printed=text)
    if not answer:
        return Outcome(f"exit {os.WEXITSTATUS(status)}", printed=text)
    return Outcome(**pickle.loads(answer), printed=text)  # noqa: S301 (our own child's)


def _child(call: Callable[[], tuple[Any, Any] | None], writing: int, printed: int) -> None:
    """Never returns: what a library does at its end is no part of the case."""
    resource.setrlimit(resource.RLIMIT_AS, (_limit(), _limit()))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.flush()
    os.dup2(printed, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    facts: dict[str, Any]
    try:
        result = call()
        facts = {"ended": "returned"}
        if result is not None:
            facts |= {"values": result[0], "gradients": result[1]}
    except BaseException as error:  # noqa: BLE001 (an exit is an outcome too)
        facts = {
            "ended": "raised",
            "error": type(error).__name__,
            "message": str(error),
            "is_answer": isinstance(error, (ValueError, OSError, MemoryError)),
        }
    sys.stdout.flush()
    with os.fdopen(writing, "wb") as sink:
        pickle.dump(facts, sink)
    os._exit(0)


def _limit() -> int:
    """What the fork has of its parent, and more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES


def _read(descriptor: int, seconds: float) -> tuple[bytes, bool]:
    """All that the child writes, and whether it came to its end in time."""
    chunks = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
    return b"".join(chunks), False
