"""What holds for every input: the laws that fuzzing tries to break. A new one is one function and a line in `LAWS`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch

import topologies
from topologies import EPSILON, Graph
from wfst_losses import LanguageModel, ctc_loss, mmi_loss
from wfst_losses.graphs.files import read_graph_file, write_graph_file


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """A ragged batch under any topology, impossible targets and empty utterances included."""
    num_labels, num_utterances = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(0, 9), min_size=num_utterances, max_size=num_utterances))
    token = st.integers(1, num_labels - 1) if num_labels > 1 else st.nothing()
    targets = [draw(st.lists(token, max_size=5 if num_labels > 1 else 0)) for _ in lengths]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 1.0, 30.0, 1000.0]))
    logits = torch.randn(num_utterances, max(lengths) + 1, num_labels, generator=generator, dtype=torch.float64)
    topology = draw(st.sampled_from(sorted(topologies.TOPOLOGIES)))
    return {"scores": scale * logits, "targets": targets, "lengths": lengths, "topology": topology}


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """A weighted graph with cycles, parallel arcs and virtual arcs that form none."""
    num_states = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    num_arcs = draw(st.integers(0, 14))
    source, destination = rng.integers(0, num_states, (2, num_arcs))
    label, token = rng.integers(0, 3, num_arcs), rng.integers(EPSILON, 3, num_arcs)
    virtual = (source < destination) & (rng.random(num_arcs) < 0.5)
    label[virtual], token[virtual] = EPSILON, EPSILON
    final_score = np.where(rng.random(num_states) < 0.6, rng.normal(size=num_states), -np.inf)
    columns = (column.astype(np.int32) for column in (source, destination, label, token))
    return Graph(*columns, rng.normal(size=num_arcs), final_score)


def require(holds: object) -> None:
    """Raise unless it holds, also where Python drops its assertions."""
    if not holds:
        raise AssertionError("the law is broken")


def loss_and_gradient(batch: dict[str, Any], **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``(B,)`` CTC losses and their gradient with respect to the logits."""
    leaf = batch["scores"].clone().requires_grad_()
    arguments = {"topology": batch["topology"], "from_logits": True, **options}
    losses = ctc_loss(leaf, batch["targets"], batch["lengths"], **arguments)
    (gradient,) = torch.autograd.grad(losses[losses.isfinite()].sum() + 0.0 * leaf.sum(), leaf)
    return losses.detach(), gradient


def engines_agree(batch: dict[str, Any]) -> None:
    """The compiled engine and the definition give one value and one gradient."""
    values, gradients = zip(*(loss_and_gradient(batch, backend=name) for name in ("native", "reference")), strict=True)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def an_utterance_is_alone(batch: dict[str, Any]) -> None:
    """Order, company and padding of a batch change no bit."""
    losses, gradient = loss_and_gradient(batch)
    for index in range(len(losses)):
        frames = batch["lengths"][index]
        alone = {
            "scores": batch["scores"][index : index + 1, : frames + 1],
            "targets": batch["targets"][index : index + 1],
            "lengths": [frames],
            "topology": batch["topology"],
        }
        value, slope = loss_and_gradient(alone)
        require(torch.equal(value[0], losses[index]))
        require(torch.equal(slope[0, :frames], gradient[index, :frames]))
        require(not gradient[index, frames:].any())


def infeasible_means_infinite(batch: dict[str, Any]) -> None:
    """+inf and no gradient exactly where the topology's shortest path is longer than the utterance."""
    losses, gradient = loss_and_gradient(batch)
    topology = topologies.build(batch["topology"], batch["scores"].shape[2])
    for index, (target, frames) in enumerate(zip(batch["targets"], batch["lengths"], strict=True)):
        possible = int(np.asarray(topology.min_frames([target]))[0]) <= frames
        require(bool(losses[index].isfinite()) == possible)
        require(possible or not gradient[index].any())
    require(gradient.isfinite().all())


def occupancies_sum_to_one(batch: dict[str, Any]) -> None:
    """The gradient with respect to the log-probs of a live frame sums to -1."""
    leaf = batch["scores"].log_softmax(-1).requires_grad_()
    losses = ctc_loss(leaf, batch["targets"], batch["lengths"], topology=batch["topology"])
    finite = losses.isfinite()
    (gradient,) = torch.autograd.grad(losses[finite].sum() + 0.0 * leaf.nan_to_num(0, 0, 0).sum(), leaf)
    for index in torch.nonzero(finite).flatten().tolist():
        sums = gradient[index, : batch["lengths"][index]].sum(1)
        torch.testing.assert_close(sums, -torch.ones_like(sums), rtol=0, atol=1e-9)


