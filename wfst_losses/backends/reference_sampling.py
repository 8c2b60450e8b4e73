"""Exact posterior sampling on any graph: sum backwards over the frames, then walk forwards."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, GraphBatch
from wfst_losses.backends.memory import reference_path_work
from wfst_losses.backends.reference import Arcs
from wfst_losses.emissions import Emissions
from wfst_losses.graphs.paths import Paths
from wfst_losses.semiring import segment_logsumexp


def sample_paths(
    graphs: GraphBatch,
    emissions: Emissions,
    utterances: torch.Tensor,
    num_paths: int,
    scale: float,
    generator: torch.Generator | None,
) -> Paths:
    """``num_paths`` independent paths per graph with probability ``softmax(scale * score(path))``.

    Walks on the CPU whatever the device of the emissions. A graph without any path gets none.
    """
    work = reference_path_work(graphs, emissions, utterances.numpy(), num_paths)
    emissions.require(f"{num_paths:,} paths of each of {len(utterances):,} utterances", work)
    with torch.no_grad():
        log_probs = emissions.log_probs.detach().double().cpu()
        walk = _Walk(graphs, log_probs, emissions.input_lengths, utterances, scale)
        return walk.draw(num_paths, generator)


class _Walk:
    """Backward scores of every state at every frame, and walkers that follow them."""

    def __init__(
        self,
        graphs: GraphBatch,
        log_probs: torch.Tensor,
        input_lengths: npt.NDArray[np.int64],
        utterances: torch.Tensor,
        scale: float,
    ) -> None:
        self.graphs, self.log_probs, self.scale = graphs, log_probs, scale
        self.utterances = utterances
        self.arcs = Arcs.of(graphs, utterances, log_probs.device)
        self.lengths = torch.as_tensor(input_lengths)[utterances]
        self.num_frames = int(self.lengths.max()) if len(self.lengths) else 0
        arcs = self.arcs
        # One list of arcs in order of their source, reading arcs first within the numbering of columns.
        self.source = torch.cat([arcs.source, arcs.virtual_source])
        self.order = torch.argsort(self.source, stable=True)
        self.pointer = torch.searchsorted(self.source[self.order], torch.arange(graphs.num_states + 1))
        self.beta = self._backward()

    def _backward(self) -> list[torch.Tensor]:
        """``beta[t][q]``: log-sum of the rest of all paths that stand in q before frame t."""
        arcs, num_states = self.arcs, self.graphs.num_states
        final = self._climb(arcs.final_score * self.scale)
        length_of_state = self.lengths[torch.as_tensor(self.graphs.graph_of_state, dtype=torch.int64)]
        beta = [final]
        for frame in reversed(range(self.num_frames)):
            scores = self._step_scores(frame) + beta[-1][arcs.destination]
            left = self._climb(segment_logsumexp(scores, arcs.source, num_states))
            beta.append(torch.where(frame < length_of_state, left, final))
        return beta[::-1]

    def _step_scores(self, frame: int) -> torch.Tensor:
        arcs = self.arcs
        return self.scale * (arcs.score + self.log_probs[arcs.utterance, frame, arcs.label])

    def _climb(self, beta: torch.Tensor) -> torch.Tensor:
        """Add to each state what leaves it by virtual arcs."""
        for layer in reversed(self.arcs.virtual_layers):
            scores = self.scale * self.arcs.virtual_score[layer] + beta[self.arcs.virtual_destination[layer]]
            beta = torch.logaddexp(beta, segment_logsumexp(scores, self.arcs.virtual_source[layer], len(beta)))
        return beta

    def draw(self, num_paths: int, generator: torch.Generator | None) -> Paths:
        """All walkers, one frame at a time."""
        starts = torch.as_tensor(self.graphs.starts, dtype=torch.int64)
        possible = torch.nonzero(self.beta[0][starts] > -torch.inf).flatten()
        graph = possible.repeat_interleave(num_paths)
        self.state = starts[graph]
        self.graph_scores = torch.zeros(len(graph), dtype=torch.float64)
        steps = torch.full((len(graph), self.num_frames), -1, dtype=torch.int64)
        outputs = []
        for frame in range(self.num_frames + 1):
            table = self._choices(frame)
            # An utterance that has ended earlier has stopped for good, virtual arcs from its final states or not.
            moving = torch.nonzero(self.lengths[graph] >= frame).flatten()
            while len(moving):
                arc = self._choose(table, self.state[moving], self.lengths[graph[moving]] == frame, generator)
                # A walker at its end, or told to stop there, has no arc.
                moving, arc = moving[arc >= 0], arc[arc >= 0]
                label, output = self._take(moving, arc)
                outputs.append((moving, output))
                reads = label != EPSILON
                if frame < self.num_frames:
                    steps[moving[reads], frame] = label[reads]
                moving = moving[~reads]
        self.graph_scores += self.arcs.final_score[self.state]
        tokens = _collected(outputs, len(graph))
        return Paths(steps.numpy(), tokens, self.utterances[graph].numpy(), self.graph_scores.numpy())

    def _choices(self, frame: int) -> torch.Tensor:
        """Cumulative probabilities over all arcs, in order of source, of leaving each state at this frame."""
        arcs, here = self.arcs, self.beta[frame]
        virtual = self.scale * arcs.virtual_score + here[arcs.virtual_destination] - here[arcs.virtual_source]
        if frame < self.num_frames:
            ahead = self.beta[frame + 1]
            reading = self._step_scores(frame) + ahead[arcs.destination] - here[arcs.source]
            reading[frame >= self.lengths[self._graph_of_arc()]] = -torch.inf
        else:
            reading = torch.full((len(arcs.source),), -torch.inf, dtype=torch.float64)
        probability = torch.exp(torch.nan_to_num(torch.cat([reading, virtual]), nan=-torch.inf))[self.order]
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(probability, 0)])

    def _graph_of_arc(self) -> torch.Tensor:
        return torch.as_tensor(self.graphs.graph_of_state, dtype=torch.int64)[self.arcs.source]

    def _choose(
        self, table: torch.Tensor, state: torch.Tensor, at_end: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """An arc per walker in proportion to its probability, -1 for the rest of the mass: stopping."""
        low, high = self.pointer[state], self.pointer[state + 1]
        uniform = torch.rand(len(state), dtype=torch.float64, generator=generator)
        mass = table[high] - table[low]
        # Where no stop is possible the arcs hold all the mass; rounding must not invent a stop.
        may_stop = at_end & (self.arcs.final_score[state] > -torch.inf)
        point = table[low] + uniform * torch.where(may_stop, torch.ones_like(mass), mass)
        position = torch.searchsorted(table[1:], point, right=True)
        position = torch.where(may_stop, position, torch.minimum(position, high - 1))
        stays = (position >= high) | (mass <= 0)
        # A stop behind the last arc of all, or in graphs without arcs, has no entry.
        order = torch.cat([self.order, torch.tensor([-1])])
        return torch.where(stays, torch.full_like(position, -1), order[position])

    def _take(self, walkers: torch.Tensor, arc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        arcs = self.arcs
        label = torch.cat([arcs.label, torch.full_like(arcs.virtual_source, EPSILON)])[arc]
        output = torch.cat([arcs.output, arcs.virtual_output])[arc]
        self.graph_scores[walkers] += torch.cat([arcs.score, arcs.virtual_score])[arc]
        self.state[walkers] = torch.cat([arcs.destination, arcs.virtual_destination])[arc]
        return label, output


def _collected(outputs: list[tuple[torch.Tensor, torch.Tensor]], num_paths: int) -> list[npt.NDArray[np.int64]]:
    """The tokens each walker wrote, in order."""
    nothing = torch.empty(0, dtype=torch.int64)
    walkers = torch.cat([nothing, *(walker for walker, _ in outputs)])
    tokens = torch.cat([nothing, *(token for _, token in outputs)])
    written = tokens != EPSILON
    walkers, tokens = walkers[written], tokens[written]
    order = torch.argsort(walkers, stable=True)
    counts = torch.bincount(walkers, minlength=num_paths).tolist()
    return [part.numpy() for part in torch.split(tokens[order], counts)]
