"""What a backend computes: sums over the paths of graphs with emissions, and paths drawn from them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from topologies import GraphBatch, compose
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.graphs.levenshtein import LevenshteinAutomaton
from wfst_losses.graphs.paths import Paths
from wfst_losses.memory_formulas import Work


class GraphScores(NamedTuple):
    """Scores in place of a graph's own, float64, with autograd history: ``(num_arcs,)`` and ``(num_states,)``, nats."""

    arcs: torch.Tensor
    finals: torch.Tensor


class Costs(NamedTuple):
    """Of what an utterance's paths write, under their posterior: all zero where there is no path.

    Attributes:
        expected: ``(B,)`` in the dtype of the emissions, differentiable.
        probabilities: ``(B, K)`` float64 on the CPU, of costs 0, 1, ... ``K - 1``; constants.
    """

    expected: torch.Tensor
    probabilities: torch.Tensor


class AbstractBackend(abc.ABC):
    """An engine for graphs of training. One value may be shared by any number of calls."""

    name: ClassVar[str]
    needs_epsilon_free: ClassVar[bool] = False
    """Whether graphs must come without virtual arcs."""
    prefers_factored: ClassVar[bool] = False
    """Whether virtual arcs cost it no more than others, so that fewer arcs in all are better."""
    checks_rows: ClassVar[bool] = False
    """Whether `total_scores` makes the check that `Emissions.pending` asks for."""

    @abc.abstractmethod
    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """``Z = logsumexp_paths sum_t log_probs[t, label_t] + graph scores`` of each graph, differentiable.

        Args:
            graphs: ``G`` graphs whose input labels are columns of the emissions.
            emissions: of ``B`` utterances.
            utterances: ``(G,)`` int64 on the CPU, the utterance each graph reads.

        Returns:
            ``(G,)`` float64, nats: losses are differences of them. ``-inf`` with zero gradient where no path fits.
        """

    @abc.abstractmethod
    def total_work(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> Work:
        """What `total_scores` takes, which refuses by itself what would not fit: for calls of several parts."""

    def shared_total_work(
        self,
        graph: GraphBatch,
        emissions: Emissions,
        scores: GraphScores | None = None,
        memory: str = "full",  # noqa: ARG002 (for backends that know how)
    ) -> Work:
        """What `shared_total_scores` takes."""
        if scores is not None:
            from wfst_losses.backends.reference import ReferenceBackend

            return ReferenceBackend().shared_total_work(graph, emissions)
        num_utterances = emissions.num_utterances
        return self.total_work(graph.repeated(num_utterances), emissions, torch.arange(num_utterances))

    def shared_total_scores(
        self,
        graph: GraphBatch,
        emissions: Emissions,
        scores: GraphScores | None = None,
        memory: str = "full",  # noqa: ARG002 (for backends that know how)
    ) -> torch.Tensor:
        """``(B,)`` `total_scores` of one graph that all utterances share: MMI's denominator.

        Args:
            graph: a batch of one.
            emissions: of ``B`` utterances.
            scores: of the graph's arcs and final states in place of its own, differentiable too.
            memory: "low" keeps sums of about sqrt(T) frames only, where the backend knows how, and computes the rest
                twice.
        """
        if scores is not None:
            from wfst_losses.backends.reference import ReferenceBackend

            return ReferenceBackend().shared_total_scores(graph, emissions, scores)
        num_utterances = emissions.num_utterances
        return self.total_scores(graph.repeated(num_utterances), emissions, torch.arange(num_utterances))

    def expected_costs(
        self, graph: GraphBatch, automata: Sequence[LevenshteinAutomaton], emissions: Emissions
    ) -> Costs:
        """``sum_c c * P(c)``, ``P`` the softmax over costs c of the log-sum of all paths that write what costs c.

        Here as it stands: the graph composed with what the automaton accepts at each cost.

        Args:
            graph: a batch of one, shared by all utterances, whose input labels are columns of the emissions.
            automata: one per utterance, over the tokens that the graph writes.
            emissions: of ``B`` utterances.
        """
        num_costs = 1 + max((int(automaton.cost.max()) for automaton in automata), default=0)
        accepted = [automaton.graph(emissions.num_labels, cost) for automaton in automata for cost in range(num_costs)]
        utterances = torch.arange(emissions.num_utterances).repeat_interleave(num_costs)
        # A difference of log-sums of thousands of frames: not in float32.
        doubled = dataclasses.replace(emissions, scores=emissions.scores.double())
        graphs = compose(graph.graph(0), GraphBatch.from_graphs(accepted))
        masses = self.total_scores(graphs, doubled, utterances).reshape(-1, num_costs)
        is_possible = (masses.detach() > -torch.inf).any(dim=1)
        probabilities = torch.softmax(masses.masked_fill(~is_possible[:, None], 0.0), 1)
        probabilities = probabilities * is_possible[:, None]
        expected = probabilities @ torch.arange(num_costs).to(probabilities)
        return Costs(expected.to(emissions.scores.dtype), probabilities.detach().double().cpu())

    def sample_paths(
        self,
        graphs: GraphBatch,
        emissions: Emissions,
        utterances: torch.Tensor,
        num_paths: int,
        scale: float,
        generator: torch.Generator | None,
    ) -> Paths:
        """``num_paths`` independent paths of each graph from its exact posterior; see `wfst_losses.RandomPaths`.

        Args:
            graphs: one per entry of ``utterances``, or a single one that they all share.
            emissions: of ``B`` utterances.
            utterances: ``(R,)`` int64 on the CPU.
            num_paths: per graph; a graph without any path gets none.
            scale: multiplies all scores.
            generator: on the CPU; torch's own if left out.
        """
        from wfst_losses.backends.reference_sampling import sample_paths

        return sample_paths(shared(graphs, utterances), emissions, utterances, num_paths, scale, generator)

    def best_paths(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> BestPaths:
        """The path of highest score of each graph; graphs and utterances as in `sample_paths`.

        Of equally good paths, the one that stops or else takes the earlier arc of the batch where they part. No path
        leads through NaN.
        """
        from wfst_losses.backends.reference_viterbi import best_paths

        return best_paths(shared(graphs, utterances), emissions, utterances)

    def masked_best_paths(
        self,
        graphs: GraphBatch,
        emissions: Emissions,
        utterances: torch.Tensor,
        columns: npt.NDArray[np.int64],
        masks: npt.NDArray[np.bool_],
    ) -> BestPaths:
        """`best_paths` where some labels must not be read: ``(R N)`` paths, the N of a reading side by side.

        Args:
            graphs, emissions, utterances: R readings, as in `sample_paths`.
            columns: ``(R, T)`` a label per frame.
            masks: ``(R, N, T)`` whether it is hidden.
        """
        from wfst_losses.backends.reference_viterbi import masked_best_paths

        return masked_best_paths(shared(graphs, utterances), emissions, utterances, columns, masks)

    def best_sequences(
        self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor, num_paths: int
    ) -> Paths:
        """The ``num_paths`` best distinct sequences of each graph, or all; graphs and utterances as in `sample_paths`.

        Ranked as `AbstractLattice.best_sequences` says, each with its best path.
        """
        from wfst_losses.backends.reference_best_sequences import best_sequences

        return best_sequences(shared(graphs, utterances), emissions, utterances, num_paths)


def shared(graphs: GraphBatch, utterances: torch.Tensor) -> GraphBatch:
    """A graph per utterance, copies of it where one is shared."""
    if graphs.num_graphs == len(utterances) or graphs.num_graphs != 1:
        return graphs
    return GraphBatch.from_graphs([graphs.graph(0)] * len(utterances))
