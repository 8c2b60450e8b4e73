"""Measure what MWER brings: converged CTC, CTC trained on, and MWER, over several seeds.

    python tools/digits/experiment.py --corpus-dir recordings --output-dir experiment

Per seed: (1) CTC, its rate held and then halved, until the development word error rate has been flat for five epochs;
(2) its best checkpoint trained on with CTC; (3) the same checkpoint trained on with MWER. (2) and (3) get the same
number of steps, optimiser, data order and grid of learning rates, and learning rate and checkpoint are chosen on the
development set for each. ``--also`` trains other forms of MWER for as many steps, at ``--also-learning-rates``.
Test sets are decoded at the end. A training whose result file exists is not run again. Writes ``report.json``,
``table.md`` and ``curves.svg``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import curves
import decode
import prepare
import report
import train
from results import read_json, write_json, write_text
from systems import ALWAYS, OTHERS, SYSTEMS

PREPARE = ["--train-draws", "48", "--dev-draws", "16", "--max-recording-speed-change", "0.12"]
PREPARE += ["--max-equaliser-db", "20", "--test-draws", "48", "--held-out-draws", "24"]
MWER_OPTIONS = (
    "risk",
    "num_paths",
    "estimator",
    "path_score",
    "ctc_weight",
    "acoustic_scale",
    "nbest_scale",
    "lattice",
)


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True)
    add("--corpus-dir", type=Path, help="folder of the Free Spoken Digit Dataset's recordings; else synthesised speech")
    add("--data-dir", type=Path, help="already prepared data")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--topology", default="correct")
    add("--ctc-lr", type=float, default=5e-3)
    add("--hold-epochs", type=int, default=45, help="CTC's epochs at the full rate; then halvings on a plateau")
    add("--max-epochs", type=int, default=120, help="limit of the converged CTC training")
    add("--fine-tune-epochs", type=int, default=30)
    add("--learning-rates", type=float, nargs="+", default=[1e-3, 3e-3], help="grid of both fine-tunings")
    add("--also", choices=OTHERS, nargs="*", default=[], help="other systems to train and report")
    add("--also-learning-rates", type=float, nargs="+", default=[3e-3], help="grid of those")
    add("--risk", choices=("word", "token"), default="word")
    add("--num-paths", type=int, default=64)
    add("--estimator", choices=("nbest", "sampled"), default="sampled")
    add("--path-score", choices=("sum", "single"), default="single")
    add("--acoustic-scale", type=float, default=1.0, help="MWER sees log-probs times this, normalised again")
    add("--nbest-scale", type=float, default=1.0, help="scores times this while MWER draws paths")
    add("--ctc-weight", type=float, default=0.0, help="CTC kept beside MWER")
    add("--lattice", choices=("auto", "k2", "log-probs"), default="log-probs")
    add("--channels", type=int, default=32, help="of the model, with --num-blocks, --kernel-size and --dropout")
    add("--num-blocks", type=int, default=4)
    add("--kernel-size", type=int, default=11)
    add("--dropout", type=float, default=0.0)
    add("--num-train-parts", type=int, default=6, help="an epoch is this part of the training data")
    add("--jobs", type=int, default=2, help="trainings at once, each on one thread")
    return parser


def training_args(args: argparse.Namespace, exp_dir: Path, seed: int, **options: object) -> argparse.Namespace:
    """Return train.py's arguments: its defaults, what the experiment fixes, and ``options``."""
    required = ["--data-dir", str(args.data_dir), "--exp-dir", str(exp_dir)]
    parsed = train.get_parser().parse_args(required)
    parsed.topology, parsed.seed, parsed.num_threads = args.topology, seed, 1
    for name in ("channels", "num_blocks", "kernel_size", "dropout", "num_train_parts"):
        setattr(parsed, name, getattr(args, name))
    for name, value in options.items():
        setattr(parsed, name, value)
    return parsed


def run_training(args: argparse.Namespace, exp_dir: Path, seed: int, **options: object) -> dict[str, Any]:
    """Train unless ``summary.json`` says it is done; return the summary."""
    if not (exp_dir / "summary.json").exists():
        train.train(training_args(args, exp_dir, seed, **options))
    summary: dict[str, Any] = read_json(exp_dir / "summary.json")
    return summary


