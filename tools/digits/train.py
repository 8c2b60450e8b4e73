"""Train the digit model with CTC, or fine-tune it for fewer word errors.

    python tools/digits/train.py --data-dir data --exp-dir exp/ctc --loss ctc
    python tools/digits/train.py --data-dir data --exp-dir exp/mwer --loss mwer --init-from exp/ctc/best.pt \
        --lr 3e-4 --num-epochs 6 --warmup-steps 50

Writes in the experiment folder: ``last.pt`` and ``best.pt`` (lowest development word error rate), ``curves.json``,
``params.json``, ``left-out.txt`` (utterances without a finite loss, by cut) and TensorBoard scalars.

With ``--resume`` a training that was stopped at any moment goes on from ``last.pt`` and ends with the same parameters,
to the last bit, as one that was not. In several processes: ``torchrun --nproc_per_node 2 tools/digits/train.py ...``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from checkpoint import load_model, resume, save_checkpoint
from data import eval_loader, is_duplicate, load_cuts, split_into_parts, train_loader, unpack
from decode import decode_batches, score
from generators import generator_states, restore_generators, seed_all
from lexicon import read_tokens, text_to_labels
from model import BLOCKS, AllOutputs, DigitModel, num_parameters
from objectives import LOSSES, PEERS, SAMPLERS
from processes import Processes, start_processes
from results import read_json, write_json
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from training_loss import TrainingLoss

import topologies

MAY_CHANGE = ("data_dir", "exp_dir", "resume", "save_every_steps", "num_threads", "init_from")
"""Options that a resumed training may be given other values of."""
STATE = ("step", "epoch", "batch", "flat", "seconds", "cpu_seconds", "totals", "curves", "best_wer")
"""How far a trainer has come: with model, optimiser, rate and generators all that decides what it does next."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="what prepare.py wrote")
    add("--exp-dir", type=Path, required=True, help="folder for checkpoints, curves, TensorBoard")
    add("--loss", choices=(*LOSSES, *PEERS), default="ctc")
    add("--stages", nargs="+", default=[], metavar="LOSS:STEP", help="losses in turn, such as ctc:0 mmi:300 mwer:600")
    add("--lm-order", type=int, default=2, help="of MMI's language model over the training texts' letters")
    add("--intermediate-layers", type=int, nargs="+", default=[], help="CTC after these blocks too, counted from 1")
    add("--intermediate-ctc-weight", type=float, default=0.3)
    add("--topology", choices=tuple(topologies.TOPOLOGIES), default="correct")
    add("--risk", choices=("word", "token"), default="word", help="what MWER counts")
    add("--num-paths", type=int, default=16, help="paths drawn per utterance by MWER")
    add("--sampler", choices=SAMPLERS, default="random", help="what picks MWER's paths")
    add("--mask-probability", type=float, default=0.5, help="of hiding a token from negative sampling")
    add("--include-reference", action="store_true", help="MWER weighs the reference among its paths")
    add("--estimator", choices=("nbest", "sampled", "exact"), default="nbest", help="of MWER; exact draws no paths")
    add("--max-errors", type=int, default=2, help="token errors that the exact estimator tells apart")
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
    add("--block", choices=BLOCKS, default="conv", help="what the model is a stack of")
    add("--channels", type=int, default=96)
    add("--num-blocks", type=int, default=6)
    add("--kernel-size", type=int, default=9)
    add("--max-grad-norm", type=float, default=5.0)
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on from last.pt, or begin where there is none")
    add("--save-every-steps", type=int, default=0, help="write last.pt within epochs too")
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

    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        if args.num_threads:
            torch.set_num_threads(args.num_threads)
        seed_all(args.seed)
        self.args, self.processes = args, processes
        self.tokens = read_tokens(args.data_dir / "tokens.txt")
        train_cuts = load_cuts(args.data_dir, "train")
        self.train_cuts = split_into_parts(train_cuts, args.num_train_parts)
        self.dev_cuts = load_cuts(args.data_dir, "dev")
        self.dev_batches = list(eval_loader(self.dev_cuts)) if processes.is_first else []
        self.model, self.options, self.num_features = self._make_model()
        self.wrapped = processes.wrap(AllOutputs(self.model))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
        # Processes draw each their own; one alone draws what it always did.
        self.generator = torch.Generator().manual_seed(args.seed + 1000 * processes.rank)
        if processes.rank:
            seed_all(args.seed + 1000 * processes.rank)
        texts = (cut.supervisions[0].text for cut in train_cuts)
        self.training_loss = TrainingLoss(args, self.tokens, texts, self.generator)
        self.num_batches = sum(1 for _ in self.epoch_loader(1).sampler)
        self.rate = Rate(args, self.num_batches)
        self.step, self.epoch, self.batch, self.flat = 0, 0, 0, 0
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.totals: dict[str, float] = {}
        self.curves: list[dict[str, Any]] = []
        self.best_wer = float("inf")
        self.writer: SummaryWriter | None = None

    def _make_model(self) -> tuple[DigitModel, dict[str, Any], int]:
        if self.args.init_from is not None:
            model, facts = load_model(self.args.init_from)
            if list(model.intermediate_layers) != self.args.intermediate_layers:
                raise ValueError(f"intermediate_layers is {self.args.intermediate_layers}, expected those of init_from")
            return model, facts["model_options"], facts["num_features"]
        names = ("dropout", "channels", "num_blocks", "kernel_size", "block", "intermediate_layers")
        options = {name: getattr(self.args, name) for name in names}
        num_features = self.train_cuts[0][0].num_features
        stats = read_json(self.args.data_dir / "feature_stats.json")
        return DigitModel(num_features, len(self.tokens), stats, **options), options, num_features

    def save(self, name: str, dev_wer: float | None = None) -> None:
        """Write a checkpoint with what decoding and a later start need; every process has to call this."""
        generators = self.processes.gather(generator_states(self.generator))
        if not self.processes.is_first:
            return
        params = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.args).items()}
        facts = {
            "tokens": self.tokens,
            "num_features": self.num_features,
            "model_options": self.options,
            "params": params,
            "dev_wer": dev_wer,
            "world_size": self.processes.world_size,
            "rate": {"scale": self.rate.scale, "stale": self.rate.stale},
            **{name: getattr(self, name) for name in STATE},
        }
        save_checkpoint(self.args.exp_dir / name, self.model, self.optimizer, facts, generators)

    def restore(self, path: Path) -> None:
        """Go on as a checkpoint of this training left off."""
        facts, generators = resume(path, self.model, self.optimizer)
        now = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.args).items()}
        other = [key for key, value in facts["params"].items() if key not in MAY_CHANGE and now.get(key) != value]
        if other:
            raise ValueError(f"{path} has {other[0]}={facts['params'][other[0]]}, expected {now.get(other[0])} as now")
        if facts["world_size"] != self.processes.world_size:
            raise ValueError(f"{path} is of {facts['world_size']} processes, expected {self.processes.world_size}")
        for name in STATE:
            setattr(self, name, facts[name])
        self.rate.scale, self.rate.stale = facts["rate"]["scale"], facts["rate"]["stale"]
        restore_generators(generators[self.processes.rank], self.generator)

    def epoch_loader(self, epoch: int) -> Any:
        """Return the batches of an epoch: one part of the training data, the parts taking turns."""
        part = self.train_cuts[epoch % len(self.train_cuts)]
        return train_loader(part, self.args.max_duration, self.args.seed, epoch, augment=self.args.spec_augment)

    def batches(self, epoch: int) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch that are still to come: the sampler's order is the epoch's alone."""
        loader = self.epoch_loader(epoch)
        for cuts in itertools.islice(loader.sampler, self.batch, None):
            yield loader.dataset[cuts]

    def train_epoch(self) -> dict[str, float]:
        """Go through what is left of the epoch; return each term's mean per utterance of finite loss."""
        self.wrapped.train()
        is_quiet = not self.processes.is_first
        name = "+".join(self.training_loss.weighted.schedules)
        progress = tqdm(
            self.batches(self.epoch),
            desc=f"{name} epoch {self.epoch}",
            unit="batch",
            initial=self.batch,
            total=self.num_batches,
            disable=is_quiet,
        )
        for batch in progress:
            self.train_step(batch)
            self.batch += 1
            number = max(1.0, self.totals["num_utterances"])
            progress.set_postfix(
                {key: f"{value / number:.3f}" for key, value in self.totals.items() if key != "num_utterances"}
            )
            if self.args.save_every_steps and self.step % self.args.save_every_steps == 0:
                self.save("last.pt")
        names = sorted(self.totals)
        sums = dict(zip(names, self.processes.sum(*(self.totals[key] for key in names)), strict=True))
        number = max(1.0, sums.pop("num_utterances"))
        left_out = sums.pop("num_left_out")
        return {**{key: value / number for key, value in sums.items()}, "num_left_out": left_out}

    def train_step(self, batch: dict[str, Any]) -> None:
        """Update the parameters by the mean over the utterances of finite loss, of all processes together."""
        features, num_frames, texts, ids = unpack(batch)
        targets = [text_to_labels(text, self.tokens) for text in texts]
        device = self.processes.device
        outputs, lengths = self.wrapped(features.to(device), num_frames.to(device))
        terms = self.training_loss(outputs, lengths, targets, self.step)
        counted = terms["loss"].detach().isfinite()
        self.report_left_out([cut_id for cut_id, is_in in zip(ids, counted.tolist(), strict=True) if not is_in])
        # What lhotse handed out twice so that no process stays without a batch counts once.
        counted &= torch.tensor([not is_duplicate(cut_id) for cut_id in ids], device=counted.device)
        loss, number = self.processes.mean(terms["loss"], counted)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        if number:
            self.optimizer.step()
        self.step += 1
        own = max(1, int(counted.sum()))
        self.count(num_utterances=float(counted.sum()), num_left_out=float((~terms["loss"].detach().isfinite()).sum()))
        for name, value in terms.items():
            total = float(value.detach()[counted].sum())
            self.count(**{name: total})
            self.log(f"train/{name}", total / own)
        self.log("train/grad_norm", float(norm))

    def count(self, **values: float) -> None:
        """Add to the epoch's totals."""
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def log(self, name: str, value: float) -> None:
        """Write a scalar for TensorBoard."""
        if self.writer is not None:
            self.writer.add_scalar(name, value, self.step)

    def report_left_out(self, ids: list[str]) -> None:
        """Name the utterances of infinite loss, which no alignment fits; they are left out of the mean."""
        if not ids:
            return
        message = f"step {self.step}: left out, no alignment fits: {', '.join(ids)}"
        tqdm.write(message, file=sys.stderr)
        with (self.args.exp_dir / "left-out.txt").open("a", encoding="utf-8") as file:
            file.write(message + "\n")

    def dev_wer(self) -> float:
        """Return the development word error rate in percent, greedy through the topology."""
        wer = 0.0
        if self.processes.is_first:
            hypotheses = decode_batches(self.model, self.dev_batches, self.tokens, self.args.topology, ["greedy"])
            wer = float(score(self.dev_cuts, hypotheses["greedy"])["wer"])
        return self.processes.from_first(wer)

    def record(self, terms: dict[str, float]) -> None:
        """Measure, log and save after an epoch."""
        wer = self.dev_wer()
        improved = wer < self.best_wer
        lr = self.optimizer.param_groups[0]["lr"]
        times = {"seconds": round(self.seconds, 2), "cpu_seconds": round(self.cpu_seconds, 2)}
        entry = {"epoch": self.epoch, "step": self.step, "dev_wer": wer, "lr": lr, **times, **terms}
        self.curves.append(entry)
        self.best_wer = min(wer, self.best_wer)
        if self.epoch:
            self.rate.epoch_ended(self.epoch, improved)
            self.flat = 0 if improved or self.epoch <= self.args.hold_epochs else self.flat + 1
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, {}
        self.seconds, self.cpu_seconds = 0.0, 0.0
        if improved:
            self.save("best.pt", wer)
        # The last to be written: whoever resumes from it finds all the others there.
        self.save("last.pt", wer)
        if self.processes.is_first:
            write_json(self.args.exp_dir / "curves.json", self.curves)
            self.log("dev/wer", wer)
            self.log("train/lr", lr)
            tqdm.write(" ".join(f"{key}={value:.4g}" for key, value in entry.items()))

    def run(self) -> dict[str, Any]:
        """Train until the last epoch or until development WER has been flat for ``patience`` epochs."""
        last = self.args.exp_dir / "last.pt"
        if self.args.resume and last.exists():
            self.restore(last)
        if self.processes.is_first:
            self.writer = SummaryWriter(str(self.args.exp_dir / "tensorboard"), purge_step=self.step or None)
        if self.epoch == 0 and self.args.init_from is not None:
            self.record({})
        self.epoch = max(1, self.epoch)
        while self.epoch <= self.args.num_epochs and self.flat < self.args.patience:
            start, cpu_start = time.perf_counter(), time.process_time()
            terms = self.train_epoch()
            self.seconds += time.perf_counter() - start
            self.cpu_seconds += time.process_time() - cpu_start
            self.record(terms)
        if self.writer is not None:
            self.writer.close()
        return {
            "dev_wer": self.best_wer,
            "epochs": self.curves[-1]["epoch"],
            "steps": self.step,
            "flat_epochs": self.flat,
            "num_parameters": num_parameters(self.model),
        }


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Run a training and return its summary, also in ``summary.json``."""
    processes = start_processes()
    args.exp_dir.mkdir(parents=True, exist_ok=True)
    if processes.is_first:
        write_json(args.exp_dir / "params.json", {key: str(value) for key, value in vars(args).items()})
    summary = Trainer(args, processes).run()
    if processes.is_first:
        write_json(args.exp_dir / "summary.json", summary)
    processes.end()
    return summary


if __name__ == "__main__":
    try:
        result = train(get_parser().parse_args())
    except (OSError, ValueError) as error:
        sys.exit(f"train.py: {error}")
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(result, indent=2))
