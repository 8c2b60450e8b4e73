"""The command line: ``wfst-losses list | doctor | inspect | compile | check-manifest``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit status."""
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            # Libraries that are being loaded know no interrupt: an exception out of their C++ would abort.
            _end_interrupted()
        interrupts.append(number)
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, interrupt)
        # An interrupt during this import is answered in one line too.
        from wfst_losses.cli.commands import run

        status, message = run(arguments)
        if message and not interrupts:
            _say(message)
    except KeyboardInterrupt:
        interrupts.append(signal.SIGINT)
    if interrupts:
        # torch may have made another error of the interrupt. Python, told of one inside `exec`, would end by the
        # signal whatever the status is.
        _end_interrupted()
    # All is said and done; an interrupt of Python's own end would deny it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _end_interrupted() -> NoReturn:
    atomic = sys.modules.get("topologies.atomic")
    if atomic is not None:
        atomic.discard_unfinished()
    _say("interrupted")
    os._exit(_INTERRUPTED)


def _say(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    try:
        sys.stderr.write(f"wfst-losses: {' '.join(message.split())}\n")
        sys.stderr.flush()
    except OSError:
        pass


__all__ = ["main"]