def converge(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train with CTC until the development word error rate is flat; return the summary."""
    exp_dir = args.output_dir / f"seed{seed}" / "ctc"
    options: dict[str, object] = {"lr": args.ctc_lr, "num_epochs": args.max_epochs, "hold_epochs": args.hold_epochs}
    return {"exp_dir": str(exp_dir), **run_training(args, exp_dir, seed, **options)}


def fine_tune(args: argparse.Namespace, seed: int, name: str, lr: float) -> dict[str, Any]:
    """Train the converged model on as a system of the table, at one learning rate; return the summary."""
    folder = args.output_dir / f"seed{seed}"
    exp_dir = folder / f"{name}-{lr:g}"
    options: dict[str, object] = {
        "loss": SYSTEMS[name].loss,
        "init_from": folder / "ctc" / "best.pt",
        "lr": lr,
        "schedule": "linear",
        "num_epochs": args.fine_tune_epochs,
        "patience": args.fine_tune_epochs + 1,
    }
    for option in MWER_OPTIONS:
        options[option] = getattr(args, option)
    options |= SYSTEMS[name].options
    return {"exp_dir": str(exp_dir), "lr": lr, **run_training(args, exp_dir, seed, **options)}


def learning_rates(args: argparse.Namespace, name: str) -> list[float]:
    """Return the grid of a system."""
    rates: list[float] = args.also_learning_rates if name in OTHERS else args.learning_rates
    return rates


def choose_and_decode(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Choose each fine-tuning's learning rate on the development set, decode the test sets; return the choice."""
    chosen = {"converged": converge(args, seed)}
    for name in (*ALWAYS, *args.also):
        runs = [fine_tune(args, seed, name, lr) for lr in learning_rates(args, name)]
        best = min(runs, key=lambda run: run["dev_wer"])
        chosen[name] = {**best, "grid": {f"{run['lr']:g}": run["dev_wer"] for run in runs}}
    for run in chosen.values():
        exp_dir = Path(run["exp_dir"])
        if not (exp_dir / "decode" / "wer.json").exists():
            command = ["--data-dir", str(args.data_dir), "--output-dir", str(exp_dir / "decode")]
            decode.decode(decode.get_parser().parse_args([*command, "--checkpoint", str(exp_dir / "best.pt")]))
    write_json(args.output_dir / f"seed{seed}" / "chosen.json", chosen)
    return chosen


def run_stages(args: argparse.Namespace, pool: concurrent.futures.Executor) -> dict[int, dict[str, Any]]:
    """Run every stage of every seed, as many trainings at once as the pool has processes; return each seed's choice."""
    in_order(pool.submit(converge, args, seed) for seed in args.seeds)
    # The longest first, so that no process waits long at the end.
    trainings = [
        (seed, name, lr)
        for name in (*args.also, *reversed(ALWAYS))
        for seed in args.seeds
        for lr in learning_rates(args, name)
    ]
    in_order(pool.submit(fine_tune, args, *training) for training in trainings)
    chosen = in_order(pool.submit(choose_and_decode, args, seed) for seed in args.seeds)
    return dict(zip(args.seeds, chosen, strict=True))


def in_order(futures: Iterable[concurrent.futures.Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Wait for all that was submitted; return the results in its order."""
    return [future.result() for future in list(futures)]


def prepare_data(args: argparse.Namespace) -> None:
    """Prepare the data in the output folder unless given or done."""
    if args.data_dir is None:
        args.data_dir = args.output_dir / "data"
    if not (args.data_dir / "summary.json").exists():
        command = ["--output-dir", str(args.data_dir), *PREPARE]
        if args.corpus_dir is not None:
            command += ["--corpus-dir", str(args.corpus_dir)]
        prepare.prepare(prepare.get_parser().parse_args(command))


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Run all seeds, then write the report."""
    prepare_data(args)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        chosen = run_stages(args, pool)
    result = report.make_report(args.data_dir, chosen)
    result["settings"] = {key: str(value) for key, value in vars(args).items() if not isinstance(value, Path)}
    write_json(args.output_dir / "report.json", result)
    write_text(args.output_dir / "table.md", report.to_markdown(result))
    curves.plot_curves(chosen, args.output_dir / "curves.svg")
    return result


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    print(report.to_markdown(main(arguments)))
    print(f"results: {arguments.output_dir}")