def mmi_engines_agree(batch: dict[str, Any]) -> None:
    """MMI over a bigram of the targets: the compiled engine against the definition."""
    num_labels = batch["scores"].shape[2]
    model = LanguageModel.from_counts(batch["targets"], num_labels=num_labels, order=2)
    found = []
    for backend in ("native", "reference"):
        leaf = batch["scores"].clone().requires_grad_()
        losses = mmi_loss(
            leaf,
            batch["targets"],
            batch["lengths"],
            language_model=model,
            topology=batch["topology"],
            backend=backend,
            from_logits=True,
        )
        total = losses[losses.isfinite()].sum() + 0.0 * leaf.sum()
        found.append((losses.detach(), *torch.autograd.grad(total, leaf)))
    for native, reference in zip(*found, strict=True):
        torch.testing.assert_close(native, reference, rtol=1e-8, atol=1e-8)


def _weights(graph: Graph, labels: list[int], *, best: bool) -> dict[tuple[int, ...], float]:
    """What a label sequence writes and with which weight: log-sum or maximum over the paths that read it."""
    join: Callable[[float, float], float] = max if best else np.logaddexp
    found: dict[tuple[int, ...], float] = {}
    stack = [(graph.start, 0, (), 0.0)]
    while stack:
        state, place, written, score = stack.pop()
        if place == len(labels) and graph.final_score[state] > -np.inf:
            total = score + float(graph.final_score[state])
            found[written] = join(found[written], total) if written in found else total
        for arc in np.flatnonzero(graph.source == state).tolist():
            reads = graph.input_label[arc] != EPSILON
            if reads and (place == len(labels) or graph.input_label[arc] != labels[place]):
                continue
            token = int(graph.output_label[arc])
            more = written if token == EPSILON else (*written, token)
            stack.append((int(graph.destination[arc]), place + reads, more, score + float(graph.score[arc])))
    return found


def removing_epsilons_changes_nothing(graph: Graph) -> None:
    """100 label sequences have equal weights on either side, in both semirings."""
    other = topologies.without_epsilons(graph)
    rng = np.random.default_rng(0)
    # Chains of virtual arcs that leave the start are summed into one: maxima stay where there are none.
    leaves_start = (graph.source == graph.start) & (graph.input_label == EPSILON)
    for best in (False,) if leaves_start.any() else (False, True):
        for _ in range(100):
            labels = rng.integers(0, 3, rng.integers(0, 5)).tolist()
            before, after = (_weights(each, labels, best=best) for each in (graph, other))
            require(before.keys() == after.keys())
            for written, weight in before.items():
                require(abs(weight - after[written]) <= 1e-9 * max(1.0, abs(weight)))


def files_give_back_what_they_took(graph: Graph) -> None:
    """Written and read it is the same graph; with one bit turned over it is refused or the same."""
    graph = topologies.without_epsilons(graph)
    if graph.num_arcs == 0 or not (graph.final_score > -np.inf).any() or graph.start != 0:
        return
    rng = np.random.default_rng(graph.num_arcs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pt"
        write_graph_file(graph, path)
        content, wanted = path.read_bytes(), _key(read_graph_file(path).graph)
        for _ in range(20):
            place, bit = int(rng.integers(len(content))), int(rng.integers(8))
            path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
            try:
                found = read_graph_file(path).graph
            except ValueError:
                continue
            require(_key(found) == wanted)


def _key(graph: Graph) -> tuple[bytes, ...]:
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score, graph.final_score)
    return tuple(np.asarray(column).tobytes() for column in columns)


LAWS: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    "engines agree": (engines_agree, batches()),
    "an utterance is alone": (an_utterance_is_alone, batches()),
    "infeasible means infinite": (infeasible_means_infinite, batches()),
    "occupancies sum to one": (occupancies_sum_to_one, batches()),
    "MMI engines agree": (mmi_engines_agree, batches()),
    "removing epsilons changes nothing": (removing_epsilons_changes_nothing, random_graphs()),
    "files give back what they took": (files_give_back_what_they_took, random_graphs()),
}
