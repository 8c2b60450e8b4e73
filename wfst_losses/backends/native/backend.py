"""The native backend: band sums for graphs of training, arc sums for what has no bands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import GraphBatch
from wfst_losses.backends.backend import AbstractBackend, Costs, GraphScores
from wfst_losses.backends.memory import cuda_work, training_work
from wfst_losses.backends.native import cuda
from wfst_losses.backends.reference import ReferenceBackend
from wfst_losses.differentiation import differentiated_once
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.graphs.levenshtein import LevenshteinAutomaton
from wfst_losses.graphs.paths import Paths
from wfst_losses.memory_formulas import Work
from wfst_losses.runs import note

_BY_BLOCK = "float64, a power of two per state and block of frames"
_BY_STATE = "float64, a power of two per state and frame"


@dataclasses.dataclass(frozen=True)
class NativeBackend(AbstractBackend):
    """Exact forward-backward on the graphs themselves, compiled by numba for the CPU and by Triton for CUDA.

    On the CPU sums are float64 whatever the emissions; each state's sum has an exponent of its own, so that nothing
    underflows. Results do not depend on the number of threads, nor on how a batch is ordered or split. For CUDA see
    `wfst_losses.backends.native.cuda`; sampling and best paths are the CPU's there too.
    """

    name = "native"
    prefers_factored = True
    checks_rows = True

    def total_scores(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> torch.Tensor:
        """Sums and occupancies now; the backward pass writes each gradient row once."""
        if not emissions.is_finite:
            # Compiled sums compare numbers, which NaN defies; the definition passes it on.
            return ReferenceBackend().total_scores(graphs, emissions, utterances)
        if cuda.applies(emissions.scores):
            from wfst_losses.backends.native.cuda import sums

            self._hold_on_cuda(emissions, self.total_work(graphs, emissions, utterances))
            if emissions.pending is not None:
                emissions.pending.refuse()
            return sums.total_scores(graphs, emissions, utterances)
        result: torch.Tensor = _Sums.apply(  # type: ignore[no-untyped-call]
            emissions.scores, emissions, graphs, utterances.numpy().astype(np.int64)
        )
        return result

    def total_work(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> Work:
        """Occupancies of what the graphs read, and room on each thread."""
        if not emissions.is_finite:
            return ReferenceBackend().total_work(graphs, emissions, utterances)
        if cuda.applies(emissions.scores):
            return cuda_work(graphs, emissions, utterances.numpy(), is_shared=False)
        return training_work(graphs, emissions, utterances.numpy())

    def shared_total_work(
        self, graph: GraphBatch, emissions: Emissions, scores: GraphScores | None = None, memory: str = "full"
    ) -> Work:
        """Occupancies of all labels, and room for eight utterances on each thread."""
        if scores is None and memory == "full" and emissions.is_finite and cuda.applies(emissions.scores):
            return cuda_work(graph, emissions, np.arange(emissions.num_utterances), is_shared=True)
        if not emissions.is_finite or emissions.scores.device.type != "cpu":
            return ReferenceBackend().shared_total_work(graph, emissions, scores)
        from wfst_losses.backends.native import shared_function

        return shared_function.work(graph, emissions, scores, memory)

    def shared_total_scores(
        self, graph: GraphBatch, emissions: Emissions, scores: GraphScores | None = None, memory: str = "full"
    ) -> torch.Tensor:
        """The graph is laid out once, and run for several utterances at a time; on CUDA for all side by side."""
        is_plain = scores is None and memory == "full"
        if is_plain and emissions.is_finite and cuda.applies(emissions.scores):
            from wfst_losses.backends.native.cuda import sums

            self._hold_on_cuda(emissions, self.shared_total_work(graph, emissions))
            return sums.shared_total_scores(graph, emissions)
        if not emissions.is_finite or emissions.scores.device.type != "cpu":
            return ReferenceBackend().shared_total_scores(graph, emissions, scores)
        from wfst_losses.backends.native import shared_function

        return shared_function.total_scores(graph, emissions, scores, memory)

    @staticmethod
    def _hold_on_cuda(emissions: Emissions, work: Work) -> None:
        """Against a limit that was given: without one the device's own allocator is as clear."""
        if emissions.budget.is_given:
            emissions.require("the sums on CUDA", work)

    def expected_costs(
        self, graph: GraphBatch, automata: Sequence[LevenshteinAutomaton], emissions: Emissions
    ) -> Costs:
        """Graph and automata side by side, never composed; the definition where float64 does not suffice."""
        if not emissions.is_finite:
            return ReferenceBackend().expected_costs(graph, automata, emissions)
        from wfst_losses.backends.native import expected_costs

        return expected_costs.expected_costs(graph, automata, emissions)

    def sample_paths(
        self,
        graphs: GraphBatch,
        emissions: Emissions,
        utterances: torch.Tensor,
        num_paths: int,
        scale: float,
        generator: torch.Generator | None,
    ) -> Paths:
        """Sums backwards, walks forwards, each path with a seed drawn for it: threads make no difference."""
        if not emissions.is_finite:
            return super().sample_paths(graphs, emissions, utterances, num_paths, scale, generator)
        from wfst_losses.backends.native import readings

        return readings.sample(graphs, emissions, utterances, num_paths, scale, generator)

    def best_paths(self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor) -> BestPaths:
        """Maxima backwards, one walk forwards."""
        from wfst_losses.backends.native import readings

        return readings.best(graphs, emissions, utterances)

    def masked_best_paths(
        self,
        graphs: GraphBatch,
        emissions: Emissions,
        utterances: torch.Tensor,
        columns: npt.NDArray[np.int64],
        masks: npt.NDArray[np.bool_],
    ) -> BestPaths:
        """Four masks at a time in one pass."""
        from wfst_losses.backends.native import readings

        return readings.best_masked(graphs, emissions, utterances, columns, masks)

    def best_sequences(
        self, graphs: GraphBatch, emissions: Emissions, utterances: torch.Tensor, num_paths: int
    ) -> Paths:
        """Unrolled as far as the N best reach, then searched."""
        from wfst_losses.backends.native import readings

        return readings.best_distinct(graphs, emissions, utterances, num_paths)


