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
        del frame
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
        _say("interrupted")
        os._exit(_INTERRUPTED)
    # All is said and done; an interrupt of Python's own end would deny it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _say(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    try:
        sys.stderr.write(f"wfst-losses: {' '.join(message.split())}\n")
        sys.stderr.flush()
    except OSError:
        pass


__all__ = ["main"]
