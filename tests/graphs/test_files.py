"""Graph files: the same graph comes back, damage does not, and what is written is there whole or not at all."""

from __future__ import annotations

import copyreg
import pickle
import random
import resource
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.graphs.relations import relation
from topologies import EPSILON, TOPOLOGIES, Graph, build, without_epsilons
from wfst_losses.graphs.container import read_container, write_container
from wfst_losses.graphs.dot import to_dot
from wfst_losses.graphs.files import detect_format, format_by_name, read_graph_file, write_graph_file
from wfst_losses.graphs.k2_format import from_k2_dict, to_k2_dict
from wfst_losses.graphs.torch_archive import Ragged

FORMATS = [".fst.txt", ".fst", ".pt", ".safetensors"]


def rows(graph: Graph) -> list[tuple[float, ...]]:
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def same(graph: Graph, other: Graph) -> bool:
    return (
        graph.start == other.start
        and graph.final_score.tolist() == other.final_score.tolist()
        and rows(graph) == rows(other)
    )


def weighted(num_labels: int = 6) -> Graph:
    graph = build("selfless", num_labels).graph()
    generator = np.random.default_rng(0)
    final = np.where(np.arange(num_labels) % 2 == 0, -0.25, -np.inf)
    return Graph(
        graph.source,
        graph.destination,
        graph.input_label,
        graph.output_label,
        generator.normal(size=graph.num_arcs).astype(np.float32),
        final.astype(np.float32),
        graph.start,
    )


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("num_labels", [1, 2, 7])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_comes_back(tmp_path: Path, name: str, num_labels: int, ending: str) -> None:
    graph = build(name, num_labels).graph()
    path = tmp_path / f"graph{ending}"
    written = write_graph_file(graph, path)
    read = read_graph_file(path)
    assert same(read.graph, written)
    assert same(written, without_epsilons(graph) if ending == ".pt" else graph)
    assert read.format == format_by_name(path) == detect_format(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_scores_come_back_to_the_last_bit(tmp_path: Path, ending: str) -> None:
    write_graph_file(weighted(), tmp_path / f"graph{ending}")
    assert same(read_graph_file(tmp_path / f"graph{ending}").graph, weighted())


def test_start_moves_to_state_0_in_k2s_form() -> None:
    chain = Graph(*np.array([[1, 0], [0, 2], [3, 4], [3, EPSILON]]), [0.5, -1.5], [-np.inf, -np.inf, 0.25], 1)
    back = from_k2_dict(to_k2_dict(chain), "x")
    assert back.start == 0
    assert rows(back) == [(0, 1, 3, 3, 0.5), (1, 2, 4, EPSILON, -1.5)]
    assert back.final_score.tolist() == [-np.inf, -np.inf, 0.25]


@pytest.mark.k2
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_k2_reads_what_is_written(tmp_path: Path, name: str) -> None:
    import k2

    write_graph_file(build(name, 5).graph(), tmp_path / "graph.pt")
    fsa = k2.Fsa.from_dict(torch.load(tmp_path / "graph.pt"))
    expected = to_k2_dict(without_epsilons(build(name, 5).graph()))
    assert torch.equal(fsa.as_dict()["arcs"], expected["arcs"])
    assert torch.equal(fsa.aux_labels, expected["aux_labels"])
    assert fsa.properties & k2.fsa_properties.VALID


@pytest.mark.k2
def test_k2s_own_files_are_read(tmp_path: Path) -> None:
    import k2

    for modified, name in ((False, "correct"), (True, "compact")):
        torch.save(k2.ctc_topo(4, modified=modified).as_dict(), tmp_path / "theirs.pt")
        theirs = read_graph_file(tmp_path / "theirs.pt").graph
        ours = without_epsilons(build(name, 5).graph())
        assert theirs.num_arcs == ours.num_arcs
        for graph in (theirs, ours):
            assert int((graph.input_label == 0).sum()) == (5 if name == "correct" else 1)


ROWS = [[1, 2], [], [3], [4, 5, 6], [], [7, 0, 8], [9], [1], [2], [0, 3], [], [-1]]


@pytest.mark.k2
def test_ragged_outputs_that_k2_wrote_are_read(tmp_path: Path) -> None:
    import k2

    fsa = k2.ctc_topo(2)
    fsa.aux_labels = k2.RaggedTensor(ROWS)
    torch.save(fsa.as_dict(), tmp_path / "ragged.pt")
    read = read_graph_file(tmp_path / "ragged.pt").graph
    arcs = fsa.arcs.values().tolist()
    assert_writes_rows(read, [tuple(arc[:3]) for arc in arcs])


def assert_writes_rows(graph: Graph, arcs: list[tuple[int, ...]]) -> None:
    """Every path over k2's arcs, one of `ROWS` each, is a path of the graph, and there is no other."""
    wanted: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}

    def go(state: int, labelling: tuple[int, ...], written: tuple[int, ...]) -> None:
        for (source, destination, label), row in zip(arcs, ROWS, strict=True):
            output = (*written, *(word for word in row if word > 0))
            if source == state and label == -1 and len(labelling) == 3:
                wanted[labelling, output] = wanted.get((labelling, output), 0) + 1
            elif source == state and label != -1 and len(labelling) < 3:
                go(destination, (*labelling, label), output)

    go(0, (), ())
    assert relation(graph, 3) == pytest.approx(wanted)


