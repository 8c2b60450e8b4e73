"""The lattice of log-probs and a topology, never built: sums and samples run on the graph itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from topologies import AbstractTopology, GraphBatch, without_epsilons
from topologies.topology import factored_of, graph_of
from wfst_losses.backends.backend import AbstractBackend, Costs
from wfst_losses.backends.memory import enumeration_work, path_score_work
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.best_paths import BestPaths
from wfst_losses.graphs.blank import reading_columns, tokens_inside, tokens_outside
from wfst_losses.graphs.denominator import denominator
from wfst_losses.graphs.language_model import BEST_PATH, LanguageModel
from wfst_losses.graphs.levenshtein import LevenshteinAutomaton
from wfst_losses.graphs.paths import Paths, Segments
from wfst_losses.graphs.training import training_graphs
from wfst_losses.graphs.walks import check_enumerable, num_walks, walks
from wfst_losses.lattices.lattice import AbstractLattice
from wfst_losses.memory_formulas import Work
from wfst_losses.validation import TokenSequence

AnyPaths = TypeVar("AnyPaths", bound=Paths)


@dataclasses.dataclass(frozen=True, eq=False)
class EmissionLattice(AbstractLattice):
    """All paths of a topology over the frames of each utterance, with the scores of a language model if there is one.

    Attributes:
        topology: for V labels.
        emissions: of B utterances.
        backend: what sums and samples.
        blank: the blank's column.
        language_model: over the network's tokens, back-off as failure.
    """

    topology: AbstractTopology
    emissions: Emissions
    backend: AbstractBackend
    blank: int = 0
    language_model: LanguageModel | None = None

    @property
    def num_utterances(self) -> int:
        """B."""
        return self.emissions.num_utterances

    @property
    def scores(self) -> torch.Tensor:
        """The network's output."""
        return self.emissions.scores

    def require(self, what: str, part: Work) -> None:
        """Beside the emissions."""
        self.emissions.require(what, part)

    def sample(self, num_paths: int, scale: float, generator: torch.Generator | None) -> Paths:
        """Exact posterior samples."""
        graph, utterances = self._shared_graph("failure"), torch.arange(self.num_utterances)
        paths = self.backend.sample_paths(graph, self.emissions, utterances, num_paths, scale, generator)
        return self._outside(paths)

    def expected_costs(self, automata: Sequence[LevenshteinAutomaton]) -> Costs:
        """What an automaton per utterance, over tokens as graphs number them, says of what the paths write."""
        graph = self._shared_graph("failure", epsilon_free=self.backend.needs_epsilon_free)
        return self.backend.expected_costs(graph, automata, self.emissions)

    def _outside(self, paths: AnyPaths) -> AnyPaths:
        """Paths with the network's tokens and the model's scores: of its way to a token a sampled path tells a part."""
        tokens = tokens_outside(paths.tokens, self.blank)
        impossible = paths.graph_scores == -np.inf
        graph_scores = np.where(impossible, -np.inf, self._of_model(tokens).numpy())
        return dataclasses.replace(paths, tokens=tokens, graph_scores=graph_scores)

    def _shared_graph(self, backoff: str, *, epsilon_free: bool = False) -> GraphBatch:
        if self.language_model is None:
            return _shared_graph(self.topology, self.blank, epsilon_free)
        return denominator(
            self.topology, self.language_model, backoff=backoff, blank=self.blank, epsilon_free=epsilon_free
        )

    def _of_model(self, sequences: Sequence[TokenSequence]) -> torch.Tensor:
        """``(n,)`` float64 on the CPU: the language model's score of each sequence."""
        if self.language_model is None:
            return torch.zeros(len(sequences), dtype=torch.float64)
        return self.language_model.sequence_scores(sequences)

    def best_paths(self) -> BestPaths:
        """The best path of each utterance, in its place; ties are settled, but by no rule on labels."""
        graph, utterances = self._shared_graph(BEST_PATH), torch.arange(self.num_utterances)
        paths = self.backend.best_paths(graph, self.emissions, utterances)
        return self._outside(paths)

    def best_sequences(self, num_paths: int) -> Paths:
        """Exact."""
        graph, utterances = self._shared_graph(BEST_PATH), torch.arange(self.num_utterances)
        return self._outside(self.backend.best_sequences(graph, self.emissions, utterances, num_paths))

    def best_segments(self) -> Segments:
        """Tokens begin where they are written."""
        found = self.best_paths()
        rows = np.flatnonzero(found.scores > -np.inf)
        begins = np.zeros(found.steps.shape, dtype=bool)
        for row in rows.tolist():
            begins[row, found.token_frames[row]] = True
        return Segments.of(found.select(rows), found.steps[rows], begins[rows], self.blank)

    def best_paths_around(self, paths: Paths, masks: npt.NDArray[np.bool_]) -> Paths:
        """All masks of an utterance at once."""
        found = self.backend.masked_best_paths(
            self._shared_graph(BEST_PATH), self.emissions, torch.from_numpy(paths.utterances), paths.steps, masks
        )
        return self._outside(found.select(np.flatnonzero(found.scores > -np.inf)))

    def enumerate(self) -> Paths:
        """Every path of the topology over every utterance's frames with a score above -inf, walked in the graph."""
        graph, lengths = graph_of(self.topology), self.emissions.input_lengths
        num_paths = num_walks(graph, lengths)
        check_enumerable(num_paths)
        work = enumeration_work(graph, num_paths, self.emissions)
        self.emissions.require(f"all {num_paths.sum():,.0f} paths", work)
        utterances, tokens = np.repeat(np.arange(len(lengths)), num_paths.astype(np.int64)), []
        steps, path = np.full((len(utterances), int(lengths.max(initial=0))), -1, dtype=np.int64), 0
        for num_frames in lengths.tolist():
            for labels, written in walks(graph, num_frames):
                steps[path, :num_frames] = labels
                tokens.append(np.array(written, dtype=np.int64))
                path += 1
        columns = np.where(steps <= self.blank, steps - 1, steps)
        columns[steps == 0] = self.blank
        columns[steps < 0] = -1
        outside = tokens_outside(tokens, self.blank)
        graph_scores = self._of_model(outside).numpy()
        paths = Paths(columns, outside, utterances, graph_scores)
        impossible = self.path_scores(paths).detach() == -torch.inf
        return paths.select(np.flatnonzero(~impossible.cpu().numpy()))

    def sequence_scores(self, sequences: Sequence[TokenSequence], utterances: npt.NDArray[np.int64]) -> torch.Tensor:
        """One training graph per sequence, and the language model's score."""
        inside = tokens_inside(sequences, self.blank)
        graphs = training_graphs(self.topology, inside, epsilon_free=self.backend.needs_epsilon_free)
        graphs = reading_columns(graphs, self.blank)
        totals = self.backend.total_scores(graphs, self.emissions, torch.from_numpy(utterances))
        return totals if self.language_model is None else totals + self._of_model(sequences).to(totals)

    def total_scores(self) -> torch.Tensor:
        """Over the graph that all utterances share."""
        graph = self._shared_graph("failure", epsilon_free=self.backend.needs_epsilon_free)
        with torch.no_grad():
            return self.backend.shared_total_scores(graph, self.emissions)

    def path_scores(self, paths: Paths) -> torch.Tensor:
        """The sum of the log-probs of the labels read, and the language model's score."""
        work = path_score_work(paths.num_paths, paths.steps.shape[1], self.emissions)
        self.emissions.require(f"the scores of {paths.num_paths:,} paths", work)
        device = self.scores.device
        steps = torch.from_numpy(paths.steps).to(device)
        read = steps >= 0
        utterances = torch.from_numpy(paths.utterances).to(device)[:, None]
        frames = torch.arange(steps.shape[1], device=device)[None, :]
        gathered = self.emissions.log_probs[utterances, frames, steps.clamp(min=0)]
        graph_scores = torch.from_numpy(paths.graph_scores).to(device)
        return gathered.masked_fill(~read, 0.0).sum(dim=1, dtype=torch.float64) + graph_scores


@functools.lru_cache(maxsize=4)
def _shared_graph(topology: AbstractTopology, blank: int, epsilon_free: bool) -> GraphBatch:
    """The topology's paths over few arcs, reading the network's columns: one graph for all utterances."""
    graph = without_epsilons(graph_of(topology)) if epsilon_free else factored_of(topology)
    return reading_columns(GraphBatch.from_graphs([graph]), blank)
