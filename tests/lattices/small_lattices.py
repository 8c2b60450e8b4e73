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
    state_splits, is_plain = [0], draw(st.booleans())
    for _ in range(draw(st.integers(1, max_utterances))):
        low, num_states = state_splits[-1], draw(st.integers(0, 5))
        state_splits.append(low + num_states)
        if num_states < 2:
            continue
        for _ in range(draw(st.integers(0, 9))):
            source = draw(st.integers(0, num_states - 2))
            destination = draw(st.integers(source + 1, num_states - 1))
            tokens = draw(st.lists(st.integers(1, num_tokens), max_size=1 if is_plain else 2))
            rows.append((low + source, low + destination, tokens, draw(SCORES)))
    return lattice_of(rows, state_splits, is_plain=is_plain)


def lattice_of(
    rows: list[tuple[int, int, list[int], float]],
    state_splits: list[int],
    dtype: torch.dtype = torch.float64,
    *,
    is_plain: bool = False,
) -> ArcLattice:
    """A lattice of rows ``(source, destination, tokens, score)``; plain: one number per arc, 0 or -1 for nothing."""
    rows = sorted(rows, key=lambda row: row[0])
    sources = np.array([row[0] for row in rows], dtype=np.int64)
    first_states = np.array([max(state for state in state_splits if state <= row[0]) for row in rows], dtype=np.int64)
    return ArcLattice(
        np.searchsorted(sources, np.arange(state_splits[-1] + 1)),
        (np.array([row[1] for row in rows], dtype=np.int64) - first_states).astype(np.int32),
        np.array([token for row in rows for token in (row[2] or [-(len(rows) % 2)] * is_plain)], dtype=np.int32),
        None if is_plain else np.cumsum([0, *(len(row[2]) for row in rows)]),
        torch.tensor([row[3] for row in rows], dtype=dtype),
        np.array(state_splits, dtype=np.int64),
    )


def tokens_of(lattice: ArcLattice, arc: int) -> list[int]:
    """What an arc writes."""
    if lattice.token_splits is None:
        return [token for token in lattice.tokens[arc : arc + 1].tolist() if token > 0]
    return lattice.tokens[lattice.token_splits[arc] : lattice.token_splits[arc + 1]].tolist()


def all_paths(lattice: ArcLattice, utterance: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every path of an utterance from its first state to its last: arcs, and the tokens they write."""
    first, end = int(lattice.state_splits[utterance]), int(lattice.state_splits[utterance + 1])
    if first == end:
        return []
    found = []

    def go(state: int, arcs: tuple[int, ...], written: tuple[int, ...]) -> None:
        if state == end - 1:
            found.append((arcs, written))
        for arc in range(*lattice.out_splits[state : state + 2].tolist()):
            go(first + int(lattice.destination[arc]), (*arcs, arc), (*written, *tokens_of(lattice, arc)))

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
