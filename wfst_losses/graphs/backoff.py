"""Back-off of n-gram models: looked up, followed along sequences, and made into plain arcs.

A model is an acceptor whose arcs read a token or, `EPSILON`, back off. Back-off as *failure* is taken only where the
token (or the end) is not listed; as *epsilon* it may be taken anywhere, so that listed tokens count twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from topologies import EPSILON, Graph
from topologies.batch import ranges
from wfst_losses.semiring import segment_logsumexp
from wfst_losses.validation import TokenSequence

Ints: TypeAlias = npt.NDArray[np.int64]


class Realised(NamedTuple):
    """A model made of plain arcs and epsilons.

    Attributes:
        graph: its columns, float64.
        arc_scores, final_scores: the same scores, attached to the model's.
        expanded: ``(num_states,)`` states whose back-off was replaced by arcs; these and the way of backing off decide
            all of the graph but its scores.
    """

    graph: Graph
    arc_scores: torch.Tensor
    final_scores: torch.Tensor
    expanded: npt.NDArray[np.bool_]


class BackoffArcs:
    """The arcs of a back-off model, found by state and token.

    The end of a sequence is a token like others here, `end`, whose arcs are the final scores: weights are numbered as
    in ``cat([arc scores, final scores])``.

    Raises:
        ValueError: if two arcs of a state read the same token, or back-off arcs form a cycle.
    """

    def __init__(self, graph: Graph) -> None:
        self.num_states, self.start = graph.num_states, graph.start
        self.end = int(graph.input_label.max(initial=0)) + 1
        backs = np.flatnonzero(graph.input_label == EPSILON)
        listed = np.flatnonzero(graph.input_label != EPSILON)
        finals = np.flatnonzero(graph.final_score > -np.inf)
        _refuse_duplicates(graph)
        self.back = np.full(graph.num_states, -1)
        self.back[graph.source[backs]] = backs
        self.parent = np.full(graph.num_states, -1)
        self.parent[graph.source[backs]] = graph.destination[backs]
        _refuse_cycles(self.parent)
        source = np.concatenate([graph.source[listed], finals]).astype(np.int64)
        token = np.concatenate([graph.input_label[listed], np.full(len(finals), self.end)])
        key = source * (self.end + 1) + token
        order = np.argsort(key)
        self.key, self.source, self.token = key[order], source[order], token[order]
        self.destination = np.concatenate([graph.destination[listed], np.full(len(finals), -1)])[order]
        self.weight = np.concatenate([listed, graph.num_arcs + finals])[order]
        self.splits = np.searchsorted(self.source, np.arange(graph.num_states + 1))

    def find(self, state: Ints, token: Ints) -> Ints:
        """The row that lists each token at each state, -1 where none does."""
        if not len(self.key):
            return np.full(len(state), -1)
        key = np.where((token < 0) | (token > self.end), -1, state * (self.end + 1) + token)
        row = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where(self.key[row] == key, row, -1)


def _refuse_duplicates(graph: Graph) -> None:
    key = graph.source.astype(np.int64) * (int(graph.input_label.max(initial=0)) + 2) + graph.input_label + 1
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(np.diff(key[order]) == 0)
    if len(same):
        first, second = order[same[0]], order[same[0] + 1]
        token = graph.input_label[second]
        what = "back off" if token == EPSILON else f"read token {token}"
        raise ValueError(
            f"language model: arcs {first} and {second} of state {graph.source[second]} both {what}, expected one"
        )


def _refuse_cycles(parent: Ints) -> None:
    state = parent
    for _ in range(len(parent)):
        state = np.where(state >= 0, parent[state], -1)
        if (state < 0).all():
            return
    if len(parent):
        raise ValueError(
            f"language model: back-off from state {int(np.argmax(state >= 0))} never ends, expected no cycle"
        )


def sequence_scores(
    arcs: BackoffArcs, weights: torch.Tensor, sequences: Sequence[TokenSequence], *, failure: bool
) -> torch.Tensor:
    """``(n,)`` each sequence's score with its end, differentiable; -inf where the model has no path.

    With failure that of its one path, else the log-sum over all ways of backing off.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    padded = np.full((len(sequences), int(lengths.max(initial=0)) + 1), -1, dtype=np.int64)
    for index, sequence in enumerate(sequences):
        # A token that the model has no number for must not pass for the end.
        padded[index, : len(sequence)] = np.where(sequence < arcs.end, sequence, -1)
    padded[np.arange(len(sequences)), lengths] = arcs.end
    owner, state = np.arange(len(sequences)), np.full(len(sequences), arcs.start)
    score = torch.zeros(len(sequences), dtype=weights.dtype, device=weights.device)
    ended = [(owner[:0], score[:0])]
    for position in range(padded.shape[1]):
        owners, states, scores = [owner[:0]], [state[:0]], [score[:0]]
        while len(owner):
            row = arcs.find(state, padded[owner, position])
            hit = np.flatnonzero(row >= 0)
            owners.append(owner[hit])
            states.append(arcs.destination[row[hit]])
            scores.append(score[hit] + weights[arcs.weight[row[hit]]])
            on = np.flatnonzero((arcs.back[state] >= 0) & ((row < 0) | (not failure)))
            score = score[on] + weights[arcs.back[state[on]]]
            owner, state = owner[on], arcs.parent[state[on]]
        places = np.concatenate(owners) * (arcs.num_states + 1) + np.concatenate(states) + 1
        place, inverse = np.unique(places, return_inverse=True)
        score = segment_logsumexp(torch.cat(scores), torch.from_numpy(inverse.reshape(-1)), len(place))
        owner, state = place // (arcs.num_states + 1), place % (arcs.num_states + 1)
        is_over = np.flatnonzero(state == 0)
        ended.append((owner[is_over], score[is_over]))
        going = np.flatnonzero(state > 0)
        owner, state, score = owner[going], state[going] - 1, score[going]
    place = np.concatenate([part for part, _ in ended])
    total = torch.full((len(sequences),), -torch.inf, dtype=weights.dtype, device=weights.device)
    return total.index_copy(0, torch.from_numpy(place), torch.cat([part for _, part in ended]))


