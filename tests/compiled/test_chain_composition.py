"""Many compositions on several threads, and those of each target alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import topologies
from topologies import GraphBatch
from wfst_losses.compiled.chain_composition import compose_chains
from wfst_losses.compiled.distinct import num_distinct


@pytest.mark.parametrize("topology", sorted(topologies.TOPOLOGIES))
def test_threads_make_no_difference(topology: str) -> None:
    rng = np.random.default_rng(0)
    # An empty one, one that is long, and repeated tokens among them: more tokens than one thread is given alone.
    targets = [rng.integers(1, 5, length) for length in [0, 700, *rng.integers(0, 90, 150).tolist()]]
    assert sum(map(len, targets)) > 5_000
    graph, found = topologies.build(topology, 5).graph(), []
    num_threads = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(compose_chains(graph, targets))
    finally:
        torch.set_num_threads(num_threads)
    for batch in found:
        for field in dataclasses.fields(GraphBatch):
            wanted, value = getattr(found[0], field.name), getattr(batch, field.name)
            assert np.array_equal(value, wanted), field.name
            assert value.dtype == wanted.dtype, field.name
    for index, target in enumerate(targets):
        one, alone = found[1].graph(index), compose_chains(graph, [target]).graph(0)
        assert one.start == alone.start
        for name in ("source", "destination", "input_label", "output_label", "score", "final_score"):
            assert np.array_equal(getattr(one, name), getattr(alone, name)), name


def test_distinct_numbers_are_counted_by_row() -> None:
    values = np.array([3, 3, -1, 0, 3, 7, 7, 0], dtype=np.int32)
    assert num_distinct(values, np.array([0, 0, 4, 5, 8])).tolist() == [0, 2, 1, 2]
    assert num_distinct(values[:0], np.array([0, 0])).tolist() == [0]
    assert num_distinct(np.array([-1], dtype=np.int32), np.array([0, 1])).tolist() == [0]
