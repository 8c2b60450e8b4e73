"""Values computed independently of this project, in tests/vectors; a missing file fails."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import topologies
from tests import oracles
from tests.losses.engines import EVERY_BACKEND, tolerance
from tests.topologies.checks import total_log_mass
from wfst_losses import Exhaustive, ctc_loss, mwer_loss

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "topology_losses.json").read_text())
NAMES = list(CASES[0]["topologies"])


def log_probs_of(case: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(case["log_probs"], dtype=torch.float64)


def batched(case: dict[str, Any], name: str) -> tuple[torch.Tensor, list[list[int]], list[int], list[dict[str, Any]]]:
    """One utterance per target, all with the case's emissions."""
    rows = case["topologies"][name]["targets"]
    log_probs = log_probs_of(case)
    targets = [row["target"] for row in rows]
    return log_probs.expand(len(rows), *log_probs.shape).clone(), targets, [len(log_probs)] * len(rows), rows


def test_the_file_has_what_it_should() -> None:
    assert len(CASES) == 8
    assert NAMES == ["correct", "compact", "minimal", "selfless"]
    assert sum(len(case["topologies"][name]["targets"]) for case in CASES for name in NAMES) >= 150


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_ctc_loss(case: dict[str, Any], name: str, backend: str) -> None:
    log_probs, targets, lengths, rows = batched(case, name)
    found = ctc_loss(log_probs, targets, lengths, topology=name, backend=backend)
    wanted = [float(row["ctc_loss"]) for row in rows]
    assert found.tolist() == pytest.approx(wanted, abs=max(tolerance(backend), 1e-8), rel=0)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_mwer_loss_over_all_hypotheses(case: dict[str, Any], name: str, backend: str) -> None:
    log_probs, targets, lengths, rows = batched(case, name)
    found = mwer_loss(
        log_probs, targets, lengths, topology=name, sampler=Exhaustive(), baseline="none", backend=backend
    )
    wanted = [row["expected_token_errors"] for row in rows]
    assert found.tolist() == pytest.approx(wanted, abs=tolerance(backend), rel=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_total_mass(case: dict[str, Any], name: str) -> None:
    log_probs = log_probs_of(case)
    graph = topologies.build(name, log_probs.shape[1]).graph()
    wanted = case["topologies"][name]["log_total_mass"]
    assert float(total_log_mass(graph, log_probs[None])[0]) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_oracles_agree(name: str) -> None:
    for case in CASES:
        log_probs = log_probs_of(case)
        topology = topologies.build(name, log_probs.shape[1])
        for row in case["topologies"][name]["targets"]:
            mass = float(oracles.log_mass(topology, log_probs, row["target"]))
            assert mass == (-math.inf if row["ctc_loss"] == "inf" else pytest.approx(-row["ctc_loss"], abs=1e-9))
            errors = float(oracles.expected_errors(topology, log_probs, row["target"]))
            assert errors == pytest.approx(row["expected_token_errors"], abs=1e-9)
