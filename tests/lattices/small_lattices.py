"""Random small lattices and their definition by enumeration."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import torch

from wfst_losses.lattices import ArcLattice

SCORES = st.one_of(st.just(-np.inf), st.floats(-4, 2, width=32))


@st.composite
def lattices(draw: st.DrawFn, *, num_tokens: int = 2, max_utterances: int = 3) -> ArcLattice:
    """Acyclic graphs with parallel arcs, arcs that write none, one or two tokens, arcs of -inf, and empty graphs."""
    rows: list[tuple[int, int, list[int], float]] = []
    state_splits = [0]
    for _ in range(draw(st.integers(1, max_utterances))):
        low, num_states = state_splits[-1], draw(st.integers(0, 5))
        state_splits.append(low + num_states)
        if num_states < 2:
            continue
        for _ in range(draw(st.integers(0, 9))):
            source = draw(st.integers(0, num_states - 2))
            destination = draw(st.integers(source + 1, num_states - 1))
            tokens = draw(st.lists(st.integers(1, num_tokens), max_size=2))
            rows.append((low + source, low + destination, tokens, draw(SCORES)))
    return lattice_of(rows, state_splits)


def lattice_of(
    rows: list[tuple[int, int, list[int], float]], state_splits: list[int], dtype: torch.dtype = torch.float64
) -> ArcLattice:
    """A lattice of rows ``(source, destination, tokens, score)``."""
    rows = sorted(rows, key=lambda row: row[0])
    return ArcLattice(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.cumsum([0, *(len(row[2]) for row in rows)]),
        np.array([token for row in rows for token in row[2]], dtype=np.int64),
        torch.tensor([row[3] for row in rows], dtype=dtype),
        np.array(state_splits, dtype=np.int64),
    )


def all_paths(lattice: ArcLattice, utterance: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every path of an utterance from its first state to its last: arcs, and the tokens they write."""
    first, end = int(lattice.state_splits[utterance]), int(lattice.state_splits[utterance + 1])
    if first == end:
        return []
    leaving: dict[int, list[int]] = {}
    for arc, source in enumerate(lattice.source.tolist()):
        leaving.setdefault(source, []).append(arc)
    found = []

    def go(state: int, arcs: tuple[int, ...], written: tuple[int, ...]) -> None:
        if state == end - 1:
            found.append((arcs, written))
        for arc in leaving.get(state, []):
            tokens = lattice.tokens[lattice.token_splits[arc] : lattice.token_splits[arc + 1]]
            go(int(lattice.destination[arc]), (*arcs, arc), (*written, *tokens.tolist()))

    go(first, (), ())
    return found


def enumerated_score(
    lattice: ArcLattice, scores: torch.Tensor, utterance: int, sequence: tuple[int, ...]
) -> torch.Tensor:
    """``Z(y)``: log-sum over the possible paths that write the sequence, differentiable in the arcs' scores."""
    totals = [
        scores[list(arcs)].sum()
        for arcs, written in all_paths(lattice, utterance)
        if written == sequence and all(scores[arc] > -np.inf for arc in arcs)
    ]
    return torch.logsumexp(torch.stack(totals), 0) if totals else torch.tensor(-torch.inf, dtype=scores.dtype)
