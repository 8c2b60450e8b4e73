"""The native backend's Triton kernels: on CPU tensors in Triton's interpreter, and through the compiler for a GPU.

The interpreter shows wrong sums. It shows neither races nor barriers: ``tools/benchmarks/gpu.py`` compares on a GPU.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

import topologies
from tests.backends.test_any_graph import LENGTHS, NUM_LABELS, enumerated_total
from tests.losses.checks import assert_ctc, gradient, random_batch
from tests.losses.test_mmi import VARIANTS, bigram
from tests.losses.test_vectors import CASES, NAMES
from tests.topologies.checks import random_log_probs
from tests.topologies.random_graphs import graphs
from tests.topologies.test_fifth_topology import RestingTopology, SilenceTopology, TwoFrameTopology
from topologies import Graph, GraphBatch
from wfst_losses import LanguageModel, ctc_loss, mmi_loss
from wfst_losses.backends import get_backend
from wfst_losses.backends.backend import AbstractBackend
from wfst_losses.emissions import Emissions, read_emissions

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    # The interpreter computes with numpy, which warns of what kernels do on purpose: of -inf minus -inf, say.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
]

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


TWO_WAYS = Graph(
    np.array([0, 0, 1, 2], dtype=np.int32),
    np.array([1, 2, 1, 2], dtype=np.int32),
    np.array([0, 1, 0, 1], dtype=np.int32),
    np.array([0, 1, 0, 1], dtype=np.int32),
    np.zeros(4, dtype=np.float32),
    np.array([-np.inf, 0.0, 0.5], dtype=np.float32),
)
"""Ways that never meet: all frames read label 0, or all read label 1."""


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    from wfst_losses.backends.native.cuda import layout, passes

    # Every program costs the interpreter some 10 ms: a few large ones.
    monkeypatch.setattr(passes, "SHARED_ROWS", 16)
    yield
    layout.lay_out_shared.cache_clear()


@pytest.fixture
def native() -> AbstractBackend:
    return get_backend("native", CPU)


def test_the_kernels_are_what_runs(native: AbstractBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from wfst_losses.backends.native.cuda import sums

    monkeypatch.setattr(sums, "_find", None)
    with pytest.raises(TypeError, match="NoneType"):
        ctc_loss(torch.zeros(1, 2, 3), [[1]], [2], check_normalised=False, backend="native")
    with pytest.raises(TypeError, match="NoneType"):
        native.shared_total_scores(one(topologies.build("minimal", 3).graph()), emissions_of(torch.zeros(1, 2, 3), [2]))


def one(graph: Graph) -> GraphBatch:
    return GraphBatch.from_graphs([graph])


def emissions_of(scores: torch.Tensor, lengths: list[int], *, from_logits: bool = False) -> Emissions:
    return read_emissions(scores, lengths, check_normalised=False, from_logits=from_logits)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_ctc_vectors(name: str, dtype: torch.dtype) -> None:
    for num_labels in {len(case["log_probs"][0]) for case in CASES}:
        cases = [case for case in CASES if len(case["log_probs"][0]) == num_labels]
        rows = [(case, row) for case in cases for row in case["topologies"][name]["targets"]]
        log_probs = torch.full((len(rows), max(len(case["log_probs"]) for case in cases), num_labels), torch.nan)
        log_probs = log_probs.to(dtype)
        for utterance, (case, _) in enumerate(rows):
            log_probs[utterance, : len(case["log_probs"])] = torch.tensor(case["log_probs"], dtype=dtype)
        lengths = [len(case["log_probs"]) for case, _ in rows]
        found = ctc_loss(log_probs, [row["target"] for _, row in rows], lengths, topology=name, backend="native")
        wanted = [float(row["ctc_loss"]) for _, row in rows]
        assert found.tolist() == pytest.approx(wanted, abs=max(TOLERANCE[dtype], 1e-8), rel=0)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_mmi_vectors(case: dict[str, Any], dtype: torch.dtype) -> None:
    log_probs, model = torch.tensor(case["log_probs"], dtype=dtype), bigram(case["bigram"])
    for name in NAMES:
        rows = case["topologies"][name]["targets"]
        batch = log_probs.expand(len(rows), *log_probs.shape), [row["target"] for row in rows]
        # Both variants in float64; boosting doubles the numerators' work and adds nothing to what float32 shows.
        for key in list(VARIANTS)[: 2 if dtype == torch.float64 else 1]:
            options = VARIANTS[key]
            lengths = [len(log_probs)] * len(rows)
            found = mmi_loss(*batch, lengths, language_model=model, topology=name, backend="native", **options)
            wanted = [float(row[key]) for row in rows]
            assert found.tolist() == pytest.approx(wanted, abs=max(TOLERANCE[dtype], 1e-8), rel=0), (name, key)


@hypothesis.given(
    parts=st.lists(graphs(num_labels=NUM_LABELS), min_size=1, max_size=5),
    data=st.data(),
    dtype=st.sampled_from(list(TOLERANCE)),
    most_nodes=st.sampled_from([0, 1024]),
)
@hypothesis.settings(max_examples=16, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_graphs(
    native: AbstractBackend, parts: list[Graph], data: st.DataObject, dtype: torch.dtype, most_nodes: int
) -> None:
    from wfst_losses.backends.native.cuda import tables

    utterances = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(parts), max_size=len(parts))))
    log_probs = random_log_probs(data.draw(st.integers(0, 1000)), 3, 4, NUM_LABELS)
    leaves = [log_probs.to(dtype).requires_grad_(), log_probs.clone().requires_grad_()]
    with pytest.MonkeyPatch.context() as patch:
        # Large graphs go frame by frame, small ones in one launch.
        patch.setattr(tables, "MOST_NODES", most_nodes)
        emissions = emissions_of(leaves[0], LENGTHS)
        found = native.total_scores(GraphBatch.from_graphs(parts), emissions, torch.tensor(utterances))
    wanted = torch.stack(
        [
            enumerated_total(part, leaves[1][utterance, : LENGTHS[utterance]])
            for part, utterance in zip(parts, utterances, strict=True)
        ]
    )
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2 * TOLERANCE[dtype])
    weights = torch.arange(1.0, 1.0 + len(parts), dtype=torch.float64)
    gradients = [
        gradient(values.double() * weights, leaf) for values, leaf in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=0, atol=20 * TOLERANCE[dtype])


@hypothesis.given(
    graph=graphs(num_labels=NUM_LABELS), seed=st.integers(0, 1000), dtype=st.sampled_from(list(TOLERANCE))
)
@hypothesis.settings(max_examples=12, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_shared_graph(native: AbstractBackend, graph: Graph, seed: int, dtype: torch.dtype) -> None:
    log_probs = random_log_probs(seed, 3, 4, NUM_LABELS)
    leaves = [log_probs.to(dtype).requires_grad_(), log_probs.clone().requires_grad_()]
    found = native.shared_total_scores(one(graph), emissions_of(leaves[0], LENGTHS))
    rows = zip(leaves[1], LENGTHS, strict=True)
    wanted = torch.stack([enumerated_total(graph, row[:length]) for row, length in rows])
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2 * TOLERANCE[dtype])
    gradients = [gradient(values, leaf) for values, leaf in zip((found, wanted), leaves, strict=True)]
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=0, atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_long_rows_small_tiles_and_ragged_utterances(
    native: AbstractBackend, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, from_logits: bool
) -> None:
    from wfst_losses.backends.native.cuda import layout, passes, sweeps

    graph = one(topologies.build("compact", 6).graph())
    scores = 3 * torch.from_numpy(np.random.default_rng(1).standard_normal((5, 4, 6)))
    lengths = [2, 4, 0, 3, 4]
    for utterance, length in enumerate(lengths):
        scores[utterance, length:] = torch.nan
    leaves = [scores.to(dtype).requires_grad_(), scores.clone().requires_grad_()]
    wanted = get_backend("reference", CPU).shared_total_scores(
        graph, emissions_of(leaves[1], lengths, from_logits=from_logits)
    )
    wanted_gradient = gradient(wanted, leaves[1])
    for longest, rows in ((2, 1), (3, 16)):
        monkeypatch.setattr(sweeps, "LONGEST_ROW", longest)
        monkeypatch.setattr(passes, "SHARED_ROWS", rows)
        layout.lay_out_shared.cache_clear()
        found = native.shared_total_scores(graph, emissions_of(leaves[0], lengths, from_logits=from_logits))
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2 * TOLERANCE[dtype])
        torch.testing.assert_close(gradient(found, leaves[0]).double(), wanted_gradient, rtol=0, atol=TOLERANCE[dtype])


def test_no_row_is_longer_than_it_may_be() -> None:
    from wfst_losses.backends.native.cuda import nodes, sweeps

    graph = nodes.number_nodes(one(topologies.build("compact", 700).graph()))
    for forwards in (False, True):
        found = sweeps.sweep(graph, forwards=forwards)
        assert np.diff(found.begins).max() == sweeps.LONGEST_ROW
        assert sorted(found.slots) == list(range(found.num_slots))
        assert found.num_slots == len(graph.levels) + 3


def test_scaled_sums_that_lose_paths_are_found_and_summed_again(
    native: AbstractBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wfst_losses.backends.native.cuda import sums

    # One way is hopeless at first and ahead at the end, the other the opposite: both count, neither survives scaling.
    log_probs = torch.zeros(2, 8, 2)
    log_probs[0, :4, 0] = log_probs[0, 4:, 1] = -40.0
    # The other utterance needs scaling too, and loses nothing by it.
    log_probs[1, ::2, 0] = log_probs[1, 1::2, 1] = -3.0
    redone = []
    exact = sums.log_passes

    def counted(*arguments: Any, **options: Any) -> Any:
        redone.append(arguments[1].utterances.tolist())
        return exact(*arguments, **options)

    monkeypatch.setattr(sums, "log_passes", counted)
    leaf = log_probs.clone().requires_grad_()
    found = native.shared_total_scores(one(TWO_WAYS), emissions_of(leaf, [8, 8]))
    assert redone == [[0]]
    oracle = log_probs.double().requires_grad_()
    wanted = torch.stack([enumerated_total(TWO_WAYS, row) for row in oracle])
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(gradient(found, leaf).double(), gradient(wanted, oracle), rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", [90.0, -90.0])
def test_graph_scores_out_of_the_range_of_scaled_sums(native: AbstractBackend, score: float) -> None:
    graph = dataclasses.replace(TWO_WAYS, score=np.array([0, score, 0, -score], dtype=np.float32))
    log_probs = random_log_probs(2, 2, 4, 2).float()
    found = native.shared_total_scores(one(graph), emissions_of(log_probs, [4, 3]))
    wanted = [
        float(enumerated_total(graph, row[:length].double())) for row, length in zip(log_probs, [4, 3], strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("topology", [TwoFrameTopology, SilenceTopology, RestingTopology])
def test_topologies_from_outside(topology: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(topologies.TOPOLOGIES, topology.name, topology)
    for seed in range(2):
        assert_ctc(topology.name, random_batch(seed, 3 + seed, 5, 4), backend="native", atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_ctc_by_enumeration_whatever_the_blank(name: str) -> None:
    assert_ctc(name, random_batch(3, 4, 5, 4, blank=2), backend="native", atol=1e-9, blank=2)


def test_impossible_targets_are_values(native: AbstractBackend) -> None:
    targets = [[1, 1, 1], [1], [2, 1, 2, 1], []]
    logits = random_batch(4, 3, 4, len(targets))[0].requires_grad_()
    losses = ctc_loss(logits, targets, [4, 4, 3, 0], from_logits=True, backend="native")
    assert (losses == torch.inf).tolist() == [True, False, True, False]
    (found,) = torch.autograd.grad(losses.sum(), logits)
    assert bool(found.isfinite().all())
    assert found.flatten(1).any(1).tolist() == [False, True, False, False]
    empty = one(
        Graph(*[np.empty(0, dtype=np.int32)] * 4, np.empty(0, dtype=np.float32), np.full(1, -np.inf, np.float32))
    )
    assert native.shared_total_scores(empty, emissions_of(logits, [4, 4, 3, 0])).tolist() == [-torch.inf] * 4


def test_gradients_in_float64() -> None:
    model = LanguageModel.uniform(3)
    leaf = random_log_probs(7, 1, 3, 3).requires_grad_()

    def ctc(logits: torch.Tensor) -> torch.Tensor:
        return ctc_loss(logits, [[1, 1]], [3], from_logits=True, topology="compact", backend="native")

    def mmi(log_probs: torch.Tensor) -> torch.Tensor:
        return mmi_loss(log_probs, [[1]], [2], language_model=model, topology="minimal", backend="native")

    for loss in (ctc, mmi):
        assert torch.autograd.gradcheck(loss, leaf, eps=1e-6, atol=1e-6)
    (first,) = torch.autograd.grad(ctc(leaf).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        first.sum().backward()


def test_order_splits_and_repeats_change_no_bit(native: AbstractBackend) -> None:
    scores, targets, lengths = random_batch(11, 4, 6, 4)
    graph = one(topologies.build("correct", 4).graph())

    def run(chosen: list[int]) -> tuple[torch.Tensor, ...]:
        leaf = scores[chosen].float().requires_grad_()
        some = [lengths[row] for row in chosen]
        losses = ctc_loss(leaf, [targets[row] for row in chosen], some, from_logits=True, backend="native")
        totals = native.shared_total_scores(graph, emissions_of(leaf, some, from_logits=True))
        return losses.detach(), gradient(losses, leaf), totals.detach(), gradient(totals, leaf)

    whole = run([0, 1, 2, 3])
    for chosen in ([0, 1, 2, 3], [3, 1, 0, 2], [2]):
        for found, wanted in zip(run(chosen), whole, strict=True):
            assert torch.equal(found, wanted[chosen])


def test_several_graphs_of_an_utterance_and_none(native: AbstractBackend) -> None:
    parts = [topologies.build(name, 3).graph() for name in ("correct", "compact", "selfless")]
    utterances = torch.tensor([1, 0, 1])
    leaves = [random_log_probs(5, 3, 3, 3).requires_grad_() for _ in range(2)]
    gradients = []
    for engine, leaf in zip((native, get_backend("reference", CPU)), leaves, strict=True):
        totals = engine.total_scores(GraphBatch.from_graphs(parts), emissions_of(leaf, [3, 2, 3]), utterances)
        gradients.append(gradient(totals * torch.tensor([1.0, 2.0, 3.0]), leaf))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)
    none = native.total_scores(
        GraphBatch.from_graphs([]), emissions_of(leaves[0], [3, 2, 3]), torch.empty(0, dtype=torch.int64)
    )
    assert none.shape == (0,)
    assert not gradient(none, leaves[0]).any()


def test_no_frames(native: AbstractBackend) -> None:
    leaf = torch.zeros(2, 0, 3, requires_grad=True)
    losses = ctc_loss(leaf, [[], [1]], [0, 0], backend="native")
    assert losses.tolist() == [0.0, torch.inf]
    assert torch.autograd.grad(losses[0], leaf)[0].shape == leaf.shape
    graph = one(topologies.build("compact", 3).graph())
    assert native.shared_total_scores(graph, emissions_of(leaf, [0, 0])).tolist() == [0.0, 0.0]


def test_what_is_not_finite_passes_on_request() -> None:
    scores = torch.zeros(2, 2, 3)
    scores[0, 1, 1] = torch.nan
    losses = ctc_loss(scores, [[1], [1]], [2, 2], from_logits=True, nonfinite="pass", backend="native")
    assert losses.isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_log_sums_of_rows(dtype: torch.dtype) -> None:
    from wfst_losses.compiled import cuda_rows

    for num_labels in (3, 5000):
        scores = 5 * random_log_probs(3, 2, 4, num_labels).to(dtype)
        scores[0, 0, 1] = scores[0, 1] = -torch.inf
        scores[1, 0, 1], scores[1, 1, 0] = torch.nan, torch.inf
        found = cuda_rows.row_log_sums(scores.transpose(1, 2).contiguous().transpose(1, 2), torch.tensor([4, 2]))
        wanted = scores.logsumexp(2)
        torch.testing.assert_close(found[0], wanted[0], rtol=4 * torch.finfo(dtype).eps, atol=0)
        assert found[1, :2].isnan().all()
        assert found[1, 2:].tolist() == [0.0, 0.0]


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("compile_kernels.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Every kernel there is, in each form in which it is launched.
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "add_occupancies": 2,
        "sum_columns": 3,
        "sum_frames": 1,
        "sum_prefixes": 6,
        "sum_prefixes_of_graphs": 2,
        "sum_suffixes": 3,
        "sum_suffixes_of_graphs": 2,
        "write_factors": 1,
        "write_log_sums": 1,
        "write_softmax": 2,
    }
