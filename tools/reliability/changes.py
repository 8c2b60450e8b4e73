"""How a good value is spoilt, and how a refusal is described: what the tables of defects are written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from case import Refused

Change = Callable[[Any], Any]


def to(value: Any) -> Change:
    """Another value altogether."""
    return lambda _: value


def put(index: Any, value: Any) -> Change:
    """One element replaced."""

    def change(good: Any) -> Any:
        if isinstance(good, list):
            spoilt = [list(row) if isinstance(row, list) else row for row in good]
            if isinstance(index, tuple):
                spoilt[index[0]][index[1]] = value
            else:
                spoilt[index] = value
            return spoilt
        spoilt = good.clone()
        spoilt[index] = value
        return spoilt

    return change


def refused(*mentions: object, under: tuple[str, ...] = ()) -> Refused:
    """An exception with one of these in its message."""
    return Refused(tuple(map(str, mentions)), under)