def realise_epsilon(graph: Graph, weights: torch.Tensor) -> Realised:
    """The model's own arcs."""
    arc_scores, final_scores = weights[: graph.num_arcs], weights[graph.num_arcs :]
    none = np.zeros(graph.num_states, dtype=bool)
    return _realised(graph, graph.source, graph.destination, graph.input_label, arc_scores, final_scores, none)


def realise_failure(graph: Graph, arcs: BackoffArcs, weights: torch.Tensor, *, best_path: bool = False) -> Realised:
    """Plain arcs and epsilons that give every token the probability of failure, exactly, in sums over paths.

    A listed token that can be reached by backing off too, gets ``log(p(k|s) - bo(s) p(k|b(s)))`` where that is the
    logarithm of a positive number and both ways lead to the same state: the two ways then sum to ``p(k|s)``. A state
    with any other such token is expanded: arcs for all tokens reachable by failure in place of its back-off arc.
    With ``best_path`` listed tokens keep their own scores: the *best* of the graph's paths has the score of failure.
    """
    below = np.flatnonzero(arcs.parent[arcs.source] >= 0)
    row, backed_off = _resolve(arcs, weights, arcs.source[below], arcs.token[below])
    twice = row >= 0
    below, row = below[twice], row[twice]
    directly, backed_off = weights[arcs.weight[below]], backed_off[torch.from_numpy(twice)]
    fits = (arcs.destination[row] == arcs.destination[below]) & (directly > backed_off).detach().cpu().numpy()
    expanded = np.zeros(arcs.num_states, dtype=bool)
    expanded[arcs.source[below[~fits]]] = True

    kept = ~expanded[arcs.source[below]]
    rest = directly[kept]
    if not best_path:
        rest = rest + torch.log1p(-torch.exp(backed_off[kept] - directly[kept]))
    scores = weights[arcs.weight].index_copy(0, torch.from_numpy(below[kept]), rest)
    plain = np.flatnonzero(~expanded[arcs.source])
    back = np.flatnonzero((arcs.parent >= 0) & ~expanded)
    opened_source, opened_row, opened_score = _expansions(arcs, weights, np.flatnonzero(expanded))

    source = np.concatenate([arcs.source[plain], back, opened_source])
    destination = np.concatenate([arcs.destination[plain], arcs.parent[back], arcs.destination[opened_row]])
    token = np.concatenate([arcs.token[plain], np.full(len(back), EPSILON), arcs.token[opened_row]])
    score = torch.cat([scores[plain], weights[arcs.back[back]], opened_score])
    is_end = token == arcs.end
    final_scores = torch.full((arcs.num_states,), -torch.inf, dtype=weights.dtype, device=weights.device)
    final_scores = final_scores.index_copy(0, torch.from_numpy(source[is_end]), score[is_end])
    columns = source[~is_end], destination[~is_end], token[~is_end]
    return _realised(graph, *columns, score[~is_end], final_scores, expanded)


