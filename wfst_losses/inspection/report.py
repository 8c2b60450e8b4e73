"""A comparison as one page that needs nothing but itself: no script, no link, no font from elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from html import escape

import topologies
from wfst_losses.inspection.charts import Bars, bar_chart
from wfst_losses.inspection.comparison import MODIFIED, Advice, GraphSize, StepMemory
from wfst_losses.inspection.drawing import draw
from wfst_losses.inspection.pictures import PICTURE_STYLE, to_svg

_STYLE = """
:root { color-scheme: light dark; --page: #f7f8fa; --card: #ffffff; --ink: #1d2733; --soft: #5b6875; --line: #dfe4ea;
  --one: #2a5d84; --two: #e09f3e; --three: #7a9e7e; --good: #e8f1ea; --good-line: #7a9e7e; }
@media (prefers-color-scheme: dark) { :root { --page: #0e1114; --card: #14181d; --ink: #e6ebf0; --soft: #9aa7b4;
  --line: #2a323b; --one: #7fb8e6; --two: #e0b25e; --three: #8fbf94; --good: #18241b; --good-line: #4f7a55; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 0 0 4px; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: 14px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin: 18px 0; }
.advice { background: var(--good); border-color: var(--good-line); } .advice strong { font-size: 20px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; margin: 12px 0; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 14px; margin-top: 12px; }
figure { margin: 0; text-align: center; } figure svg { max-width: 100%; height: auto; max-height: 250px; }
figcaption { font-size: 14px; color: var(--soft); }
.chart { width: 100%; height: auto; margin: 8px 0; } .chart text { fill: var(--ink); font: 13px system-ui, sans-serif;
  dominant-baseline: central; } .chart .name { text-anchor: end; }
.chart .figure { font-size: 12px; fill: var(--soft); }
.series0 { fill: var(--one); } .series1 { fill: var(--two); } .series2 { fill: var(--three); }
"""
_MEANINGS = {
    "correct": "The usual CTC: a state per label, an arc between any two.",
    "compact": "A root; tokens return to it over an arc that takes no frame (dashed). A token may follow itself.",
    "minimal": "One state: a token lasts one frame.",
    "selfless": "Correct without the tokens' own loops: a token lasts one frame, equal ones need a blank between.",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        asked: what it was about, in words: a title and its value.
        decoding: graphs to decode with.
        denominator: MMI's, where there is a model of tokens.
        memory: of each loss, topology and backend.
        advice: one topology.
    """

    asked: Sequence[tuple[str, str]]
    decoding: Sequence[GraphSize]
    denominator: Sequence[GraphSize]
    memory: Sequence[StepMemory]
    advice: Advice

    def tables(self) -> list[tuple[str, Sequence[GraphSize]]]:
        """Sizes to show, by title; once where both are the same graphs."""
        if not self.denominator:
            return [("Decoding graphs", self.decoding)]
        if self.denominator == self.decoding:
            return [("Decoding graphs, and denominators of MMI", self.decoding)]
        return [("Decoding graphs", self.decoding), ("Denominators of MMI", self.denominator)]


def html_report(found: Comparison, shown_bytes: Callable[[int], str]) -> str:
    """The page."""
    parts = [
        "<h1>Which topology?</h1>",
        f'<p class="soft">{" · ".join(f"{escape(name)}: {escape(value)}" for name, value in found.asked)}</p>',
        (
            f'<section class="advice"><strong>Take {escape(found.advice.topology)}.</strong>'
            f"<p>{escape(found.advice.reason)}</p></section>"
        ),
        _pictures(),
        *(_graphs(title, sizes) for title, sizes in found.tables()),
    ]
    losses = dict.fromkeys((step.loss, step.backend) for step in found.memory)
    parts += [_memory(found.memory, loss, backend, shown_bytes) for loss, backend in losses]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Which topology?</title>\n<style>{_STYLE}{PICTURE_STYLE}</style>\n</head>\n<body>\n<main>",
            *parts,
            "</main>\n</body>\n</html>\n",
        ]
    )


def _pictures() -> str:
    figures = []
    for name, topology in topologies.TOPOLOGIES.items():
        picture = to_svg(draw(topology(3).graph(), ("␣", "a", "b"), ("␣", "a", "b")), name, is_alone=False)
        meaning = escape(_MEANINGS.get(name, ""))
        figures.append(f"<figure>{picture}<figcaption><b>{escape(name)}</b>. {meaning}</figcaption></figure>")
    text = '<p class="soft">For a blank ␣ and two tokens; arcs read read:written, ε is nothing.</p>'
    return f'<section><h2>The topologies</h2>{text}<div class="pictures">{"".join(figures)}</div></section>'


def _graphs(title: str, sizes: Sequence[GraphSize]) -> str:
    base = next(size.num_arcs for size in sizes if size.name == "correct")
    rows = [
        (
            size.name,
            f"{size.num_states:,}",
            "—" if size.name == MODIFIED else f"{size.num_arcs:,}",
            "—" if size.name == MODIFIED else f"{size.num_arcs / base:.2f}",
            *_free(size, base),
        )
        for size in sizes
    ]
    heads = ("", "states", "arcs", "to correct", "epsilon-free", "to correct")
    # A form many times larger than the others would leave no room for them.
    most = 4 * max(size.num_arcs for size in sizes)
    bars = [
        Bars(size.name, (None if size.name == MODIFIED else size.num_arcs, _within(size.num_epsilon_free_arcs, most)))
        for size in sizes
    ]
    chart = bar_chart(bars, ("arcs", "epsilon-free (k2)"), lambda value: f"{value:,.0f}", title)
    note = "k2 takes no arc that reads nothing: there, the epsilon-free form counts, and compact is k2 modified."
    return f'<section><h2>{title}</h2><p class="soft">{note}</p>{chart}{_table(heads, rows)}</section>'


def _within(value: int | None, most: int) -> int | None:
    return None if value is None or value > most else value


def _free(size: GraphSize, base: int) -> tuple[str, str]:
    free = size.num_epsilon_free_arcs
    return ("—", "—") if free is None else (f"{free:,}", f"{free / base:.2f}")


def _memory(memory: Sequence[StepMemory], loss: str, backend: str, shown_bytes: Callable[[int], str]) -> str:
    steps = [step for step in memory if (step.loss, step.backend) == (loss, backend)]
    is_measured = any(step.measured_bytes is not None for step in steps)
    series = ("predicted", "measured") if is_measured else ("predicted",)
    bars = [Bars(step.topology, (step.predicted_bytes, step.measured_bytes)[: len(series)]) for step in steps]
    chart = bar_chart(bars, series, lambda value: shown_bytes(round(value)), f"{loss} on {backend}")
    note = "The most at any moment of one loss and its gradient, float32, beyond the network."
    if steps[0].is_upper_bound:
        note += " For k2 the prediction is an upper bound, at 120 bytes per arc of the lattice."
    reasons = {step.not_measured for step in steps if step.measured_bytes is None and step.not_measured}
    note += "".join(f" Not measured: {escape(reason)}." for reason in sorted(reasons) if is_measured)
    title = f"Memory of {loss.upper()}, {escape(backend)}"
    return f'<section><h2>{title}</h2><p class="soft">{note}</p>{chart}</section>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