def test_ragged_outputs_are_read_without_k2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class RaggedTensor:
        def __reduce_ex__(self, _: object) -> tuple[object, ...]:
            splits = np.cumsum([0] + [len(row) for row in ROWS])
            state = (
                torch.tensor(splits, dtype=torch.int32),
                "row_ids1",
                torch.from_numpy(np.concatenate(ROWS).astype(np.int32)),
            )
            return copyreg.__newobj__, (RaggedTensor,), state  # type: ignore[attr-defined]

    RaggedTensor.__module__, RaggedTensor.__qualname__ = "_k2.ragged", "RaggedTensor"
    monkeypatch.setitem(sys.modules, "_k2", sys.modules.get("_k2", types.SimpleNamespace()))
    monkeypatch.setitem(sys.modules, "_k2.ragged", types.SimpleNamespace(RaggedTensor=RaggedTensor))
    arcs = [(s, d, d, 0) for s in range(3) for d in range(3)] + [(s, 3, -1, 0) for s in range(3)]
    table = torch.tensor(sorted(arcs), dtype=torch.int32)
    torch.save({"arcs": table, "aux_labels": RaggedTensor()}, tmp_path / "ragged.pt")
    assert_writes_rows(read_graph_file(tmp_path / "ragged.pt").graph, [tuple(arc[:3]) for arc in table.tolist()])
    wrong = {"arcs": table, "aux_labels": Ragged(torch.tensor([0, 5]).int(), torch.arange(5).int())}
    with pytest.raises(ValueError, match=r"x\.pt: 'aux_labels' is neither"):
        from_k2_dict(wrong, "x.pt")
    wrong["aux_labels"] = Ragged(torch.tensor([0, 7, *range(2, 13)]).int(), torch.arange(12).int())
    with pytest.raises(ValueError, match=r"x\.pt: .*row splits that do not ascend"):
        from_k2_dict(wrong, "x.pt")


