"""Where the states and arcs of a small graph lie on a page: what pictures of any kind are drawn from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from topologies import EPSILON, Graph

Point: TypeAlias = tuple[float, float]

MOST_STATES, MOST_ARCS = 60, 300
RADIUS = 20.0
_STEP = 130.0
_MOST_NAMED = 3
_LOOP = 46.0


@dataclasses.dataclass(frozen=True)
class DrawnState:
    """A circle, doubled where the state is final, filled where paths start."""

    centre: Point
    name: str
    is_start: bool
    is_final: bool


@dataclasses.dataclass(frozen=True)
class DrawnArcs:
    """All arcs from one state to another: a cubic curve with an arrow at its end, dashed where none reads a label."""

    curve: tuple[Point, Point, Point, Point]
    text: str
    text_at: Point
    is_virtual: bool


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture: its states and arcs, and the corners of what it covers."""

    states: tuple[DrawnState, ...]
    arcs: tuple[DrawnArcs, ...]
    low: Point
    high: Point


def draw(graph: Graph, input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None) -> Drawing:
    """The picture of a graph: in a ring where all is near the start, else from left to right.

    Arcs read ``read:written``, and ``/score`` where they have one; more than three between the same states are counted.

    Raises:
        ValueError: for a graph of more than 60 states or 300 arcs, which nobody could read.
    """
    if graph.num_states > MOST_STATES or graph.num_arcs > MOST_ARCS:
        raise ValueError(
            f"the graph has {graph.num_states:,} states and {graph.num_arcs:,} arcs, expected at most {MOST_STATES} "
            f"and {MOST_ARCS} for a picture that can be read"
        )
    places = _places(graph)
    states = tuple(
        DrawnState(places[state], str(state), state == graph.start, bool(graph.final_score[state] > -np.inf))
        for state in range(graph.num_states)
    )
    texts: dict[tuple[int, int], list[str]] = {}
    reads: dict[tuple[int, int], bool] = {}
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    for source, destination, read, written, score in zip(*(column.tolist() for column in columns), strict=True):
        text = f"{_name(read, input_names)}:{_name(written, output_names)}" + (f"/{score:.3g}" if score else "")
        texts.setdefault((source, destination), []).append(text)
        reads[source, destination] = reads.get((source, destination), False) or read != EPSILON
    middle = (sum(x for x, _ in places) / len(places), sum(y for _, y in places) / len(places))
    arcs = tuple(
        _arcs(places[ends[0]], places[ends[1]], middle, _joined(found), not reads[ends])
        for ends, found in texts.items()
    )
    return Drawing(states, arcs, *_bounds(states, arcs))


def _places(graph: Graph) -> list[Point]:
    levels = _levels(graph)
    if max(levels) < 3:
        count = graph.num_states
        ring = 0.0 if count == 1 else max(_STEP * 0.75, _STEP * count / (2 * math.pi))
        turn = 2 * math.pi / count
        order = [(state - graph.start) % count for state in range(count)]
        return [(ring * math.sin(turn * place), -ring * math.cos(turn * place)) for place in order]
    members: dict[int, list[int]] = {}
    for state, level in enumerate(levels):
        members.setdefault(level, []).append(state)
    places: list[Point] = [(0.0, 0.0)] * graph.num_states
    for level, found in members.items():
        for row, state in enumerate(found):
            places[state] = (_STEP * level, _STEP * (row - (len(found) - 1) / 2))
    return places


def _levels(graph: Graph) -> list[int]:
    """Arcs from the start to each state, at least; states out of reach come last."""
    unseen = graph.num_states
    level = np.full(graph.num_states, unseen)
    level[graph.start] = 0
    while True:
        before = level.copy()
        np.minimum.at(level, graph.destination, level[graph.source] + 1)
        level = np.minimum(level, unseen)
        if np.array_equal(level, before):
            break
    reached = level[level < unseen]
    found: list[int] = np.minimum(level, int(reached.max()) + 1).tolist()
    return found


def _arcs(source: Point, destination: Point, middle: Point, text: str, is_virtual: bool) -> DrawnArcs:
    if source == destination:
        return _loop(source, middle, text, is_virtual)
    along = (destination[0] - source[0], destination[1] - source[1])
    length = math.hypot(*along)
    unit = (along[0] / length, along[1] / length)
    # To the left of the way, so that the way back bends to the other side.
    aside = (unit[1], -unit[0])
    bend = min(50.0, 0.16 * length) + 0.03 * max(0.0, length - 2 * _STEP)

    def at(share: float, out: float) -> Point:
        return (source[0] + share * along[0] + out * aside[0], source[1] + share * along[1] + out * aside[1])

    controls = at(0.3, bend), at(0.7, bend)
    curve = (_towards(source, controls[0]), *controls, _towards(destination, controls[1], RADIUS + 2))
    return DrawnArcs(curve, text, at(0.5, 0.75 * bend + 9), is_virtual)


def _loop(place: Point, middle: Point, text: str, is_virtual: bool) -> DrawnArcs:
    angle = math.atan2(place[1] - middle[1], place[0] - middle[0])
    if math.hypot(place[0] - middle[0], place[1] - middle[1]) < 1 or abs(place[1] - middle[1]) < 1:
        angle = -math.pi / 2

    def out(turn: float, radius: float) -> Point:
        return (place[0] + radius * math.cos(angle + turn), place[1] + radius * math.sin(angle + turn))

    curve = (out(-0.5, RADIUS), out(-0.55, RADIUS + _LOOP), out(0.55, RADIUS + _LOOP), out(0.5, RADIUS + 2))
    return DrawnArcs(curve, text, out(0.0, RADIUS + _LOOP - 3), is_virtual)


def _towards(place: Point, target: Point, distance: float = RADIUS) -> Point:
    along = (target[0] - place[0], target[1] - place[1])
    length = math.hypot(*along) or 1.0
    return (place[0] + distance * along[0] / length, place[1] + distance * along[1] / length)


def _bounds(states: Sequence[DrawnState], arcs: Sequence[DrawnArcs]) -> tuple[Point, Point]:
    points = [state.centre for state in states] + [point for arc in arcs for point in arc.curve]
    wide = [(arc.text_at, 3.6 * len(arc.text)) for arc in arcs]
    left = min([x - RADIUS for x, _ in points] + [at[0] - half for at, half in wide])
    right = max([x + RADIUS for x, _ in points] + [at[0] + half for at, half in wide])
    top = min([y - RADIUS for _, y in points] + [at[1] - 10 for at, _ in wide])
    bottom = max([y + RADIUS for _, y in points] + [at[1] + 10 for at, _ in wide])
    return (left - 8, top - 8), (right + 8, bottom + 8)


def _joined(texts: list[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return ", ".join(texts) if more <= 0 else ", ".join([*texts[:_MOST_NAMED], f"+{more}"])


def _name(label: int, names: Sequence[str] | None) -> str:
    if label == EPSILON:
        return "ε"
    return str(label) if names is None or label >= len(names) else names[label]
