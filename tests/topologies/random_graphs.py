"""Random small graphs, as hypothesis draws them."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from topologies import EPSILON, Graph

SCORES = st.integers(-24, 8).map(lambda eighths: eighths / 8)
"""Scores that float32 and sums of a few of them hold exactly."""


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    num_labels: int = 3,
    acceptor: bool = False,
    writing_epsilons: bool = False,
    max_states: int = 4,
    max_arcs: int = 7,
) -> Graph:
    """A weighted graph with parallel arcs, cycles, virtual arcs (acyclic, also from the start), any start state."""
    num_states = draw(st.integers(1, max_states))
    state = st.integers(0, num_states - 1)
    # Virtual arcs ascend in an order of the states that is drawn, so they form no cycle.
    order = draw(st.permutations(range(num_states)))
    label = st.integers(0, num_labels - 1)
    written = st.one_of(st.just(EPSILON), label)
    rows = []
    for _ in range(draw(st.integers(0, max_arcs))):
        source, destination, score = draw(state), draw(state), draw(SCORES)
        if order[source] < order[destination] and draw(st.booleans()):
            rows.append((source, destination, EPSILON, draw(written) if writing_epsilons else EPSILON, score))
        else:
            read = draw(label)
            rows.append((source, destination, read, read if acceptor else draw(written), score))
    final_score = draw(st.lists(st.one_of(st.just(-np.inf), SCORES), min_size=num_states, max_size=num_states))
    columns = list(zip(*rows, strict=True)) or [()] * 5
    integers = [np.array(column, dtype=np.int32) for column in columns[:4]]
    return Graph(
        *integers, np.array(columns[4], dtype=np.float32), np.array(final_score, dtype=np.float32), draw(state)
    )
