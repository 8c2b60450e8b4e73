"""OpenFst, through kaldifst: an engine for composing and determinising lexicons and grammars."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from topologies import Graph
from topologies.openfst_binary import read_openfst_binary, write_openfst_binary
from wfst_losses.graphs.trimming import empty_graph

try:
    import kaldifst
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("kaldifst is not installed: pip install 'wfst-losses[openfst]'") from error


def determinised_composition(lexicon: Graph, grammar: Graph) -> Graph:
    """``determinise(lexicon o grammar)``: see `wfst_losses.graphs.determinisation.determinised_composition`."""
    with tempfile.TemporaryDirectory(prefix="wfst-losses-") as folder:
        left, right = _given(lexicon, Path(folder)), _given(grammar, Path(folder))
        kaldifst.arcsort(left, "olabel")
        kaldifst.arcsort(right, "ilabel")
        composed = kaldifst.compose(left, right)
        del left, right
        if composed.start < 0:
            return empty_graph()
        # In the log semiring residual weights are sums; without confusable sequences both semirings agree.
        kaldifst.determinize_star(composed, use_log=True)
        path = Path(folder) / "determinised"
        _checked(composed.write(str(path)), path)
        del composed
        return read_openfst_binary(path)


def _given(graph: Graph, folder: Path) -> Any:
    path = folder / "given"
    write_openfst_binary(graph, path)
    found = kaldifst.StdVectorFst.read(str(path))
    path.unlink()
    return found


def _checked(written: object, path: Path) -> None:
    if written is False:
        raise OSError(f"OpenFst could not write {path}; is the disk full?")
