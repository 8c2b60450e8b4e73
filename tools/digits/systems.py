"""What the experiment trains from a seed's converged model, and what differs between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class System:
    """A fine-tuning: its name in tables, its loss, and the options of train.py in which it departs from the others."""

    title: str
    loss: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


BASELINE = "continued"
"""What every other system is held against."""

SYSTEMS = {
    BASELINE: System("CTC, trained on", "ctc"),
    "mwer": System("MWER", "mwer"),
    "mwer-tokens": System("MWER, sampled, token risk", "mwer", {"risk": "token"}),
    "mwer-nbest": System(
        "MWER, 16 best", "mwer", {"estimator": "nbest", "sampler": "nbest", "num_paths": 16, "path_score": "sum"}
    ),
    "mwer-negative": System(
        "MWER, negative sampling, and CTC",
        "mwer",
        {
            "estimator": "nbest",
            "sampler": "negative",
            "num_paths": 16,
            "mask_probability": 0.15,
            "include_reference": True,
            "path_score": "sum",
            "ctc_weight": 0.1,
        },
    ),
    "mwer-exact": System(
        "MWER, exact, token risk",
        "mwer",
        {"estimator": "exact", "risk": "token", "max_errors": 1, "path_score": "sum"},
    ),
    "k2-mwer": System("k2.mwer_loss, token risk", "k2-mwer", {"num_paths": 16, "nbest_scale": 0.5}),
}
ALWAYS = (BASELINE, "mwer")
OTHERS = tuple(name for name in SYSTEMS if name not in ALWAYS)
TITLES = {"converged": "CTC, converged", **{name: system.title for name, system in SYSTEMS.items()}}