@pytest.mark.parametrize("ending", FORMATS)
def test_no_prefix_is_read_as_another_graph(tmp_path: Path, ending: str) -> None:
    graph = build("compact", 3).graph()
    path = tmp_path / f"graph{ending}"
    written = write_graph_file(graph, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if content[length:].startswith(b"wfst-losses crc32"):
            continue  # only the checksum is missing, as in files of OpenFst
        with pytest.raises(ValueError, match=r"graph|expected"):
            read_graph_file(path)
    path.write_bytes(content)
    assert same(read_graph_file(path).graph, written)


@pytest.mark.parametrize("ending", FORMATS)
def test_no_flipped_bit_is_read_as_another_graph(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"graph{ending}"
    write_graph_file(weighted(), path)
    content = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_graph_file(path).graph
        except ValueError:
            refused += 1
        else:
            # A bit of a time stamp or of padding harms nothing.
            assert same(read, weighted())
    assert refused > 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "no text"),
        (b"\xd6\xfd\xb2\x7e\x06\x00\x00\x00vector", "truncated"),
        (b"\x10" + bytes(7) + b'{"a": {"b": 1}}!', "damaged .* expected a graph in safetensors"),
        (b"PK\x03\x04nothing", "truncated or damaged"),
        (b"0\t1\t1\t1\n", "no state is final"),
        (b"0 1 one 1\n1\n", "line 1"),
        (b"0 1 1 1\n1 2\n3 4 5\n", "line 3"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"file\.bin.*{message}"):
        read_graph_file(path)


class _Danger:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"arcs": torch.zeros(1, 4, dtype=torch.int32), "more": _Danger()}, "danger.pt")
    with pytest.raises(ValueError, match="not loaded"):
        read_graph_file("danger.pt")
    Path("danger.txt").write_bytes(pickle.dumps(_Danger()))
    with pytest.raises(ValueError, match=r"danger\.txt"):
        read_graph_file("danger.txt")
    assert not Path("executed").exists()


def arcs(*table: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor([(*row, 0) for row in table], dtype=torch.int32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list"),
        ({}, "no int32 tensor 'arcs'"),
        ({"arcs": torch.zeros(3, 4)}, "no int32 tensor 'arcs'"),
        ({"arcs": torch.zeros(9, dtype=torch.int32)}, "several graphs"),
        ({"arcs": torch.zeros(0, 4, dtype=torch.int32)}, "an arc or more"),
        ({"arcs": torch.zeros(3, 5, dtype=torch.int32)}, r"\(3, 5\)"),
        ({"arcs": arcs((0, 1, 1), (1, 2, -1)), "aux_labels": torch.zeros(3, dtype=torch.int32)}, "aux_labels"),
        ({"arcs": arcs((0, 1, 1), (1, 2, -1)), "aux_labels": torch.zeros(2)}, "aux_labels"),
        ({"arcs": arcs((0, 1, 1), (1, 2, 3))}, "do not all lead"),
        ({"arcs": arcs((0, 2, 1), (1, 2, -1))}, "do not all lead"),
        ({"arcs": arcs((0, 1, 1), (5, 2, -1))}, "source state is outside 0..1"),
        ({"arcs": arcs((0, -1, 1), (1, 2, -1))}, "destination state is outside"),
        ({"arcs": arcs((0, 1, -7), (1, 2, -1))}, "label is -7"),
        ({"arcs": arcs((0, 1, 1), (1, 2**30, -1))}, "damaged"),
        ({"arcs": torch.tensor([[0, 1, 1, 0x7FC00000], [1, 2, -1, 0]], dtype=torch.int32)}, "nan"),
    ],
)
def test_a_dictionary_that_is_no_graph_is_refused(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^some\.pt: .*{message}"):
        from_k2_dict(content, "some.pt")


def test_what_k2_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="read nothing"):
        to_k2_dict(build("compact", 3).graph())
    with pytest.raises(ValueError, match="input label 65535, expected below 65535"):
        to_k2_dict(build("minimal", 65_536).graph())
    with pytest.raises(ValueError, match="no final state"):
        to_k2_dict(Graph([0], [0], [0], [0], [0.0], [-np.inf]))


def test_other_endings_and_things_that_are_no_files_are_refused(tmp_path: Path) -> None:
    graph = build("minimal", 2).graph()
    with pytest.raises(ValueError, match=r"'\.far'"):
        write_graph_file(graph, tmp_path / "graph.far")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ValueError, match="no regular file"):
        write_graph_file(graph, tmp_path / "folder.pt")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.pt").symlink_to("real.pt")
    write_graph_file(build("minimal", 2).graph(), tmp_path / "link.pt")
    assert (tmp_path / "link.pt").is_symlink()
    assert read_graph_file(tmp_path / "real.pt").graph.num_arcs == 2


