"""The refusal of work that would not fit into memory."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterable

from wfst_losses.memory_formulas import Work, peak_bytes, standing_bytes

_NO_LIMIT = 2**63 - 1


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
        return _NO_LIMIT


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


class MemoryBudget:
    """What one call may take, and what those of its parts that have begun have taken.

    Attributes:
        limit_bytes: the most.
        is_given: whether the caller set it: what takes time to tell, or is a loose bound, is held against such a limit
            only.
        parts: of the call, in order.
    """

    def __init__(self, limit_bytes: int = _NO_LIMIT, *, is_given: bool = False) -> None:
        self.limit_bytes, self.is_given = limit_bytes, is_given
        self.parts: list[Work] = []

    @classmethod
    def of(cls, max_memory: object) -> MemoryBudget:
        """That of a call's argument.

        Raises:
            ValueError: as `check_max_memory`.
        """
        return cls(check_max_memory(max_memory), is_given=max_memory is not None)

    def check(self, what: str, parts: Iterable[Work]) -> None:
        """Refuse parts that, with what earlier ones keep, would take the call above the limit at any moment.

        Raises:
            MemoryLimitError: with the peak of the whole call as far as it is known.
        """
        predicted = peak_bytes([*self.parts, *parts])
        if predicted > self.limit_bytes:
            beside = ", with what the call keeps beside them," if self.parts else ""
            raise MemoryLimitError(what + beside, predicted, self.limit_bytes)

    def take(self, what: str, part: Work) -> None:
        """Begin a part.

        Raises:
            MemoryLimitError: as `check`.
        """
        self.check(what, [part])
        self.parts.append(part)

    def share(self, what: str, begun: Work, num_threads: int) -> Share:
        """What each of several threads may take for work that grows as it goes, beside what it begins with.

        Raises:
            MemoryLimitError: if that is too much already.
        """
        self.check(what, [begun])
        return Share(self, what, begun, max(1, num_threads))


class Share:
    """One thread's part of a `MemoryBudget`, for work whose size shows only while it is done.

    Attributes:
        what, begun: the work, and what it begins with.
        kept_bytes: what threads have done and keep.
    """

    def __init__(self, budget: MemoryBudget, what: str, begun: Work, num_threads: int) -> None:
        self.what, self.begun, self.kept_bytes = what, begun, 0
        self._budget, self._num_threads, self._lock = budget, num_threads, threading.Lock()

    @property
    def most_bytes(self) -> int:
        """That each thread may take now."""
        standing = standing_bytes([*self._budget.parts, self.taken()]) + self.begun.room
        return max(0, self._budget.limit_bytes - standing) // self._num_threads

    def check(self, wanted_bytes: int) -> None:
        """Refuse to grow to so many bytes; at worst the other threads' work is as large.

        Raises:
            MemoryLimitError: with the peak that this would bring.
        """
        if wanted_bytes:
            room = self.begun.room + self._num_threads * wanted_bytes
            self._budget.check(self.what, [self.taken()._replace(room=room)])

    def keep(self, num_bytes: int) -> None:
        """So much stays until the gradient has been computed."""
        with self._lock:
            self.kept_bytes += num_bytes

    def taken(self) -> Work:
        """What the work has come to so far."""
        return self.begun._replace(kept=self.begun.kept + self.kept_bytes)
