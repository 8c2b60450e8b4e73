"""The state of everything that draws at random, as tensors and text, and back."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators: lhotse's transforms draw from all of them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global one is what others draw from)
    torch.manual_seed(seed)


def generator_states(own: torch.Generator) -> dict[str, Any]:
    """Return the states of the global generators and of one more: tensors and text, which load without running code."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    states = {
        "torch": torch.get_rng_state(),
        "own": own.get_state(),
        "numpy_keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "others": json.dumps({"python": random.getstate(), "numpy": [kind, *rest]}),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: dict[str, Any], own: torch.Generator) -> None:
    """Set every generator as it was."""
    torch.set_rng_state(states["torch"])
    own.set_state(states["own"])
    others = json.loads(states["others"])
    version, internal, gauss = others["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, *rest = others["numpy"]
    np.random.set_state((kind, states["numpy_keys"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
