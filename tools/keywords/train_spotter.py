"""Train a keyword spotter with one of three losses.

    python tools/keywords/train_spotter.py --data-dir data --exp-dir exp/smoothed --loss smoothed

The same seed gives every loss the same network to start from and the same batches. Writes ``last.pt`` into the
experiment's folder.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import digits_path  # noqa: F401
import torch
from checkpoint import save_checkpoint
from data import load_cuts, train_loader, unpack
from keyword_losses import LOSSES, KeywordLoss, make_loss
from prepare import NUM_FEATURES
from results import read_json
from spotter import Spotter
from torch.utils.data import DataLoader
from tqdm import tqdm

WARMUP_PART = 0.15
"""Part of the training in which the rate rises."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder written by prepare_streams.py")
    add("--exp-dir", type=Path, required=True)
    add("--loss", choices=LOSSES, default="smoothed")
    add("--num-epochs", type=int, default=6)
    add("--lr", type=float, default=3e-3)
    add("--max-duration", type=float, default=120.0, help="seconds of speech in a batch")
    add("--negative-weight", type=float, default=0.3, help="weight of what lies outside of keywords")
    add("--label-seconds", type=float, default=0.3, help="how much of a keyword's end cross-entropy labels")
    add("--max-norm", type=float, default=100.0, help="longer gradients are clipped; high, so that no loss lives by it")
    add("--channels", type=int, default=64)
    add("--num-blocks", type=int, default=4)
    add("--seed", type=int, default=0)
    add("--num-threads", type=int, default=2)
    return parser


def rate(done: float) -> float:
    """Part of the full rate after ``done`` of all steps: up in a line, down in half a cosine."""
    if done < WARMUP_PART:
        return done / WARMUP_PART
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (done - WARMUP_PART) / (1.0 - WARMUP_PART))))


def train_epoch(
    model: Spotter,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[dict[str, Any]],
    loss_function: KeywordLoss,
    args: argparse.Namespace,
    epoch: int,
    num_batches: int,
) -> tuple[float, int]:
    """The mean loss, and how many utterances had no frame left for a keyword."""
    total, num_finite, num_impossible = 0.0, 0, 0
    for number, batch in enumerate(loader, start=1):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate((epoch - 1 + min(1.0, number / num_batches)) / args.num_epochs)
        features, num_frames, _, _ = unpack(batch)
        logits, lengths = model(features, num_frames)
        losses = loss_function(logits, lengths, batch["supervisions"]["cut"])
        finite = losses.isfinite()
        optimizer.zero_grad(set_to_none=True)
        (losses[finite].sum() / max(1, int(finite.sum()))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_norm)
        optimizer.step()
        total += float(losses[finite].detach().sum())
        num_finite += int(finite.sum())
        num_impossible += int((~finite).sum())
    return total / max(1, num_finite), num_impossible


def train_spotter(args: argparse.Namespace) -> dict[str, Any]:
    """Train, write ``last.pt``, return what there is to know about it."""
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    cuts = load_cuts(args.data_dir, "train")
    keywords: list[str] = read_json(args.data_dir / "summary.json")["keywords"]
    options = {"channels": args.channels, "num_blocks": args.num_blocks}
    model = Spotter(NUM_FEATURES, len(keywords), read_json(args.data_dir / "feature_stats.json"), **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    loss_function = make_loss(args.loss, keywords, args.negative_weight, args.label_seconds)
    num_batches = sum(1 for _ in train_loader(cuts, args.max_duration, args.seed, 1).sampler)
    facts: dict[str, Any] = {
        "loss": args.loss,
        "keywords": keywords,
        "num_features": NUM_FEATURES,
        "model_options": options,
        "params": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "curve": [],
        "num_impossible": 0,
    }
    for epoch in tqdm(range(1, args.num_epochs + 1), desc=f"{LOSSES[args.loss]}, seed {args.seed}", unit="epoch"):
        loader = train_loader(cuts, args.max_duration, args.seed, epoch, augment=True)
        mean, num_impossible = train_epoch(model, optimizer, loader, loss_function, args, epoch, num_batches)
        facts["curve"].append(round(mean, 4))
        facts["num_impossible"] += num_impossible
    save_checkpoint(args.exp_dir / "last.pt", model, optimizer, facts)
    return facts


if __name__ == "__main__":
    print(json.dumps(train_spotter(get_parser().parse_args()), indent=2))
