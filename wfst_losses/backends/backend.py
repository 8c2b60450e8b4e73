"""What a backend computes: sums over the paths of graphs with emissions, and paths drawn from them."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch

from topologies import GraphBatch
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.paths import Paths


class AbstractBackend(abc.ABC):
    """An engine for graphs of training. One value may be shared by any number of calls."""

    name: ClassVar[str]
    needs_epsilon_free: ClassVar[bool] = False
    """Whether graphs must come without virtual arcs."""

    @abc.abstractmethod
    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """``Z = logsumexp_paths sum_t log_probs[t, label_t] + graph scores`` of each graph, differentiable.

        Args:
            graphs: ``G`` graphs whose input labels are columns of the emissions.
            emissions: of ``B`` utterances.
            utterances: ``(G,)`` int64 on the CPU, the utterance each graph reads.

        Returns:
            ``(G,)`` in the dtype of the emissions, nats; ``-inf`` with zero gradient where no path fits.
        """

    def sample_paths(
        self,
        graphs: GraphBatch,
        emissions: Emissions,
        utterances: torch.Tensor,
        num_paths: int,
        scale: float,
        generator: torch.Generator | None,
    ) -> Paths:
        """``num_paths`` independent paths of each graph from its exact posterior; see `wfst_losses.RandomPaths`."""
        from wfst_losses.backends.reference_sampling import sample_paths

        return sample_paths(graphs, emissions, utterances, num_paths, scale, generator)
