"""The words of a cut with their times: from lhotse's alignments, or from custom fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from wfst_losses.validation import LARGEST, check_instance, shown

ORIGINS = ("recording", "cut", "supervision")
"""What times may count from: lhotse's own alignments count from the recording's start."""


class Word(NamedTuple):
    """A word; its times are seconds from the cut's start."""

    symbol: str
    start: float
    end: float


def words_of_cut(
    cut: Any, keywords: Iterable[tuple[str, ...]], alignment: str, custom_field: str | None, origin: str
) -> list[list[Word]]:
    """Words in the order of their ends, by supervision.

    Raises:
        ValueError: naming the cut and the field, also where a text holds a keyword and nothing tells its times.
    """
    source = f"alignment {alignment!r}" if custom_field is None else f"custom field {custom_field!r}"
    found = []
    for supervision, part, offset in _supervised(cut):
        kind, key = ("alignment", alignment) if custom_field is None else ("custom", custom_field)
        tables = getattr(supervision, kind, None) or {}
        check_instance(f"cut {cut.id}: {kind} of a supervision", tables, Mapping, "a mapping from names, or None")
        items = tables.get(key)
        if items is None:
            _refuse_unaligned(cut, supervision, keywords, source)
            continue
        rows = _rows(f"cut {cut.id}: {source}", items)
        added = _added(cut, supervision, part, offset, origin)
        words = [_word(f"cut {cut.id}: {source}, [{index}]", item, added) for index, item in enumerate(rows)]
        found.append(sorted(words, key=lambda word: word.end))
    return found


def is_mixed(cut: Any) -> bool:
    """A cut of several, each at its offset."""
    return hasattr(cut, "tracks")


def check_seconds(name: str, value: Any, *, low: float = -LARGEST) -> float:
    """A finite number; differences of times may be as near to 0 as they like."""
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not low <= value <= LARGEST:
        raise ValueError(f"{name} is {shown(value)}, expected seconds, {low:g} to {LARGEST:g}")
    return float(value)


def _supervised(cut: Any) -> Iterator[tuple[Any, Any, float]]:
    """Supervisions, the cut each belongs to, and where in the whole that cut begins."""
    if not is_mixed(cut):
        for supervision in _rows(f"cut {cut.id}: supervisions", cut.supervisions):
            yield supervision, cut, 0.0
        return
    for index, track in enumerate(_rows(f"cut {cut.id}: tracks", cut.tracks)):
        offset = check_seconds(f"cut {cut.id}: offset of tracks[{index}]", track.offset)
        for supervision in _rows(f"cut {cut.id}: supervisions of tracks[{index}]", track.cut.supervisions):
            yield supervision, track.cut, offset


def _rows(name: str, values: Any) -> Iterable[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} is {shown(values)}, expected a list")
    return values


def _refuse_unaligned(cut: Any, supervision: Any, keywords: Iterable[tuple[str, ...]], source: str) -> None:
    text = (getattr(supervision, "text", None) or "").split()
    for words in keywords:
        if any(tuple(text[i : i + len(words)]) == words for i in range(len(text))):
            raise ValueError(f"cut {cut.id} has the keyword {' '.join(words)!r} in its text but no {source}")


def _added(cut: Any, supervision: Any, part: Any, offset: float, origin: str) -> float:
    """What makes of times that count from ``origin`` those that count from the cut's start."""
    if origin == "cut":
        return 0.0
    if origin == "recording":
        return offset - check_seconds(f"cut {cut.id}: start", getattr(part, "start", 0.0))
    return offset + check_seconds(f"cut {cut.id}: start of a supervision", supervision.start)


def _word(where: str, item: Any, added: float) -> Word:
    is_mapping = isinstance(item, Mapping)
    try:
        if is_mapping:
            symbol, start, last = item["symbol"], item.get("start", item["end"]), item["end"]
        elif hasattr(item, "symbol"):
            symbol, start, last = item.symbol, item.start, item.duration
        else:
            symbol, start, last = item[0], item[1], item[2]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} is {shown(item)}, expected (symbol, start, duration) or a mapping with symbol and end"
        ) from error
    check_instance(f"{where}: symbol", symbol, str, "a word")
    begin = check_seconds(f"{where}: start", start)
    if is_mapping:
        end = check_seconds(f"{where}: end", last, low=begin)
    else:
        end = begin + check_seconds(f"{where}: duration", last, low=0.0)
    return Word(symbol, begin + added, end + added)
