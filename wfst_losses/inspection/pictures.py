"""Drawings of graphs as SVG, which needs nothing, and as PNG, which needs matplotlib."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from topologies.atomic import replacing
from wfst_losses.inspection.drawing import RADIUS, Drawing, DrawnArcs, Point

PICTURE_STYLE = """
.graph text { font: 13px system-ui, sans-serif; text-anchor: middle; dominant-baseline: central; fill: #1d2733; }
.graph .arc { fill: none; stroke: #2a5d84; stroke-width: 1.4; }
.graph .virtual { stroke-dasharray: 5 4; }
.graph .head { fill: #2a5d84; }
.graph .label { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; font-size: 12px; }
.graph circle { fill: #ffffff; stroke: #1d2733; stroke-width: 1.4; }
.graph .start { fill: #fde9c4; }
.graph .final { fill: none; }
@media (prefers-color-scheme: dark) {
.graph text { fill: #e6ebf0; }
.graph .arc { stroke: #7fb8e6; }
.graph .head { fill: #7fb8e6; }
.graph .label { stroke: #14181d; }
.graph circle { fill: #14181d; stroke: #e6ebf0; }
.graph .start { fill: #5a4618; }
.graph .final { fill: none; }
}
"""
"""Light and dark, as the reader's system has it; a page with several pictures needs it once."""


def to_svg(drawing: Drawing, title: str, *, is_alone: bool = True) -> str:
    """The picture as SVG, with its style and background where it stands alone."""
    (left, top), (right, bottom) = drawing.low, drawing.high
    width, height = right - left, bottom - top
    box = f"{left:.1f} {top:.1f} {width:.1f} {height:.1f}"
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="{box}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-label="{escape(title)}">'
        ),
        f"<title>{escape(title)}</title>",
    ]
    if is_alone:
        background = ".graph .page { fill: #ffffff } @media (prefers-color-scheme: dark) "
        lines.append(f"<style>{PICTURE_STYLE}{background}{{ .graph .page {{ fill: #14181d }} }}</style>")
        lines.append(f'<rect class="page" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
    for arcs in drawing.arcs:
        begin, first, second, end = (f"{x:.1f} {y:.1f}" for x, y in arcs.curve)
        kind = "arc virtual" if arcs.is_virtual else "arc"
        lines.append(f'<path class="{kind}" d="M{begin} C{first} {second} {end}"/>')
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in _head(arcs))
        lines.append(f'<polygon class="head" points="{corners}"/>')
    for state in drawing.states:
        centre = f'cx="{state.centre[0]:.1f}" cy="{state.centre[1]:.1f}"'
        lines.append(f'<circle {centre} r="{RADIUS}"' + (' class="start"/>' if state.is_start else "/>"))
        if state.is_final:
            lines.append(f'<circle class="final" {centre} r="{RADIUS - 4}"/>')
        lines.append(_text(state.centre, state.name, ""))
    lines += [_text(arcs.text_at, arcs.text, ' class="label"') for arcs in drawing.arcs]
    return "\n".join([*lines, "</svg>", ""])


def write_png(drawing: Drawing, title: str, path: Path) -> None:
    """The picture as PNG, whole or not at all.

    Raises:
        ModuleNotFoundError: without matplotlib, saying so.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Circle, PathPatch, Polygon
        from matplotlib.path import Path as Curve
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "PNG needs matplotlib: pip install matplotlib, or draw SVG, which needs none"
        ) from error

    (left, top), (right, bottom) = drawing.low, drawing.high
    figure = Figure(figsize=((right - left) / 96, (bottom - top) / 96))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.axis("off")
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    for arcs in drawing.arcs:
        style = "--" if arcs.is_virtual else "-"
        axes.add_patch(PathPatch(Curve(list(arcs.curve), codes), fill=False, color="#2a5d84", lw=1, ls=style))
        axes.add_patch(Polygon(list(_head(arcs)), color="#2a5d84", lw=0))
    for state in drawing.states:
        colour = "#fde9c4" if state.is_start else "white"
        axes.add_patch(Circle(state.centre, RADIUS, facecolor=colour, edgecolor="#1d2733", zorder=3))
        if state.is_final:
            axes.add_patch(Circle(state.centre, RADIUS - 4, fill=False, edgecolor="#1d2733", zorder=3))
        axes.text(*state.centre, state.name, ha="center", va="center", fontsize=10, zorder=4)
    for arcs in drawing.arcs:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        # Names of tokens are no formulas.
        axes.text(*arcs.text_at, arcs.text, ha="center", va="center", fontsize=9, bbox=box, zorder=5, parse_math=False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=192, metadata={"Title": title})


def _head(arcs: DrawnArcs) -> tuple[Point, Point, Point]:
    """The arrow's corners, its tip first."""
    before, tip = arcs.curve[2], arcs.curve[3]
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    left, right = angle + math.pi - 0.38, angle + math.pi + 0.38
    return (
        tip,
        (tip[0] + 10 * math.cos(left), tip[1] + 10 * math.sin(left)),
        (tip[0] + 10 * math.cos(right), tip[1] + 10 * math.sin(right)),
    )


def _text(at: Point, text: str, kind: str) -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}"{kind}>{escape(text)}</text>'
