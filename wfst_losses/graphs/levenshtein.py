"""Capped Levenshtein automata: the edit distance to a reference, read token by token."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from topologies import Graph
from wfst_losses.validation import TokenSequence

MAX_STATES = 1 << 16
"""Larger automata are refused: they take minutes where the usual ones, of a few hundred states, take milliseconds."""

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class EditCosts:
    """What each edit costs, whole numbers, and the cap on their sum.

    Attributes:
        insertion, deletion, substitution: at least 0.
        cap: sums are counted as ``min(sum, cap)``; at least 1.
    """

    insertion: int
    deletion: int
    substitution: int
    cap: int


@dataclasses.dataclass(frozen=True, eq=False)
class LevenshteinAutomaton:
    """A complete deterministic automaton whose state, after a hypothesis, tells its capped edit distance.

    A state is a row of the edit distance's table, ``min(d[j], cap)`` between the hypothesis so far and the first j
    tokens of the reference. Once all of a row is at the cap it stays so: that state absorbs. Tokens that are not in the
    reference do the same in every state, so they share one column of `next_state`: the size does not depend on the
    number of tokens there are. A reference of 20 tokens has 82, 283 and 986 states at caps of 2, 3 and 4.

    Attributes:
        classes: ``(C - 1,)`` the distinct tokens of the reference, ascending: classes 1, 2, ...; all others are 0.
        next_state: ``(C, Q)`` int64, where each class leads from each state; 0 is the start.
        cost: ``(Q,)`` int64, ``min(distance, cap)`` of hypotheses that end in a state.
    """

    classes: Ints
    next_state: Ints
    cost: Ints

    @property
    def num_states(self) -> int:
        """Q."""
        return len(self.cost)

    def class_of(self, num_labels: int) -> Ints:
        """``(num_labels,)`` the class of each token."""
        result = np.zeros(num_labels, dtype=np.int64)
        result[self.classes] = np.arange(1, len(self.classes) + 1)
        return result

    def graph(self, num_labels: int, cost: int) -> Graph:
        """An acceptor of the sequences of tokens ``1..num_labels - 1`` of that cost, without weights."""
        tokens = np.arange(1, num_labels, dtype=np.int32)
        destination = self.next_state[self.class_of(num_labels)[1:]].astype(np.int32)
        label = np.repeat(tokens, self.num_states)
        source = np.tile(np.arange(self.num_states, dtype=np.int32), len(tokens))
        free = np.zeros(len(label), dtype=np.float32)
        return Graph(source, destination.reshape(-1), label, label, free, np.where(self.cost == cost, 0.0, -np.inf))


def levenshtein_automaton(reference: TokenSequence, costs: EditCosts) -> LevenshteinAutomaton:
    """The automaton of one reference, by a search over the table's rows.

    Raises:
        OverflowError: if it has more than `MAX_STATES` states.
    """
    classes = np.unique(reference)
    # Of no class's own: matches nothing.
    representatives = np.concatenate([[-1], classes])
    mismatch = costs.substitution * (representatives[:, None] != reference[None, :])
    start = np.minimum(costs.deletion * np.arange(len(reference) + 1), costs.cap)
    number = {_keys(start[None])[0]: 0}
    rows, frontier, found = [start], start[None], []
    while len(frontier):
        reached = _next_rows(frontier, mismatch, costs)
        # Few tokens of the reference are near: the others do what foreign ones do.
        is_own = (reached != reached[:, :1]).any(axis=2)
        is_own[:, 0] = True
        distinct = reached[is_own]
        numbers, new = np.empty(len(distinct), dtype=np.int64), []
        for index, key in enumerate(_keys(distinct)):
            numbers[index] = number.setdefault(key, len(number))
            if numbers[index] == len(rows):
                rows.append(distinct[index])
                new.append(index)
        if len(rows) > MAX_STATES:
            raise OverflowError(f"more than {MAX_STATES} states")
        table = np.zeros(is_own.shape, dtype=np.int64)
        table[is_own] = numbers
        found.append(np.where(is_own, table, table[:, :1]))
        frontier = distinct[new]
    return LevenshteinAutomaton(classes, np.ascontiguousarray(np.concatenate(found).T), np.array(rows)[:, -1])


def _next_rows(rows: Ints, mismatch: Ints, costs: EditCosts) -> Ints:
    """``(n, C, S + 1)`` the rows after one more token of each class: ``n`` rows of the edit distance's table go on."""
    ahead = np.minimum(rows[:, None, 1:] + costs.insertion, rows[:, None, :-1] + mismatch[None])
    begun = np.broadcast_to(rows[:, None, :1] + costs.insertion, (*ahead.shape[:2], 1))
    # min_i<=j (x[i] + deletion * (j - i)): a running minimum, once what j alone adds is taken away.
    skipped = costs.deletion * np.arange(rows.shape[1])
    least = np.minimum.accumulate(np.concatenate([begun, ahead], axis=2) - skipped, axis=2) + skipped
    return np.minimum(least, costs.cap)


def _keys(rows: Ints) -> list[bytes]:
    width = 8 * rows.shape[1]
    packed = np.ascontiguousarray(rows).tobytes()
    return [packed[place : place + width] for place in range(0, len(packed), width)]
