"""Show the main job: real or synthesised speech in, lower word error rate out.

    python tools/digits/demo.py --output-dir demo [--corpus-dir recordings] [--quick]

Prepares spoken-digit strings, trains a small CTC model, fine-tunes it for fewer word errors over lattices, decodes,
and prints word error rates before and after next to the sizes of the topologies. Writes ``results.json``,
``curves.png``, hypotheses and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import decode
import prepare
import train
from lexicon import read_tokens
from objectives import has_k2
from results import write_json
from rich.console import Console
from rich.table import Table

import topologies

# In full, what docs/digits.md found out: recordings that vary one by one, a small model that sees whole words, random
# paths.
VARIED = ["--max-recording-speed-change", "0.12", "--max-equaliser-db", "20"]
SMALL = ["--channels", "32", "--num-blocks", "4", "--kernel-size", "11", "--dropout", "0"]
DRAWN = ["--estimator", "sampled", "--path-score", "single", "--num-paths", "64"]
PREPARE = {
    "full": ["--train-draws", "16", "--dev-draws", "4", "--test-draws", "12", "--held-out-draws", "6", *VARIED],
    "quick": ["--train-draws", "4", "--dev-draws", "2", "--test-draws", "4", "--held-out-draws", "2"],
}
CTC = {
    "full": ["--num-epochs", "40", "--num-train-parts", "4", "--lr", "5e-3", "--patience", "40", *SMALL],
    "quick": ["--num-epochs", "6", "--num-train-parts", "1", "--lr", "3e-3"],
}
MWER = {
    "full": ["--num-epochs", "20", "--num-train-parts", "4", "--lr", "3e-3", "--patience", "20", *DRAWN],
    "quick": ["--num-epochs", "2", "--num-train-parts", "1", "--lr", "5e-4"],
}


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--corpus-dir", type=Path, help="folder of {digit}_{speaker}_{index}.wav, 8 kHz mono")
    parser.add_argument("--quick", action="store_true", help="a short form, under two minutes")
    parser.add_argument("--topology", choices=tuple(topologies.TOPOLOGIES), default="correct")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run every step and return all results."""
    start = time.perf_counter()
    size = "quick" if args.quick else "full"
    data_dir, console = args.output_dir / "data", Console()
    common = ["--data-dir", str(data_dir), "--topology", args.topology, "--schedule", "linear"]

    console.rule("1/4 prepare")
    corpus = ["--corpus-dir", str(args.corpus_dir)] if args.corpus_dir else []
    prepared = ["--output-dir", str(data_dir), *corpus, *PREPARE[size]]
    data = prepare.prepare(prepare.get_parser().parse_args(prepared))

    console.rule("2/4 train with CTC")
    ctc_dir, mwer_dir = args.output_dir / "ctc", args.output_dir / "mwer"
    ctc = train.train(train.get_parser().parse_args([*common, "--exp-dir", str(ctc_dir), "--loss", "ctc", *CTC[size]]))

    console.rule("3/4 fine-tune with MWER over " + ("k2 lattices" if has_k2() else "log-probs (k2 is not installed)"))
    command = ["--exp-dir", str(mwer_dir), "--loss", "mwer", "--init-from", str(ctc_dir / "best.pt"), *MWER[size]]
    mwer = train.train(train.get_parser().parse_args([*common, *command]))

    console.rule("4/4 decode")
    wer = {}
    for name, folder in (("ctc", ctc_dir), ("mwer", mwer_dir)):
        command = ["--checkpoint", str(folder / "best.pt"), "--output-dir", str(folder / "decode")]
        wer[name] = decode.decode(decode.get_parser().parse_args(["--data-dir", str(data_dir), *command]))
    num_labels = len(read_tokens(data_dir / "tokens.txt"))
    results = {
        "corpus": data,
        "topology": args.topology,
        "lattice": "k2" if has_k2() else "log-probs",
        "ctc": ctc,
        "mwer": mwer,
        "wer": wer,
        "topology_sizes": {str(labels): sizes(labels) for labels in (num_labels, 500)},
        "seconds": round(time.perf_counter() - start, 1),
    }
    plot_curves(args.output_dir)
    write_json(args.output_dir / "results.json", results)
    show(console, results)
    console.print(
        f"{results['seconds']:.0f} s; plot, results and checkpoints are in: {args.output_dir}", soft_wrap=True
    )
    return results


def sizes(num_labels: int) -> dict[str, dict[str, int]]:
    """Return states and arcs of every topology for a number of labels."""
    return {name: asdict(topologies.build(name, num_labels).size()) for name in topologies.TOPOLOGIES}


def show(console: Console, results: dict[str, Any]) -> None:
    """Print word error rates before and after, then the topologies' sizes."""
    table = Table(title="word error rate (%)")
    for column in ("test set", "decoding", "CTC", "then MWER", "relative change"):
        table.add_column(column, justify="left" if column in ("test set", "decoding") else "right")
    for split in decode.TEST_SPLITS:
        for method in decode.METHODS:
            before, after = (results["wer"][name][split][method]["wer"] for name in ("ctc", "mwer"))
            change = f"{100 * (after - before) / before:+.1f} %" if before else "-"
            table.add_row(split.replace("_", " "), method, f"{before:.2f}", f"{after:.2f}", change)
    console.print(table)
    table = Table(title="topologies: states / arcs")
    table.add_column("topology")
    for labels in results["topology_sizes"]:
        table.add_column(f"{labels} labels", justify="right")
    for name in topologies.TOPOLOGIES:
        cells = [by_name[name] for by_name in results["topology_sizes"].values()]
        table.add_row(name, *(f"{cell['num_states']:,} / {cell['num_arcs']:,}" for cell in cells))
    console.print(table)


def plot_curves(output_dir: Path) -> None:
    """Draw both training curves, loss and development word error rate, to ``curves.png``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (loss_axis, wer_axis) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    expected_axis = loss_axis.twinx()
    offset = 0
    for name, axis, colour in (("ctc", loss_axis, "tab:blue"), ("mwer", expected_axis, "tab:orange")):
        curves = json.loads((output_dir / name / "curves.json").read_text(encoding="utf-8"))
        trained = [entry for entry in curves if "loss" in entry]
        axis.plot([offset + e["epoch"] for e in trained], [e["loss"] for e in trained], "o-", color=colour, label=name)
        wer_axis.plot(
            [offset + e["epoch"] for e in curves], [e["dev_wer"] for e in curves], "o-", color=colour, label=name
        )
        offset += curves[-1]["epoch"]
    loss_axis.set(title="training loss", xlabel="epoch", ylabel="CTC (nats per utterance)", yscale="log")
    expected_axis.set_ylabel("MWER (expected word errors per utterance)")
    wer_axis.set(title="development word error rate", xlabel="epoch", ylabel="%", yscale="log")
    wer_axis.legend()
    figure.savefig(output_dir / "curves.tmp.png", dpi=120)
    plt.close(figure)
    (output_dir / "curves.tmp.png").replace(output_dir / "curves.png")


if __name__ == "__main__":
    run(get_parser().parse_args())
