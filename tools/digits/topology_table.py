"""Train CTC, MMI and MWER under every topology on spoken digits: word error rates, time per step, peak memory.

    python tools/digits/topology_table.py --corpus-dir recordings --output-dir topologies

MMI and MWER go on from the topology's CTC model. Every training runs in a process of its own, on one thread. Writes
``topologies.json``, ``table.md`` and a plot; what is done is not done again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import decode
import prepare
from objectives import LOSSES
from results import read_json, write_json, write_text
from tqdm import tqdm

import topologies

TRAIN = Path(__file__).with_name("train.py")
SPLIT_NAMES = {"test": "seen speakers", "test_held_out": "held-out speaker"}


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True)
    add("--corpus-dir", type=Path, help="folder of the Free Spoken Digit Dataset's recordings; else synthesised speech")
    add("--ctc-epochs", type=int, default=24, help="of half the training data each")
    add("--fine-tune-epochs", type=int, default=3)
    add("--draws", type=int, default=4, help="noise draws of the training recordings")
    return parser


def run_training(command: list[str]) -> float:
    """Run train.py on one thread; return the most memory it held, in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(TRAIN), *command, "--num-threads", "1"], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"train.py ended with status {process.returncode}: {' '.join(command)}")
    return float(usage.ru_maxrss) / 1024


def run_cell(args: argparse.Namespace, data_dir: Path, topology: str, loss: str) -> dict[str, Any]:
    """Train and decode one loss under one topology, unless done; return what the table says of it."""
    exp_dir = args.output_dir / f"{topology}-{loss}"
    if not (exp_dir / "cell.json").exists():
        command = ["--data-dir", str(data_dir), "--exp-dir", str(exp_dir), "--topology", topology, "--loss", loss]
        common = ["--channels", "32", "--num-blocks", "3", "--kernel-size", "7", "--dropout", "0.0", "--patience", "99"]
        common += ["--schedule", "linear", "--num-train-parts", "2", "--resume"]
        if loss == "ctc":
            common += ["--lr", "3e-3", "--num-epochs", str(args.ctc_epochs)]
        else:
            common += ["--init-from", str(args.output_dir / f"{topology}-ctc" / "last.pt"), "--lr", "5e-4"]
            common += ["--num-epochs", str(args.fine_tune_epochs), "--lattice", "log-probs"]
        peak = run_training(command + common)
        curves = read_json(exp_dir / "curves.json")
        trained = [entry for entry in curves if entry["epoch"] > 0]
        # The last, not the best without a language model on the development set: MMI is trained for decoding with one.
        checkpoint = ["--checkpoint", str(exp_dir / "last.pt")]
        command = ["--data-dir", str(data_dir), *checkpoint, "--output-dir", str(exp_dir)]
        rates = decode.decode(
            decode.get_parser().parse_args([*command, "--methods", *decode.METHODS, decode.LETTER_LM])
        )
        write_json(
            exp_dir / "cell.json",
            {
                "topology": topology,
                "loss": loss,
                "steps": curves[-1]["step"],
                "cpu_ms_per_step": 1000 * sum(entry["cpu_seconds"] for entry in trained) / curves[-1]["step"],
                "peak_mb": peak,
                "wer": {split: {name: cell["wer"] for name, cell in by.items()} for split, by in rates.items()},
                "num_left_out": sum(entry["num_left_out"] for entry in trained),
            },
        )
    cell: dict[str, Any] = read_json(exp_dir / "cell.json")
    return cell


def to_markdown(cells: list[dict[str, Any]]) -> str:
    """Return the table."""
    methods = list(cells[0]["wer"]["test"])
    columns = [f"{SPLIT_NAMES[split]}, {method}" for split in cells[0]["wer"] for method in methods]
    lines = [
        "| topology | loss | " + " | ".join(columns) + " | CPU ms per step | peak MB | left out |",
        "|---|---|" + "---:|" * (len(columns) + 3),
    ]
    for cell in cells:
        rates = [f"{rate:.2f}" for by_method in cell["wer"].values() for rate in by_method.values()]
        figures = [f"{cell['cpu_ms_per_step']:.0f}", f"{cell['peak_mb']:.0f}", f"{cell['num_left_out']:.0f}"]
        lines.append(f"| {cell['topology']} | {cell['loss']} | " + " | ".join([*rates, *figures]) + " |")
    return "\n".join(lines) + "\n"


def plot(cells: list[dict[str, Any]], path: Path) -> None:
    """Draw the word error rates as bars, one group per topology."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SPLIT_NAMES), figsize=(10, 4), layout="constrained")
    names = list(dict.fromkeys(cell["topology"] for cell in cells))
    for axis, (split, title) in zip(axes, SPLIT_NAMES.items(), strict=True):
        for place, loss in enumerate(LOSSES):
            rates = [cell["wer"][split]["greedy"] for cell in cells if cell["loss"] == loss]
            axis.bar([index + 0.25 * place for index in range(len(names))], rates, width=0.25, label=loss)
        axis.set_xticks([index + 0.25 for index in range(len(names))], names)
        axis.set(title=f"{title}, greedy", ylabel="word error rate (%)")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(args: argparse.Namespace) -> str:
    """Prepare, run all cells, write the table; return it."""
    data_dir = args.output_dir / "data"
    if not (data_dir / "summary.json").exists():
        draws = ["--train-draws", str(args.draws), "--dev-draws", "2", "--test-draws", "4", "--held-out-draws", "2"]
        corpus = ["--corpus-dir", str(args.corpus_dir)] if args.corpus_dir else []
        prepare.prepare(prepare.get_parser().parse_args(["--output-dir", str(data_dir), *corpus, *draws]))
    pairs = [(topology, loss) for topology in topologies.TOPOLOGIES for loss in LOSSES]
    cells = [run_cell(args, data_dir, *pair) for pair in tqdm(pairs, desc="trainings")]
    write_json(args.output_dir / "topologies.json", cells)
    table = to_markdown(cells)
    write_text(args.output_dir / "table.md", table)
    plot(cells, args.output_dir / "wer.png")
    return table


if __name__ == "__main__":
    print(main(get_parser().parse_args()))
