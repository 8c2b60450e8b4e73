"""Checkpoints: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from model import DigitModel


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write under a temporary name, flush to the disk, then rename over the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_model(path: Path) -> tuple[DigitModel, dict[str, Any]]:
    """Return the model of a checkpoint, and the checkpoint itself (``tokens``, ``params``, ``epoch``)."""
    state = load_checkpoint(path)
    model = DigitModel(state["num_features"], len(state["tokens"]), **state["model_options"])
    model.load_state_dict(state["model"])
    return model, state
