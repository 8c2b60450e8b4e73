"""Checkpoints: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from model import DigitModel
from torch import nn


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Write under a temporary name, flush to the disk, then rename over the last one.

    Only tensors, strings and integers go into the file, everything else as JSON text: torch 1.13 reads no floats
    back unless it may run code.
    """
    optimizer_state = optimizer.state_dict()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer_state["state"],
        "optimizer_groups": json.dumps(optimizer_state["param_groups"]),
        "facts": json.dumps(facts),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_model(path: Path) -> tuple[DigitModel, dict[str, Any]]:
    """Return the model of a checkpoint and its facts (``tokens``, ``model_options``, ``params``, ``epoch``)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    facts: dict[str, Any] = json.loads(state["facts"])
    model = DigitModel(facts["num_features"], len(facts["tokens"]), **facts["model_options"])
    model.load_state_dict(state["model"])
    return model, facts
