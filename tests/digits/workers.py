"""What the tests run in processes of their own: importable, so that it need not be copied into them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "digits"))

import torch
import train
from lexicon import make_tokens, text_to_labels
from model import AllOutputs, DigitModel
from processes import start_processes
from training_loss import TrainingLoss

# Loaded when first used otherwise, which would be in every process anew.
import wfst_losses.backends.native.backend
import wfst_losses.compiled.chain_composition  # noqa: F401

TEXTS = ["one two", "six", "three", "two two", "nine", "zero"]
FRAMES = [57, 40, 44, 60, 33, 41]
TOO_LONG = "three three three three"


def run_training(arguments: list[str], started: Any) -> None:
    """Train, telling when it begins; silently."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as the process lives)
    sys.stdout = sys.stderr
    started.set()
    train.train(train.get_parser().parse_args(arguments))


def training_loss(loss: str) -> TrainingLoss:
    """As train.py makes it, with an intermediate layer."""
    command = ["--data-dir", "x", "--exp-dir", "x", "--loss", loss, "--intermediate-layers", "1"]
    # The exact estimator: drawn paths would differ between one process and two.
    command += ["--lattice", "log-probs", "--estimator", "exact", "--risk", "token", "--max-errors", "1"]
    args = train.get_parser().parse_args(command)
    return TrainingLoss(args, make_tokens(), TEXTS, torch.Generator().manual_seed(0))


def gradients(rows: list[int], loss: str, infinite: list[int], counted: list[bool]) -> tuple[torch.Tensor, int]:
    """The gradient of a step with these utterances, as this process has it, and how many of all entered."""
    torch.set_num_threads(1)
    processes = start_processes()
    torch.manual_seed(0)
    model = DigitModel(40, len(make_tokens()), channels=8, num_blocks=2, intermediate_layers=[1], dropout=0.0).double()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(TEXTS), max(FRAMES), 40, generator=generator, dtype=torch.float64)[rows]
    frames = torch.tensor([FRAMES[row] for row in rows])
    texts = [TOO_LONG if row in infinite else TEXTS[row] for row in rows]
    targets = [text_to_labels(text, make_tokens()) for text in texts]
    # Kept until after the backward pass, which DDP takes part in.
    wrapped = processes.wrap(AllOutputs(model))
    outputs, lengths = wrapped(features, frames)
    terms = training_loss(loss)(outputs, lengths, targets, step=0)
    mean, number = processes.mean(terms["loss"], terms["loss"].detach().isfinite() & torch.tensor(counted))
    mean.backward()
    processes.end()
    return torch.cat(
        [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    ), number


def distributed_gradients(rank: int, port: int, results: Any, shares: list[list[int]], *arguments: Any) -> None:
    """One of several processes: its share of the rows."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(shares), "LOCAL_WORLD_SIZE": len(shares)}
    os.environ.update({name: str(value) for name, value in environment.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    loss, infinite, duplicates = arguments
    counted = [position not in duplicates[rank] for position in range(len(shares[rank]))]
    gradient, number = gradients(shares[rank], loss, infinite, counted)
    results.put((rank, gradient.numpy(), number))
