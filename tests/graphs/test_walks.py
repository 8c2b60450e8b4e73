"""Every path of a graph: counted without taking any, and taken."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import topologies
from tests.topologies.random_graphs import graphs
from topologies import Graph
from wfst_losses.graphs.walks import num_walks, walks


@hypothesis.given(graph=graphs(num_labels=3, max_states=4, max_arcs=8), lengths=st.lists(st.integers(0, 4), min_size=1))
def test_counts_are_those_of_enumeration(graph: Graph, lengths: list[int]) -> None:
    found = num_walks(graph, np.array(lengths, dtype=np.int64))
    assert found.tolist() == [len(walks(graph, num_frames)) for num_frames in lengths]


@pytest.mark.parametrize(("name", "count"), [("correct", 4**9), ("compact", None)])
def test_counts_of_topologies(name: str, count: int | None) -> None:
    graph = topologies.build(name, 4).graph()
    (found,) = num_walks(graph, np.array([9]))
    assert found == (count or len(walks(graph, 9)))
