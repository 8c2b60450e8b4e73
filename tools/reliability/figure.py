"""What measures a line of the scorecard: whether it holds, and the figure in words."""

from __future__ import annotations

from collections.abc import Callable

Measure = Callable[[], tuple[bool, str]]


def joined(*measures: Measure) -> Measure:
    """One after the other: all have to hold."""

    def measure() -> tuple[bool, str]:
        found = [each() for each in measures]
        return all(held for held, _ in found), "; ".join(figure for _, figure in found)

    return measure