def _resolve(arcs: BackoffArcs, weights: torch.Tensor, state: Ints, token: Ints) -> tuple[Ints, torch.Tensor]:
    """Where each token is listed after backing off from each state (-1: nowhere), and its score from there on."""
    found, query = np.full(len(state), -1), np.arange(len(state))
    score = torch.zeros(len(state), dtype=weights.dtype, device=weights.device)
    result = torch.full_like(score, -torch.inf)
    while len(query):
        on = np.flatnonzero(arcs.back[state] >= 0)
        score = score[on] + weights[arcs.back[state[on]]]
        query, state = query[on], arcs.parent[state[on]]
        row = arcs.find(state, token[query])
        hit, miss = np.flatnonzero(row >= 0), np.flatnonzero(row < 0)
        found[query[hit]] = row[hit]
        result = result.index_copy(0, torch.from_numpy(query[hit]), score[hit] + weights[arcs.weight[row[hit]]])
        query, state, score = query[miss], state[miss], score[miss]
    return found, result


def _expansions(arcs: BackoffArcs, weights: torch.Tensor, states: Ints) -> tuple[Ints, Ints, torch.Tensor]:
    """All that failure reaches from each state: the state, the row taken in the end and the score on the way."""
    state, at = states, states
    score = torch.zeros(len(states), dtype=weights.dtype, device=weights.device)
    sources, rows, scores = [states[:0]], [states[:0]], [score[:0]]
    while len(state):
        place, row = ranges(arcs.splits[at], arcs.splits[at + 1])
        sources.append(state[place])
        rows.append(row)
        scores.append(score[place] + weights[arcs.weight[row]])
        on = np.flatnonzero(arcs.back[at] >= 0)
        score = score[on] + weights[arcs.back[at[on]]]
        state, at = state[on], arcs.parent[at[on]]
    source, row = np.concatenate(sources), np.concatenate(rows)
    # Nearer states come first, and theirs is the arc that counts.
    _, first = np.unique(source * (arcs.end + 1) + arcs.token[row], return_index=True)
    return source[first], row[first], torch.cat(scores)[first]


def _realised(
    graph: Graph,
    source: npt.NDArray[Any],
    destination: npt.NDArray[Any],
    token: npt.NDArray[Any],
    arc_scores: torch.Tensor,
    final_scores: torch.Tensor,
    expanded: npt.NDArray[np.bool_],
) -> Realised:
    score, final_score = (column.detach().cpu().double().numpy() for column in (arc_scores, final_scores))
    source, destination, token = (column.astype(np.int32) for column in (source, destination, token))
    found = Graph(source, destination, token, token, score, final_score, graph.start)
    return Realised(found, arc_scores, final_scores, expanded)
