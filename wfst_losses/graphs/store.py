"""Compiled graphs kept on disk, found again by the content of all that determines them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from topologies import AbstractTopology, Graph
from topologies.topology import graph_of
from wfst_losses.graphs import container
from wfst_losses.graphs.decoding_graph import DecodingGraph, OnStage, check_sources, decoding_graph
from wfst_losses.graphs.determinisation import choose_engine
from wfst_losses.graphs.language_model import LanguageModel
from wfst_losses.graphs.lexicon import Lexicon
from wfst_losses.validation import check_path

COMPILER_VERSION = 1
"""Part of every key: to be raised whenever the same inputs are compiled into another graph."""
_SMALL = 5


@dataclasses.dataclass(frozen=True)
class GraphStore:
    """A folder of compiled graphs, one safetensors file each, named by a hash of what it was compiled from.

    Entries appear whole or not at all and are checked when read: a damaged one is compiled anew, with a warning.
    Any number of processes may share a folder; of those that want the same graph one compiles it, the others wait.
    A folder that cannot be written to costs a warning, not the graph.

    Attributes:
        folder: made when first needed.
    """

    folder: str | Path

    def __post_init__(self) -> None:
        check_path("folder", self.folder)

    def decoding_graph(
        self,
        topology: AbstractTopology,
        language_model: LanguageModel | None = None,
        lexicon: Lexicon | None = None,
        *,
        backoff: str = "epsilon",
        engine: str = "auto",
        lossless: str | None = None,
        on_stage: OnStage | None = None,
    ) -> DecodingGraph:
        """`wfst_losses.decoding_graph` of the same arguments, compiled only where it is not kept already."""
        check_sources(topology, language_model, lexicon, backoff=backoff, engine=engine, lossless=lossless)
        engine = choose_engine(engine)
        options: dict[str, Any] = {"backoff": backoff, "engine": engine, "lossless": lossless}
        key = content_key(topology, language_model, lexicon, **options)
        return self._kept(key, lambda: decoding_graph(topology, language_model, lexicon, on_stage=on_stage, **options))

    def path(self, key: str) -> Path:
        """Where the entry of a key lies."""
        return Path(self.folder) / f"{key}.safetensors"

    def _kept(self, key: str, make: Callable[[], DecodingGraph]) -> DecodingGraph:
        found = self._read(key)
        if found is not None:
            return found
        with self._locked(key) as may_write:
            # Another process may have made it while this one waited.
            found = self._read(key) if may_write else None
            if found is not None:
                return found
            made = make()
            if may_write:
                self._write(key, made)
        return made

    def _read(self, key: str) -> DecodingGraph | None:
        path = self.path(key)
        try:
            graph, about = container.read_container(path)
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            warnings.warn(f"compiling a kept graph anew: {error}", RuntimeWarning, stacklevel=4)
            return None
        if about.get("key") != key:
            warnings.warn(
                f"compiling a kept graph anew: {path} is the entry of another key", RuntimeWarning, stacklevel=4
            )
            return None
        return DecodingGraph(graph, about["writes"] == "words")

    def _write(self, key: str, made: DecodingGraph) -> None:
        try:
            container.write_container(made.graph, self.path(key), writes_words=made.writes_words, about={"key": key})
        except (OSError, ValueError) as error:
            warnings.warn(f"a compiled graph is not kept: {error}", RuntimeWarning, stacklevel=5)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[bool]:
        """Alone with an entry, if the folder can be written to; the lock of a process that dies is free again."""
        with contextlib.ExitStack() as stack:
            try:
                Path(self.folder).mkdir(parents=True, exist_ok=True)
                handle = os.open(Path(self.folder) / f".{key}.lock", os.O_CREAT | os.O_RDWR, 0o666)
                stack.callback(os.close, handle)
            except OSError as error:
                warnings.warn(f"a compiled graph is not kept: {error}", RuntimeWarning, stacklevel=5)
                yield False
                return
            with contextlib.suppress(ImportError, OSError):
                # File systems without locks compile twice; what is written is whole in any case.
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            yield True


def content_key(
    topology: AbstractTopology,
    language_model: LanguageModel | None = None,
    lexicon: Lexicon | None = None,
    **options: object,
) -> str:
    """A hash of everything that determines a compiled graph: no two graphs that differ have the same.

    The topology's own definition is part of it, by its graph (of few labels, where it treats all tokens alike), and so
    are the names of tokens and words, the model's arcs to the last bit, and the versions of compiler and format.
    """
    digest = hashlib.sha256(f"compiler {COMPILER_VERSION}, format {container.VERSION}\n".encode())
    num_labels = min(topology.num_labels, _SMALL) if topology.is_symmetric else topology.num_labels
    _describe(digest, "topology", type(topology).__qualname__, dataclasses.astuple(topology))
    _describe_graph(digest, graph_of(dataclasses.replace(topology, num_labels=num_labels)))
    _describe(digest, "options", *sorted(options.items()))
    if language_model is not None:
        _describe(digest, "language model", language_model.num_labels)
        _describe_graph(digest, language_model.arcs)
    if lexicon is not None:
        _describe(digest, "lexicon", *(getattr(lexicon, field.name) for field in dataclasses.fields(lexicon)))
    return digest.hexdigest()


def _describe(digest: Any, *parts: object) -> None:
    # repr tells apart what str does not: "1" from 1, ("a b",) from ("a", "b").
    digest.update(repr(parts).encode("utf-8", "surrogatepass") + b"\n")


def _describe_graph(digest: Any, graph: Graph) -> None:
    for field in dataclasses.fields(graph):
        value = getattr(graph, field.name)
        if isinstance(value, np.ndarray):
            _describe(digest, field.name, value.dtype.str, value.shape)
            digest.update(np.ascontiguousarray(value).data)
        else:
            _describe(digest, field.name, value)
