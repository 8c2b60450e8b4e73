"""A k2 graph that a model can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from topologies import AbstractTopology, Graph, without_epsilons
from topologies.topology import graph_of
from wfst_losses.validation import check_count, check_number

if TYPE_CHECKING:
    from k2 import Fsa


class DecodingGraph(torch.nn.Module):
    """HLG, or a topology, with the beams its lattices are pruned by: what lattice MWER draws hypotheses from.

    ``k2.Fsa`` neither unpickles nor deep-copies, and icefall does both with its model and its parameters. This module
    does, goes along with ``.to()`` and adds nothing to ``state_dict()``.

    Args:
        graph: a k2.Fsa such as ``k2.Fsa.from_dict(torch.load("HLG.pt"))``, a topology, or a graph of one.
        search_beam, output_beam, min_active_states, max_active_states: of ``k2.intersect_dense_pruned``; icefall's.
    """

    def __init__(
        self,
        graph: Fsa | Graph | AbstractTopology,
        *,
        search_beam: float = 20.0,
        output_beam: float = 8.0,
        min_active_states: int = 30,
        max_active_states: int = 10_000,
    ) -> None:
        super().__init__()
        check_number("search_beam", search_beam, above=0.0)
        check_number("output_beam", output_beam, above=0.0)
        check_count("min_active_states", min_active_states, low=0)
        check_count("max_active_states", max_active_states)
        self.beams: dict[str, Any] = {
            "search_beam": float(search_beam),
            "output_beam": float(output_beam),
            "min_active_states": min_active_states,
            "max_active_states": max_active_states,
        }
        self.fsa = _fsa(graph)

    def forward(self, log_probs: torch.Tensor, lengths: npt.NDArray[np.int64]) -> tuple[Fsa, npt.NDArray[np.int64]]:
        """Lattices of the utterances that have frames, in their order, and which those are."""
        from wfst_losses.backends.k2.dense import pruned_lattices

        return pruned_lattices(self.fsa, log_probs, lengths, **self.beams)

    def extra_repr(self) -> str:
        """Its size and beams."""
        return f"num_arcs={self.fsa.num_arcs}, {self.beams}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], *args: Any) -> DecodingGraph:
        super()._apply(fn, *args)  # type: ignore[no-untyped-call]
        self.fsa = self.fsa.to(fn(torch.empty(0)).device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        content = self.fsa.to("cpu").as_dict()
        content.pop("labels_version", None)
        return {**self.__dict__, "fsa": content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from wfst_losses.backends.k2 import k2

        super().__setstate__(
            {  # type: ignore[no-untyped-call]
                **state,
                "fsa": k2.Fsa.from_dict(state["fsa"]),
            }
        )


def _fsa(graph: Fsa | Graph | AbstractTopology) -> Fsa:
    from wfst_losses.backends.k2 import k2
    from wfst_losses.backends.k2.convert import to_k2

    if isinstance(graph, k2.Fsa):
        return k2.arc_sort(graph)
    if isinstance(graph, AbstractTopology):
        graph = graph_of(graph)
    if not isinstance(graph, Graph):
        raise ValueError(f"graph is a {type(graph).__name__}, expected a k2.Fsa, a topology or a Graph")
    return k2.arc_sort(to_k2(without_epsilons(graph)))
