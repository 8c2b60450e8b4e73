"""Sizes in closed form equal sizes counted; predictions bound what is measured."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.topologies.random_graphs import graphs
from topologies import EPSILON, TOPOLOGIES, AbstractTopology, Graph, Size, build, without_epsilons
from wfst_losses.graphs.files import write_graph_file
from wfst_losses.graphs.k2_format import to_k2_dict
from wfst_losses.inspection.sizes import (
    epsilon_free_size,
    graph_sizes,
    predicted_compile_bytes,
    predicted_read_bytes,
    topology_sizes,
)
from wfst_losses.memory_limit import MemoryLimitError


@pytest.mark.parametrize("num_labels", [1, 2, 3, 6, 7, 40])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_closed_form_is_what_counting_gives(name: str, num_labels: int) -> None:
    topology = build(name, num_labels)
    assert topology_sizes(topology) == graph_sizes(topology.graph())


@hypothesis.given(graph=graphs())
def test_the_epsilon_free_form_is_counted_without_building_it(graph: Graph) -> None:
    size, num_finals = epsilon_free_size(graph)
    built = without_epsilons(graph)
    assert (size.num_states, size.num_arcs) == (built.num_states, built.num_arcs)
    assert num_finals == np.count_nonzero(built.final_score > -np.inf)


def test_bytes_in_k2_are_those_of_its_tensors() -> None:
    written = to_k2_dict(without_epsilons(build("compact", 30).graph()))
    # Arcs, a row number and an output label for each; where each row begins and the last ends.
    num_arcs, num_states = len(written["arcs"]), 1 + int(written["arcs"][:, 1].max())
    assert graph_sizes(build("compact", 30).graph()).k2_bytes == num_arcs * (16 + 4 + 4) + 4 * (num_states + 1)


def test_compact_at_50_000_labels() -> None:
    sizes = topology_sizes(build("compact", 50_000))
    assert (sizes.num_states, sizes.num_arcs, sizes.num_epsilon_arcs) == (50_000, 149_998, 49_999)
    assert (sizes.max_arcs_per_state, sizes.is_deterministic) == (50_000, False)


class _Irregular(AbstractTopology):
    """A count that no polynomial continues."""

    name = "irregular"
    is_normalised = False

    def size(self) -> Size:
        return Size(1, 2**self.num_labels)

    def graph(self) -> Graph:
        zeros = np.zeros(2**self.num_labels, dtype=np.int32)
        return Graph(zeros, zeros, zeros, zeros + EPSILON, zeros.astype(np.float32), np.zeros(1, np.float32))


class _Asymmetric(_Irregular):
    is_symmetric = False


def test_what_no_polynomial_continues_is_unknown() -> None:
    sizes = topology_sizes(_Irregular(10))
    assert (sizes.num_arcs, sizes.max_arcs_per_state, sizes.is_deterministic) == (1024, None, False)
    assert sizes.num_bytes == 20 * 1024 + 4
    assert topology_sizes(_Asymmetric(10)) == dataclasses.replace(sizes, num_epsilon_arcs=None, is_deterministic=None)


def test_determinism_is_seen() -> None:
    assert graph_sizes(build("correct", 5).graph()).is_deterministic
    twice = Graph([0, 0], [0, 1], [3, 3], [1, 2], [0.0, 0.0], [0.0, 0.0])
    assert not graph_sizes(twice).is_deterministic


_MEASURE = """
import sys
import torch
from pathlib import Path
from topologies import build
from wfst_losses.graphs.files import read_graph_file, write_graph_file
name, num_labels, path, task = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
write_graph_file(build(name, 5).graph(), path.with_name("small" + path.suffix))
read_graph_file(path.with_name("small" + path.suffix))
def peak():
    # getrusage would count what the parent was before it became this program.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
if task == "write":
    write_graph_file(build(name, num_labels).graph(), path)
else:
    read_graph_file(path)
print(peak() - before)
"""


def measured(*arguments: object) -> int:
    command = [sys.executable, "-c", _MEASURE, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("name", "num_labels", "ending"),
    [("correct", 1000, ".txt"), ("selfless", 1000, ".pt"), ("minimal", 1_000_000, ".txt"), ("compact", 65_000, ".pt")],
)
def test_memory_stays_below_the_prediction(tmp_path: Path, name: str, num_labels: int, ending: str) -> None:
    path = tmp_path / f"graph{ending}"
    topology = build(name, num_labels)
    predicted = predicted_compile_bytes(topology, for_k2=ending == ".pt")
    peak = measured(name, num_labels, path, "write")
    assert 0.2 * predicted < peak < predicted
    write_graph_file(topology.graph(), path)
    assert measured(name, num_labels, path, "read") < predicted_read_bytes(path, is_text=ending == ".txt")


def test_memory_limit_error_carries_its_figures_through_pickling() -> None:
    error = pickle.loads(pickle.dumps(MemoryLimitError("work", 2**40, 2**30)))  # noqa: S301 (our own bytes)
    assert (error.predicted_bytes, error.limit_bytes) == (2**40, 2**30)
    assert str(error).startswith("work would take 1,099,511,627,776 bytes (1,024.0 GiB)")
