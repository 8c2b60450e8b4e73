"""OpenFst's binary format: what OpenFst writes is read, what is written OpenFst reads, damage is seen."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import kaldifst
import numpy as np
import pytest

from tests.topologies.random_graphs import graphs
from topologies import EPSILON, Graph, build
from topologies.openfst_binary import MAGIC, read_openfst_binary, write_openfst_binary


def content(graph: Graph) -> tuple[object, ...]:
    columns = (graph.source, graph.destination, graph.input_label, graph.output_label, graph.score)
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    return graph.start, graph.final_score.tolist(), rows


def weighted() -> Graph:
    graph = build("compact", 4).graph()
    score = np.linspace(-1, 1, graph.num_arcs).astype(np.float32)
    score[1] = -np.inf
    return Graph(
        graph.source[::-1], graph.destination[::-1], graph.input_label[::-1], graph.output_label[::-1], score,
        [0.25, -np.inf, 0.0, -1.5], 2,
    )  # fmt: skip


@hypothesis.given(graph=graphs())
def test_comes_back(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("fst") / "graph.fst"
    write_openfst_binary(graph, path)
    assert content(read_openfst_binary(path)) == content(graph)


def test_openfst_reads_it_as_it_reads_the_text(tmp_path: Path) -> None:
    write_openfst_binary(weighted(), tmp_path / "graph.fst")
    theirs = kaldifst.StdVectorFst.read(str(tmp_path / "graph.fst"))
    wanted = kaldifst.compile(weighted().to_openfst_text(), keep_state_numbering=True)
    assert sorted(theirs.to_str().splitlines()) == sorted(wanted.to_str().splitlines())


def test_openfsts_own_file_is_read(tmp_path: Path) -> None:
    wanted = kaldifst.compile(weighted().to_openfst_text(), keep_state_numbering=True)
    wanted.write(str(tmp_path / "theirs.fst"))
    assert content(read_openfst_binary(tmp_path / "theirs.fst")) == content(weighted())


def test_symbol_tables_are_passed_over(tmp_path: Path) -> None:
    symbols = kaldifst.SymbolTable()
    for name in ("<eps>", "<blk>", "a", "longer-name"):
        symbols.add_symbol(name)
    fst = kaldifst.compile(
        "0\t1\t<blk>\ta\t0.5\n1\n", isymbols=symbols, osymbols=symbols, keep_isymbols=True, keep_osymbols=True
    )
    fst.write(str(tmp_path / "named.fst"))
    graph = read_openfst_binary(tmp_path / "named.fst")
    assert content(graph) == (0, [-np.inf, 0.0], [(0, 1, 0, 1, -0.5)])


def test_words_keep_their_ids(tmp_path: Path) -> None:
    graph = Graph([0, 0], [1, 1], [0, 3], [7, EPSILON], [0.0, 0.0], [-np.inf, 0.0])
    write_openfst_binary(graph, tmp_path / "words.fst", writes_words=True)
    theirs = kaldifst.StdVectorFst.read(str(tmp_path / "words.fst")).to_str()
    assert [line.split() for line in theirs.splitlines()] == [list("0117"), list("0140"), ["1"]]
    assert content(read_openfst_binary(tmp_path / "words.fst", writes_words=True)) == content(graph)
    with pytest.raises(ValueError, match="writes word 0"):
        write_openfst_binary(Graph([0], [0], [1], [0], [0.0], [0.0]), tmp_path / "x", writes_words=True)


ONE = (1).to_bytes(8, "little")


def header(kind: bytes = b"vector", arc: bytes = b"standard", version: int = 2, flags: int = 0) -> bytes:
    parts = [MAGIC, len(kind).to_bytes(4, "little"), kind, len(arc).to_bytes(4, "little"), arc]
    return b"".join([*parts, version.to_bytes(4, "little"), flags.to_bytes(4, "little")])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"none", "no OpenFst binary file"),
        (header(kind=b"const"), "holds a b'const'"),
        (header(arc=b"log"), "of b'log' arcs"),
        (header(version=3) + bytes(32), "version 3"),
        (header(flags=4) + bytes(32), "flags 4"),
        (header() + bytes(16) + (2**40).to_bytes(8, "little") + bytes(8), "1099511627776 states"),
        (header() + bytes(16) + bytes(16), "0 states"),
        (header(flags=1) + bytes(16) + ONE + bytes(24), "no symbol table"),
        (header() + bytes(16) + ONE + bytes(12) + (9).to_bytes(8, "little"), "state 0 has 9 arcs"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, start: bytes, message: str) -> None:
    (tmp_path / "other.fst").write_bytes(start)
    with pytest.raises(ValueError, match=rf"other\.fst: .*{message}"):
        read_openfst_binary(tmp_path / "other.fst")
