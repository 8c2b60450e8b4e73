"""Determinised compositions of a lexicon with a grammar, by one of several engines."""

from __future__ import annotations

import importlib
import importlib.util

from topologies import Graph
from wfst_losses.validation import check_choice

ENGINES = {
    "k2": "wfst_losses.backends.k2.determinisation",
    "openfst": "wfst_losses.graphs.openfst",
}
"""Where each engine lies, imported on first use; a new one is one file and one line."""


def choose_engine(name: str) -> str:
    """The engine of that name; "auto" is k2 where it is installed, else OpenFst.

    Raises:
        ValueError: for an unknown name.
    """
    check_choice("engine", name, ("auto", *ENGINES))
    if name != "auto":
        return name
    return "k2" if importlib.util.find_spec("k2") is not None else "openfst"


def determinised_composition(lexicon: Graph, grammar: Graph, engine: str = "auto") -> Graph:
    """A graph in which no state has two arcs that read the same, with the weighted relation of ``lexicon o grammar``.

    Args:
        lexicon: reads tokens and disambiguation symbols, writes words, such that no sequence is read in two ways.
        grammar: reads and writes words, deterministic, no arc of it reads nothing.
        engine: a name in `ENGINES`, or "auto".

    Returns:
        Virtual arcs are left where both graphs read nothing, or where what is written does not fit on one arc.

    Raises:
        ModuleNotFoundError: for an engine whose package is missing, saying how to install it.
    """
    found: Graph = importlib.import_module(ENGINES[choose_engine(engine)]).determinised_composition(lexicon, grammar)
    return found
