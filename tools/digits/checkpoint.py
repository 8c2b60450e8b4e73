"""Checkpoints: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from model import DigitModel
from torch import nn


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    generators: list[dict[str, Any]] | None = None,
) -> None:
    """Write under a temporary name, flush to the disk, then rename over the last one.

    Only tensors, strings and integers go into the file, everything else as JSON text: torch 1.13 reads no floats
    back unless it may run code. ``generators`` are each process's, see ``generators.py``.

    Raises:
        OSError: if the disk does not take it, naming the file; whatever was there is kept and nothing is left over.
    """
    optimizer_state = optimizer.state_dict()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer_state["state"],
        "optimizer_groups": json.dumps(optimizer_state["param_groups"]),
        "facts": json.dumps(facts),
        "generators": generators or [],
    }
    # An error of the disk inside torch.save would end the process in C++.
    content = io.BytesIO()
    torch.save(state, content)
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        kept = "the one before is kept" if path.exists() else "there is none before"
        raise OSError(error.errno, f"checkpoint not written ({error.strerror}), {kept}", str(path)) from error


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: a rename is there after a power cut only then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_model(path: Path) -> tuple[DigitModel, dict[str, Any]]:
    """Return the model of a checkpoint and its facts (``tokens``, ``model_options``, ``params``, ``epoch``)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    facts: dict[str, Any] = json.loads(state["facts"])
    model = DigitModel(facts["num_features"], len(facts["tokens"]), **facts["model_options"])
    model.load_state_dict(state["model"])
    return model, facts


def resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Set model and optimiser as a checkpoint has them; return its facts and each process's generators."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    groups = json.loads(state["optimizer_groups"])
    for group in groups:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
    return json.loads(state["facts"]), state["generators"]
