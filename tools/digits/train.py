"""Train the digit model with CTC, or fine-tune it for fewer word errors.

    python tools/digits/train.py --data-dir data --exp-dir exp/ctc --loss ctc
    python tools/digits/train.py --data-dir data --exp-dir exp/mwer --loss mwer --init-from exp/ctc/best.pt \
        --lr 3e-4 --num-epochs 6 --warmup-steps 50

Writes in the experiment folder: ``last.pt`` and ``best.pt`` (lowest development word error rate), ``curves.json``,
``params.json`` and TensorBoard scalars.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from checkpoint import load_model, save_checkpoint
from data import eval_loader, load_cuts, split_into_parts, train_loader, unpack
from decode import decode_batches, score
from lexicon import read_tokens, text_to_labels
from model import DigitModel, num_parameters
from objectives import make_objective
from results import read_json, write_json
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import topologies


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="what prepare.py wrote")
    add("--exp-dir", type=Path, required=True, help="folder for checkpoints, curves, TensorBoard")
    add("--loss", choices=("ctc", "mwer"), default="ctc")
    add("--topology", choices=tuple(topologies.TOPOLOGIES), default="correct")
    add("--risk", choices=("word", "token"), default="word", help="what MWER counts")
    add("--num-paths", type=int, default=16, help="paths drawn per utterance by MWER")
    add("--estimator", choices=("nbest", "sampled"), default="nbest", help="of MWER; sampled is unbiased")
    add("--path-score", choices=("sum", "single"), default="sum", help="score of all alignments of a path, or its own")
    add("--acoustic-scale", type=float, default=1.0, help="MWER sees log-probs times this, normalised again")
    add("--nbest-scale", type=float, default=1.0, help="scores times this while MWER draws paths")
    add("--ctc-weight", type=float, default=0.0, help="MWER is minimised together with this much CTC")
    add("--lattice", choices=("auto", "k2", "log-probs"), default="auto", help="what MWER draws its paths from")
    add("--init-from", type=Path, help="checkpoint whose model to start from")
    add("--lr", type=float, default=2e-3)
    add("--weight-decay", type=float, default=0.01)
    add("--schedule", choices=("plateau", "linear"), default="plateau", help="halve on a plateau, or decay to 0")
    add("--hold-epochs", type=int, default=0, help="epochs at the full rate before a plateau counts")
    add("--warmup-steps", type=int, default=100)
    add("--num-epochs", type=int, default=40)
    add("--patience", type=int, default=5, help="stop after this many epochs without a better development WER")
    add("--max-duration", type=float, default=100.0, help="seconds of speech in a batch")
    add("--num-train-parts", type=int, default=4, help="an epoch is this part of the training data")
    add("--spec-augment", action="store_true", help="mask stripes of the features in training")
    add("--dropout", type=float, default=0.1)
    add("--channels", type=int, default=96)
    add("--num-blocks", type=int, default=6)
    add("--kernel-size", type=int, default=9)
    add("--max-grad-norm", type=float, default=5.0)
    add("--seed", type=int, default=0)
    add("--num-threads", type=int, default=0, help="0 leaves torch's choice")
    return parser


class Rate:
    """Learning rate: a linear warm-up, then halvings on plateaus or a straight line to 0."""

    def __init__(self, args: argparse.Namespace, steps_per_epoch: int) -> None:
        self.args, self.scale, self.stale = args, 1.0, 0
        self.num_steps = max(1, args.num_epochs * steps_per_epoch)

    def __call__(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.args.warmup_steps))
        left = max(0.0, 1.0 - step / self.num_steps) if self.args.schedule == "linear" else self.scale
        return float(self.args.lr * warm * left)

    def epoch_ended(self, epoch: int, improved: bool) -> None:
        """Halve after two epochs in a row that brought no better development WER, once the hold is over."""
        self.stale = 0 if improved or epoch <= self.args.hold_epochs else self.stale + 1
        if self.stale >= 2:
            self.scale, self.stale = self.scale / 2, 0


class Trainer:
    """One training run: model, optimiser, data, and what it wrote so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        if args.num_threads:
            torch.set_num_threads(args.num_threads)
        torch.manual_seed(args.seed)
        self.args = args
        self.tokens = read_tokens(args.data_dir / "tokens.txt")
        self.train_cuts = split_into_parts(load_cuts(args.data_dir, "train"), args.num_train_parts)
        self.dev_cuts = load_cuts(args.data_dir, "dev")
        self.dev_batches = list(eval_loader(self.dev_cuts))
        self.model, self.options, self.num_features = self._make_model()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
        self.objective = make_objective(args, self.tokens)
        self.writer = SummaryWriter(str(args.exp_dir / "tensorboard"))
        self.step = 0
        self.curves: list[dict[str, Any]] = []
        self.best_wer = float("inf")

    def _make_model(self) -> tuple[DigitModel, dict[str, Any], int]:
        if self.args.init_from is not None:
            model, facts = load_model(self.args.init_from)
            return model, facts["model_options"], facts["num_features"]
        options = {name: getattr(self.args, name) for name in ("dropout", "channels", "num_blocks", "kernel_size")}
        num_features = self.train_cuts[0][0].num_features
        stats = read_json(self.args.data_dir / "feature_stats.json")
        return DigitModel(num_features, len(self.tokens), stats, **options), options, num_features

    def save(self, name: str, epoch: int, dev_wer: float) -> None:
        """Write a checkpoint with what decoding and a later start need."""
        params = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.args).items()}
        facts = {
            "tokens": self.tokens,
            "num_features": self.num_features,
            "model_options": self.options,
            "params": params,
            "epoch": epoch,
            "step": self.step,
            "dev_wer": dev_wer,
        }
        save_checkpoint(self.args.exp_dir / name, self.model, self.optimizer, facts)

    def epoch_loader(self, epoch: int) -> Any:
        """Return the batches of an epoch: one part of the training data, the parts taking turns."""
        part = self.train_cuts[epoch % len(self.train_cuts)]
        return train_loader(part, self.args.max_duration, self.args.seed, epoch, augment=self.args.spec_augment)

    def train_epoch(self, epoch: int, rate: Rate) -> dict[str, float]:
        """Go once over the training strings; return each term's mean per utterance."""
        self.model.train()
        loader = self.epoch_loader(epoch)
        totals: dict[str, float] = {}
        num_utterances = 0
        progress = tqdm(loader, desc=f"{self.args.loss} epoch {epoch}", unit="batch", total=self.num_batches)
        for batch in progress:
            features, num_frames, texts, _ = unpack(batch)
            targets = [text_to_labels(text, self.tokens) for text in texts]
            log_probs, lengths = self.model(features, num_frames)
            terms = self.objective(log_probs, lengths, targets)
            for group in self.optimizer.param_groups:
                group["lr"] = rate(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            (terms["loss"] / len(texts)).backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.step += 1
            num_utterances += len(texts)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.item()
                self.writer.add_scalar(f"train/{name}", value.item() / len(texts), self.step)
            self.writer.add_scalar("train/grad_norm", norm.item(), self.step)
            progress.set_postfix({name: f"{total / num_utterances:.3f}" for name, total in totals.items()})
        return {name: total / num_utterances for name, total in totals.items()}

    def dev_wer(self) -> float:
        """Return the development word error rate in percent, greedy through the topology."""
        hypotheses = decode_batches(self.model, self.dev_batches, self.tokens, self.args.topology, ["greedy"])
        return float(score(self.dev_cuts, hypotheses["greedy"])["wer"])

    def record(self, epoch: int, terms: dict[str, float], seconds: float) -> bool:
        """Measure, log and save after an epoch; return whether it is the best so far."""
        wer = self.dev_wer()
        improved = wer < self.best_wer
        lr = self.optimizer.param_groups[0]["lr"]
        entry = {"epoch": epoch, "step": self.step, "dev_wer": wer, "lr": lr, "seconds": round(seconds, 2), **terms}
        self.curves.append(entry)
        write_json(self.args.exp_dir / "curves.json", self.curves)
        self.writer.add_scalar("dev/wer", wer, self.step)
        self.writer.add_scalar("train/lr", lr, self.step)
        self.save("last.pt", epoch, wer)
        if improved:
            self.best_wer = wer
            self.save("best.pt", epoch, wer)
        tqdm.write(" ".join(f"{key}={value:.4g}" for key, value in entry.items()))
        return improved

    def run(self) -> dict[str, Any]:
        """Train until the last epoch or until development WER has been flat for ``patience`` epochs."""
        self.num_batches = sum(1 for _ in self.epoch_loader(1).sampler)
        rate = Rate(self.args, self.num_batches)
        if self.args.init_from is not None:
            self.record(0, {}, 0.0)
        flat = 0
        for epoch in range(1, self.args.num_epochs + 1):
            start = time.perf_counter()
            terms = self.train_epoch(epoch, rate)
            improved = self.record(epoch, terms, time.perf_counter() - start)
            rate.epoch_ended(epoch, improved)
            flat = 0 if improved or epoch <= self.args.hold_epochs else flat + 1
            if flat >= self.args.patience:
                break
        self.writer.close()
        return {
            "dev_wer": self.best_wer,
            "epochs": self.curves[-1]["epoch"],
            "steps": self.step,
            "flat_epochs": flat,
            "num_parameters": num_parameters(self.model),
        }


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Run a training and return its summary, also in ``summary.json``."""
    args.exp_dir.mkdir(parents=True, exist_ok=True)
    write_json(args.exp_dir / "params.json", {key: str(value) for key, value in vars(args).items()})
    summary = Trainer(args).run()
    write_json(args.exp_dir / "summary.json", summary)
    return summary


if __name__ == "__main__":
    print(json.dumps(train(get_parser().parse_args()), indent=2))
