"""The store finds what it compiled by its content, shares it between processes, and mends what is damaged."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import topologies
from tests.cli.calling import environment
from tests.graphs.test_decoding_graph import random_lexicon, random_model
from topologies import CorrectTopology, Graph
from wfst_losses import LanguageModel
from wfst_losses.graphs import container, store
from wfst_losses.graphs.decoding_graph import DecodingGraph
from wfst_losses.graphs.store import GraphStore, content_key

CORRECT = topologies.build("correct", 4)


def columns(made: DecodingGraph) -> list[bytes]:
    graph = made.graph
    return [getattr(graph, field.name).tobytes() for field in dataclasses.fields(graph) if field.name != "start"]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compiled, in order."""
    names: list[str] = []
    original = store.decoding_graph

    def counted(topology: topologies.AbstractTopology, *arguments: object, **options: object) -> DecodingGraph:
        names.append(topology.name)
        return original(topology, *arguments, **options)

    monkeypatch.setattr(store, "decoding_graph", counted)
    return names


def test_what_is_kept_is_not_compiled_again(tmp_path: Path, compiled: list[str]) -> None:
    kept = GraphStore(tmp_path / "new" / "folder")
    first = kept.decoding_graph(CORRECT, random_model(0), random_lexicon(0), engine="openfst")
    # The same content, in other objects.
    again = kept.decoding_graph(topologies.build("correct", 4), random_model(0), random_lexicon(0), engine="openfst")
    assert compiled == ["correct"]
    assert columns(again) == columns(first)
    assert again.writes_words
    tokens = kept.decoding_graph(CORRECT, LanguageModel.uniform(4), engine="openfst")
    assert not tokens.writes_words
    assert not kept.decoding_graph(CORRECT, LanguageModel.uniform(4), engine="openfst").writes_words
    assert len(compiled) == 2


@dataclasses.dataclass(frozen=True)
class CorrectToo(CorrectTopology):
    """The same name and size, another graph."""

    def graph(self) -> Graph:
        graph = super().graph()
        return dataclasses.replace(graph, score=graph.score - 1)


CorrectToo.__qualname__ = CorrectTopology.__qualname__


def test_everything_that_determines_a_graph_is_part_of_its_key() -> None:
    model, lexicon = random_model(1), random_lexicon(0)
    arcs = model.arcs
    score, final_score = arcs.score.copy(), arcs.final_score.copy()
    score[0] = np.nextafter(score[0], 0)
    final_score[0] += 1
    models = [
        dataclasses.replace(model, arcs=dataclasses.replace(arcs, score=score)),
        dataclasses.replace(model, arcs=dataclasses.replace(arcs, final_score=final_score)),
        dataclasses.replace(model, arcs=dataclasses.replace(arcs, start=(arcs.start + 1) % arcs.num_states)),
        dataclasses.replace(model, num_labels=9),
    ]
    word, spelling, mark = lexicon.entries[0]
    lexicons = [
        dataclasses.replace(lexicon, tokens=("<blk>", "a", "b", "d")),
        dataclasses.replace(lexicon, words=(*lexicon.words[:-1], "F")),
        dataclasses.replace(lexicon, silence=3),
        dataclasses.replace(lexicon, silence_probability=0.25),
        dataclasses.replace(lexicon, entries=((word, spelling, mark + 7), *lexicon.entries[1:])),
    ]
    keys = [
        content_key(CORRECT, model, lexicon, backoff="epsilon"),
        content_key(CORRECT, model, lexicon, backoff="failure"),
        content_key(CORRECT, model),
        content_key(CORRECT, None, lexicon),
        content_key(CorrectToo(4), model, lexicon, backoff="epsilon"),
        content_key(topologies.build("correct", 5), model, lexicon, backoff="epsilon"),
        *(
            content_key(topologies.build(name, 4), model, lexicon, backoff="epsilon")
            for name in ("compact", "selfless")
        ),
        *(content_key(CORRECT, other, lexicon, backoff="epsilon") for other in models),
        *(content_key(CORRECT, model, other, backoff="epsilon") for other in lexicons),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(CORRECT, random_model(1), random_lexicon(0), backoff="epsilon") == keys[0]


def test_versions_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [content_key(CORRECT)]
    monkeypatch.setattr(store, "COMPILER_VERSION", 0)
    keys.append(content_key(CORRECT))
    monkeypatch.setattr(container, "VERSION", "0")
    keys.append(content_key(CORRECT))
    assert len(set(keys)) == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_entry_is_compiled_anew_with_a_warning(tmp_path: Path, compiled: list[str], damage: str) -> None:
    kept = GraphStore(tmp_path)
    model = LanguageModel.uniform(4)
    first = kept.decoding_graph(CORRECT, model, engine="openfst")
    kept.decoding_graph(topologies.build("minimal", 4), model, engine="openfst")
    path = kept.path(content_key(CORRECT, model, backoff="epsilon", engine="openfst", lossless=None))
    whole = path.read_bytes()
    other = next(entry for entry in tmp_path.glob("*.safetensors") if entry != path).read_bytes()
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    path.write_bytes({"flip": bytes(flipped), "cut": whole[:-9], "empty": b"", "other": other}[damage])
    with pytest.warns(RuntimeWarning, match="compiling a kept graph anew"):
        again = kept.decoding_graph(CORRECT, model, engine="openfst")
    assert columns(again) == columns(first)
    assert columns(DecodingGraph(container.read_container(path)[0])) == columns(first)
    assert len(compiled) == 3
    kept.decoding_graph(CORRECT, model, engine="openfst")
    assert len(compiled) == 3


def test_a_folder_that_cannot_be_written_to_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = GraphStore(tmp_path / "file")
    with pytest.warns(RuntimeWarning, match="a compiled graph is not kept"):
        made = kept.decoding_graph(CORRECT, LanguageModel.uniform(4), engine="openfst")
    assert made.graph.num_arcs > 0


def test_a_full_disk_costs_a_warning_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(container.safetensors.numpy, "save", full)
    with pytest.warns(RuntimeWarning, match="a compiled graph is not kept: .*No space left"):
        GraphStore(tmp_path).decoding_graph(CORRECT, LanguageModel.uniform(4), engine="openfst")
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


_PROCESS = """
import sys
from pathlib import Path
import topologies
from wfst_losses import LanguageModel
from wfst_losses.graphs import store
log = open(sys.argv[2], "a")
original = store.decoding_graph
def counted(*arguments, **options):
    log.write("compiled\\n")
    log.flush()
    return original(*arguments, **options)
store.decoding_graph = counted
for num_labels in (40, 41, 42):
    made = store.GraphStore(sys.argv[1]).decoding_graph(
        topologies.build("correct", num_labels), LanguageModel.uniform(num_labels), engine="openfst"
    )
    assert made.graph.num_arcs == num_labels**2, made.graph.num_arcs
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROCESS, str(tmp_path / "store"), str(tmp_path / "log")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    # Each of the three graphs was compiled once in all.
    assert (tmp_path / "log").read_text() == "compiled\n" * 3
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == 3