@pytest.mark.parametrize("ending", FORMATS)
def test_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    old = tmp_path / f"graph{ending}"
    old.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_graph_file(build("correct", 200).graph(), old)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(old)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_an_interrupt_while_torch_writes_is_an_interrupt(tmp_path: Path) -> None:
    # In a process of its own: an exception that passes through torch's writer ends it.
    code = """
import sys
from topologies import build
from wfst_losses.graphs import files
class Interrupted:
    def __init__(self, file):
        self.file = file
    def write(self, data):
        raise KeyboardInterrupt
original = files._Sink
files._Sink = lambda file: original(Interrupted(file))
try:
    files.write_graph_file(build("minimal", 9).graph(), sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "graph.pt")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_container_keeps_doubles_and_what_it_is_told(tmp_path: Path) -> None:
    graph = weighted()
    exact = Graph(
        graph.source, graph.destination, graph.input_label, graph.output_label, graph.score.astype(np.float64) / 3,
        graph.final_score.astype(np.float64),
    )  # fmt: skip
    write_container(exact, tmp_path / "x.safetensors", writes_words=True, about={"topology": "selfless"})
    read, about = read_container(tmp_path / "x.safetensors")
    assert same(read, exact)
    assert read.score.dtype == np.float64
    assert (about["writes"], about["topology"], about["version"]) == ("words", "selfless", "1")


@pytest.mark.parametrize(
    ("columns", "about", "message"),
    [
        ({"a": np.zeros(3)}, {}, "holds something else"),
        ({"a": np.zeros(3)}, {"format": "wfst-losses graph"}, "holds something else"),
        ({}, {"format": "wfst-losses graph", "version": "9"}, "has version '9'"),
        ({}, {"format": "wfst-losses graph", "version": "1", "sha256": "0"}, "its checksum differs"),
    ],
)
def test_other_safetensors_are_refused(
    tmp_path: Path, columns: dict[str, np.ndarray], about: dict[str, str], message: str
) -> None:
    names = ("source", "destination", "input_label", "output_label", "score", "final_score")
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(columns or {name: np.zeros(2, np.int32) for name in names}, path, about)
    with pytest.raises(ValueError, match=rf"x\.safetensors: .*{message}"):
        read_graph_file(path)


@pytest.mark.parametrize("ending", [".fst.txt", ".fst"])
def test_words_are_ids_in_openfsts_files(tmp_path: Path, ending: str) -> None:
    graph = Graph([0, 0], [1, 1], [0, 3], [7, EPSILON], [0.0, 0.0], [-np.inf, 0.0])
    write_graph_file(graph, tmp_path / f"x{ending}", writes_words=True)
    assert same(read_graph_file(tmp_path / f"x{ending}", writes_words=True).graph, graph)
    assert read_graph_file(tmp_path / f"x{ending}").graph.output_label.tolist() == [6, EPSILON]
    with pytest.raises(ValueError, match="writes word 0"):
        write_graph_file(Graph([0], [0], [1], [0], [0.0], [0.0]), tmp_path / f"x{ending}", writes_words=True)


def test_dot_is_read_by_graphviz_as_it_is_meant(tmp_path: Path) -> None:
    graph = Graph([0, 1], [1, 0], [1, EPSILON], [1, EPSILON], [0.0, -0.5], [-np.inf, -0.25], 1)
    text = to_dot(graph, ["<blk>", 'a"\\'], ["<eps>", "word"])
    assert text.splitlines()[4:] == [
        '  0 [shape=circle, label="0"]',
        '  1 [shape=doublecircle, label="1/-0.25", style=bold]',
        '  0 -> 1 [label="a\\"\\\\:word"]',
        '  1 -> 0 [label="ε:ε/-0.5", style=dashed]',
        "}",
    ]
    write_graph_file(graph, tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text() == to_dot(graph)