class _Sums(torch.autograd.Function):
    """Log-sums of graphs over emissions, differentiated with respect to the network's output."""

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, emissions: Emissions, graphs: GraphBatch, utterances: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """``(G,)`` log-sums."""
        from wfst_losses.backends.native import bands, inputs, sums
        from wfst_losses.compiled import gradient_memory, threads

        emissions.require(f"the sums of {graphs.num_graphs:,} graphs", training_work(graphs, emissions, utterances))
        layout = bands.lay_out(graphs)
        given = inputs.Inputs(scores.detach().cpu().contiguous().numpy(), emissions.log_sums, emissions.input_lengths)
        frames, num_columns = emissions.input_lengths[utterances], np.diff(layout.column_splits)
        sizes = frames * num_columns * scores.requires_grad
        occupancies = np.cumsum(sizes) - sizes, gradient_memory.uninitialised((int(sizes.sum()),), given.scores.dtype)
        totals, ways = np.empty(graphs.num_graphs), np.zeros(graphs.num_graphs, dtype=np.int8)

        def add_up(given: inputs.Inputs) -> None:
            columns = layout, given, utterances, scores.requires_grad, occupancies, totals, ways
            costs = np.diff(layout.state_splits) * (frames + 1)
            threads.run_in_parallel(lambda begin, end: sums.forward(begin, end, *columns), costs)

        if emissions.pending is None:
            add_up(given)
        else:
            add_up(given._replace(tolerance=emissions.pending.tolerance))
            if (ways == sums.NOT_AT_ALL).any():
                emissions.pending.refuse()
                add_up(given)
        note("native", "graph per utterance", (_BY_STATE if way == sums.BY_STATE else _BY_BLOCK for way in ways))
        ctx.kept = (layout, given, occupancies, utterances, totals, emissions.is_logits)
        # Saved though the inputs share its memory: autograd then finds out if it is changed before the backward pass.
        ctx.save_for_backward(scores)
        return torch.tensor(totals, device=scores.device)

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Occupancies, less the softmax where the network gave logits."""
        from wfst_losses.backends.native import occupancy
        from wfst_losses.compiled import gradient_memory, threads

        layout, given, occupancies, utterances, totals, is_logits = ctx.kept
        (like,) = ctx.saved_tensors
        # An impossible graph has no occupancy.
        coefficients = np.where(np.isfinite(totals), gradients[0].detach().cpu().double().numpy(), 0.0)
        gradient = gradient_memory.uninitialised(given.scores.shape, given.scores.dtype)
        graph_splits = np.searchsorted(utterances, np.arange(len(given.lengths) + 1))
        threads.run_in_parallel(
            lambda begin, end: occupancy.write_gradient(
                begin, end, layout, given, graph_splits, occupancies, coefficients, is_logits, gradient
            ),
            np.full(len(given.lengths), 1),
        )
        return torch.from_numpy(gradient).to(like.device, like.dtype), None, None, None
