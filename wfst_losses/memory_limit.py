"""The refusal of work that would not fit into memory."""

from __future__ import annotations

import functools
import os


def check_max_memory(max_memory: object) -> int:
    """A number of bytes; what the machine has where it is None.

    Raises:
        ValueError: if it is neither, or below 1.
    """
    if max_memory is None:
        return machine_bytes()
    if isinstance(max_memory, bool) or not isinstance(max_memory, int) or max_memory < 1:
        raise ValueError(f"max_memory is {max_memory!r:.80}, expected a number of bytes, 1 or more, or None")
    return max_memory


@functools.cache
def machine_bytes() -> int:
    """The machine's memory; no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2**63 - 1


class MemoryLimitError(MemoryError):
    """Raised before anything is allocated, with what the work would need.

    Attributes:
        what: the work.
        predicted_bytes: what it would take.
        limit_bytes: what it may take.
    """

    def __init__(self, what: str, predicted_bytes: int, limit_bytes: int) -> None:
        super().__init__(what, predicted_bytes, limit_bytes)
        self.what = what
        self.predicted_bytes = predicted_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return (
            f"{self.what} would take {self.predicted_bytes:,} bytes ({self.predicted_bytes / 2**30:,.1f} GiB) of "
            f"memory, the limit is {self.limit_bytes:,} bytes ({self.limit_bytes / 2**30:,.1f} GiB, max_memory)"
        )
