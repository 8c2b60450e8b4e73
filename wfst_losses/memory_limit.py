"""The refusal of work that would not fit into memory."""

from __future__ import annotations


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
            f"memory, the limit is {self.limit_bytes:,} bytes ({self.limit_bytes / 2**30:,.1f} GiB)"
        )
