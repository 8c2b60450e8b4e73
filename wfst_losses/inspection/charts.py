"""Bar charts as SVG that takes its colours from the page around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from html import escape

_BAR, _GAP, _GROUP_GAP = 16, 3, 16
_LEFT, _WIDTH, _RIGHT = 210, 420, 110


@dataclasses.dataclass(frozen=True)
class Bars:
    """A group of bars: one for each series, ``None`` where there is no figure."""

    name: str
    values: Sequence[float | None]


def bar_chart(groups: Sequence[Bars], series: Sequence[str], shown: Callable[[float], str], title: str) -> str:
    """Horizontal bars on one linear axis from 0, each with its figure, and a legend of the series."""
    most = max((value for group in groups for value in group.values if value is not None), default=1.0) or 1.0
    lines = []
    y = 34.0
    for index, name in enumerate(series):
        x = _LEFT + index * 150
        lines.append(f'<rect class="series{index}" x="{x}" y="6" width="12" height="12" rx="2"/>')
        lines.append(f'<text x="{x + 18}" y="12" class="legend">{escape(name)}</text>')
    for group in groups:
        height = len(group.values) * (_BAR + _GAP) - _GAP
        lines.append(f'<text x="{_LEFT - 10}" y="{y + height / 2:.1f}" class="name">{escape(group.name)}</text>')
        for index, value in enumerate(group.values):
            top = y + index * (_BAR + _GAP)
            width = 0.0 if value is None else max(1.0, _WIDTH * value / most)
            figure = "—" if value is None else shown(value)
            if value is not None:
                place = f'x="{_LEFT}" y="{top:.1f}" width="{width:.1f}" height="{_BAR}"'
                lines.append(f'<rect class="series{index}" {place} rx="2"/>')
            place = f'x="{_LEFT + width + 6:.1f}" y="{top + _BAR / 2:.1f}"'
            lines.append(f'<text {place} class="figure">{escape(figure)}</text>')
        y += height + _GROUP_GAP
    width = _LEFT + _WIDTH + _RIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width} {y:.0f}" role="img" '
        f'aria-label="{escape(title)}">'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", *lines, "</svg>"])
