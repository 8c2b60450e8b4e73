"""Topologies side by side: sizes of the graphs they make, memory of their losses, and which to take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import topologies
from topologies import Graph, compose_graph
from wfst_losses.inspection.sizes import epsilon_free_size, topology_sizes
from wfst_losses.inspection.steps import check_successors

MODIFIED = "k2 modified"
"""`k2.ctc_topo(modified=True)`: the epsilon-free form of compact."""
LOSSLESS = {"lossless compact, expanded": "expanded", "lossless compact, shared": "shared"}
WORTH = 0.85
"""A graph or a peak must be at most this share of correct's to be advised instead: less is not worth a change."""


@dataclasses.dataclass(frozen=True)
class GraphSize:
    """One topology's graph over a language model, lexicon and grammar, or alone.

    Attributes:
        name: a topology, or one of the forms named above.
        num_states, num_arcs: with true epsilon arcs, k2's super-final state and arcs not among them.
        num_epsilon_free_arcs: of the form that k2 takes; ``None`` where no closed form tells.
    """

    name: str
    num_states: int
    num_arcs: int
    num_epsilon_free_arcs: int | None


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """The peak of one loss: predicted, and measured if it was.

    Attributes:
        is_upper_bound: of the prediction.
        not_measured: why not.
    """

    topology: str
    loss: str
    backend: str
    predicted_bytes: int
    is_upper_bound: bool
    measured_bytes: int | None
    not_measured: str | None

    @property
    def bytes(self) -> int:
        """Measured, else predicted."""
        return self.predicted_bytes if self.measured_bytes is None else self.measured_bytes


@dataclasses.dataclass(frozen=True)
class Advice:
    """One topology to take and, in a sentence or two, why."""

    topology: str
    reason: str


def alone_sizes(num_labels: int) -> list[GraphSize]:
    """Of the topologies themselves, in closed form."""
    sizes = []
    for name in topologies.TOPOLOGIES:
        topology = topologies.build(name, num_labels)
        found = topology_sizes(topology)
        free = 4 * num_labels - 3 if name == "compact" else None
        free = found.num_arcs if found.num_epsilon_arcs == 0 else free
        sizes.append(GraphSize(name, found.num_states, found.num_arcs, free))
    return _with_modified(sizes)


def bigram_sizes(num_labels: int, num_successors: int) -> list[GraphSize]:
    """Over `steps.bigram`, in closed form; a history lists its own token as often as chance has it.

    Histories: the start and each token. Of the tokens as many list themselves as each lists tokens, in the mean.
    """
    check_successors(num_labels, num_successors)
    states, arcs = num_labels, num_labels * num_successors
    pairs, own = 2 * states - 1, num_successors
    correct = 2 * (arcs - own) + pairs + states - 1
    compact = arcs + states + 2 * (states - 1)
    expanded = compact + own * (num_successors - 1)
    # A token that cannot follow itself is entered twice without virtual arcs; the others' arcs stay as they are.
    returning = 1 - own / (states - 1)
    expanded_free = round(expanded + returning * (expanded - states - 2 * (states - 1)))
    sizes = [
        GraphSize("correct", pairs, correct, correct),
        GraphSize("compact", pairs, compact, compact + arcs),
        GraphSize("minimal", states, arcs + states, arcs + states),
        GraphSize("selfless", pairs, correct - (states - 1), correct - (states - 1)),
        GraphSize("lossless compact, expanded", pairs, expanded, expanded_free),
        GraphSize("lossless compact, shared", pairs + own, compact + 2 * own, None),
    ]
    return _with_modified(sizes)


def counted_sizes(num_labels: int, grammar: Graph, allowed: Callable[[str], object]) -> Iterator[GraphSize]:
    """Over a grammar that reads tokens, composed and counted, one by one; ``allowed`` is asked before each."""
    from wfst_losses.graphs.lossless_compact import lossless_compact

    compact = None
    for name in topologies.TOPOLOGIES:
        allowed(name)
        size = _counted(name, compose_graph(topologies.build(name, num_labels).graph(), grammar).batch.graph(0))
        compact = size if name == "compact" else compact
        yield size
    for name, form in LOSSLESS.items():
        allowed("correct" if form == "expanded" else "compact")
        yield _counted(name, lossless_compact(grammar, form=form))
    if compact is not None and compact.num_epsilon_free_arcs is not None:
        free = compact.num_epsilon_free_arcs
        yield GraphSize(MODIFIED, compact.num_states, free, free)


def _counted(name: str, graph: Graph) -> GraphSize:
    free, _ = epsilon_free_size(graph)
    return GraphSize(name, graph.num_states, graph.num_arcs, free.num_arcs)


def _with_modified(sizes: list[GraphSize]) -> list[GraphSize]:
    compact = next(size for size in sizes if size.name == "compact")
    free = compact.num_epsilon_free_arcs or 0
    return [*sizes, GraphSize(MODIFIED, compact.num_states, free, free)]


def advise(decoding: Sequence[GraphSize], memory: Sequence[StepMemory]) -> Advice:
    """The topology that changes least among those that save, by what was counted and measured, or else correct.

    Of the losses, MMI decides where it is among them: memory of CTC hardly depends on the topology.
    """
    arcs = {size.name: size.num_arcs for size in decoding}
    lossless = min((name for name in LOSSLESS if name in arcs), key=lambda name: arcs[name], default=None)
    peaks = _peaks(memory)
    by_peak = {name: peak / peaks["correct"] for name, peak in peaks.items()} if "correct" in peaks else {}
    by_arcs = {name: count / arcs["correct"] for name, count in arcs.items()}
    loss, backend = _deciding(memory)
    reason = []
    found = "correct"
    for name in ("compact", "minimal"):
        if by_peak.get(name, 1.0) <= WORTH:
            found = name
            reason.append(f"{loss.upper()} on {backend} takes {_percent(by_peak[name])} of correct's memory with it.")
            break
    if found == "correct" and by_peak:
        least = min(by_peak, key=lambda name: by_peak[name])
        reason.append(
            f"No topology saves memory worth a change: {loss.upper()} on {backend} takes at least "
            f"{_percent(by_peak[least])} of what it takes with correct."
        )
    if lossless is not None and found == "correct" and by_arcs[lossless] <= WORTH:
        reason.append(
            f"Decode with {lossless}: {_percent(by_arcs[lossless])} of correct's arcs, path for path the same, in an "
            "engine that takes epsilon arcs."
        )
    elif found == "correct" and by_arcs.get("minimal", 1.0) <= WORTH:
        reason.append(
            f"Should the decoding graph be too large, minimal has {_percent(by_arcs['minimal'])} of its arcs, but a "
            "token then lasts one frame: train with it too."
        )
    if found == "compact":
        reason.append("Its masses sum to more than 1: a token may follow itself without a blank.")
    if found == "minimal":
        reason.append("A token lasts one frame with it, so decode with what was trained with.")
    return Advice(
        found, " ".join(reason) or "It is what every decoder expects, and no graph here is larger than need be."
    )


def _deciding(memory: Sequence[StepMemory]) -> tuple[str, str]:
    """The loss and the backend that memory is compared on: MMI before CTC, and the first backend asked for."""
    losses = [step.loss for step in memory]
    loss = "mmi" if "mmi" in losses else "ctc"
    return loss, next((step.backend for step in memory if step.loss == loss), "")


def _peaks(memory: Sequence[StepMemory]) -> dict[str, int]:
    wanted = _deciding(memory)
    return {step.topology: step.bytes for step in memory if (step.loss, step.backend) == wanted}


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "under 1%"
