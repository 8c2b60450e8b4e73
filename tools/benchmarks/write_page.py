"""Write the tables of docs/benchmarks.md from docs/results/benchmarks/*.json, and docs/images/denominator_cost.svg.

python tools/benchmarks/write_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "docs" / "results" / "benchmarks"


def read(name: str) -> dict[str, Any] | None:
    """A recorded result, ``None`` where there is none."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Markdown, numbers to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def where(result: dict[str, Any]) -> str:
    """The machine, in words."""
    return (
        f"{result['processor']}, {result['num_threads']} thread(s), torch {result['torch']}, Python {result['python']}."
    )


def ctc_table(result: dict[str, Any]) -> str:
    """Native beside torch."""
    rows = []
    for case in result["cases"]:
        times = [f"{form['processor_ms']:.1f}" for form in case["forms"].values()]
        difference = f"{case['gradient_difference']:.1e}"
        rows.append([str(tuple(case["shape"])), *times, f"{case['ratio']:.1f}", difference])
    heads = ["B, T, V, S", "native (ms)", "torch (ms)", "of which log_softmax (ms)", "ratio", "gradients differ by"]
    return f"{where(result)}\n\n{table(heads, rows)}"


def long_table(result: dict[str, Any]) -> str:
    """One row."""
    heads = ["B, T, V, S", "time (s)", "memory beyond the input (MiB)", "value differs by", "gradient differs by"]
    row = [
        str(tuple(result["shape"])), f"{result['processor_ms'] / 1e3:.2f}", f"{result['peak_bytes'] / 2**20:,.0f}",
        f"{result['value_relative_difference']:.0e} of itself", f"{result['gradient_difference']:.0e}",
    ]  # fmt: skip
    return f"{where(result)}\n\n{table(heads, [row])}"


def denominator_table(result: dict[str, Any]) -> str:
    """Native beside k2."""
    rows = [
        [
            name, str(row["num_frames"]), f"{row['processor_ms']:,.1f}", f"{row['arc_frames_per_second']:.2e}",
            f"{row['native_is_faster_by']:,.1f}", f"{row['peak_bytes'] / 2**20:,.0f}",
        ]
        for name, row in result["forms"].items()
    ]  # fmt: skip
    heads = ["form", "T", "time (ms)", "arc-frames/s", "native is faster by", "memory at T = 200 (MiB)"]
    return f"{where(result)}\n\n{table(heads, rows)}"


def large_table(result: dict[str, Any]) -> str:
    """One row."""
    heads = ["arcs", "states", "composition, once (s)", "time (s)", "memory beyond input and gradient (MiB)"]
    row = [
        f"{result['num_arcs']:,}", f"{result['num_states']:,}", f"{result['composition_seconds']:.1f}",
        f"{result['processor_ms'] / 1e3:.2f}", f"{result['peak_bytes_beyond_gradient'] / 2**20:,.0f}",
    ]  # fmt: skip
    return f"{where(result)}\n\n{table(heads, [row])}"


def draw_growth(result: dict[str, Any], output: Path) -> None:
    """Time over frames, utterances and arcs, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for axes, (name, series) in zip(panels, result["processor_ms"].items(), strict=True):
        sizes, times = [int(size) for size in series], list(series.values())
        axes.loglog(sizes, times, "o-", color="black")
        axes.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], "--", color="grey", label="linear")
        axes.set_xlabel(name)
        axes.legend(frameon=False)
    panels[0].set_ylabel("value and gradient (ms)")
    figure.tight_layout()
    figure.savefig(output, metadata={"Date": None})


def memory_table() -> str | None:
    """Predicted over measured peaks: the least and the most of each backend and loss."""
    points = [point for name in ("memory_exact", "memory_k2") for point in read(name) or ()]
    if not points:
        return None
    groups: dict[tuple[str, str], list[Any]] = {}
    for point in points:
        groups.setdefault((point["backend"], point["loss"]), []).append(point)
    rows = []
    for (backend, loss), found in groups.items():
        ratios = [point["ratio"] for point in found]
        peaks = [point["measured_bytes"] / 1e6 for point in found]
        bound = "an upper bound" if found[0]["is_upper_bound"] else "within 25 %"
        rows.append(
            [f"{backend}, {loss}", str(len(found)), f"{min(peaks):,.0f} to {max(peaks):,.0f}", f"{min(ratios):.2f}",
             f"{max(ratios):.2f}", bound, f"{sum(point['holds'] for point in found)} of {len(found)}"]
        )  # fmt: skip
    heads = ["backend, loss", "points", "measured (MB)", "least ratio", "largest", "to hold", "holds"]
    return table(heads, rows)


TABLES = {
    "ctc": ctc_table,
    "long": long_table,
    "denominator": denominator_table,
    "large": large_table,
}


def main() -> None:
    """Replace what stands between the markers."""
    page = ROOT / "docs" / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    made = {name: write(result) for name, write in TABLES.items() if (result := read(name)) is not None}
    for name, content in {**made, "memory": memory_table()}.items():
        if content is not None:
            before, rest = text.split(f"<!-- table:{name} -->\n")
            _, after = rest.split(f"<!-- end:{name} -->")
            text = f"{before}<!-- table:{name} -->\n{content}\n<!-- end:{name} -->{after}"
    page.write_text(text, encoding="utf-8")
    growth = read("growth")
    if growth is not None:
        draw_growth(growth, ROOT / "docs" / "images" / "denominator_cost.svg")


if __name__ == "__main__":
    main()
