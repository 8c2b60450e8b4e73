"""The losses with the arguments that icefall's ``compute_loss`` has at hand.

The network's output is a ``k2.DenseFsaVec``, or the pair ``(nnet_output, supervision_segments)`` it is made of; texts,
or ``token_ids``, are in its order, as ``encode_supervisions`` gives them. Values are sums over utterances, not divided
by frames; an utterance without a path is left out of the sum, which stays attached to the network even where no
utterance is left, so that no rank of a distributed training stays behind.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from topologies import GraphBatch, without_epsilons
from wfst_losses.backends import AbstractBackend, get_backend
from wfst_losses.emissions import Emissions, read_emissions
from wfst_losses.integrations.icefall.decoding_graph import DecodingGraph
from wfst_losses.integrations.icefall.graph_compilers import AbstractGraphCompiler, MMIGraphCompiler, TextsOrIds
from wfst_losses.integrations.segments import cut_segments
from wfst_losses.losses.lattice_mwer import lattice_mwer_loss
from wfst_losses.losses.mwer import mwer_loss as mwer_from_log_probs
from wfst_losses.losses.reduction import reduce
from wfst_losses.validation import check_instance, check_number, check_reduction, shown

if TYPE_CHECKING:
    from k2 import DenseFsaVec, Fsa

NetworkOutput: TypeAlias = "DenseFsaVec | tuple[torch.Tensor, torch.Tensor]"


def ctc_loss(
    dense_fsa_vec: NetworkOutput,
    graph_compiler: AbstractGraphCompiler,
    *,
    texts: Sequence[str] | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    allow_truncate: int = 0,
    reduction: str = "sum",
    backend: str = "auto",
    nonfinite: str = "raise",
) -> torch.Tensor:
    """In place of ``k2.ctc_loss(graph_compiler.compile(texts), dense_fsa_vec)``: exact, under any topology.

    ``loss = -logsumexp`` of the scores of the paths that say the text: the graph compiler's pronunciations, silences
    and weights included. No beam, no lattice, no need to sort.

    Args:
        dense_fsa_vec: a k2.DenseFsaVec of S segments, or ``(nnet_output (N, T, V), supervision_segments (S, 3))``.
        graph_compiler: of this package.
        texts, token_ids: S of the one or the other, in the order of the segments.
        allow_truncate: of the pair, as of k2.DenseFsaVec: ``subsampling_factor - 1``.
        reduction: "sum", "mean" over utterances with a path, or "none" for ``(S,)``, +inf where there is none.
        backend, nonfinite: as in `wfst_losses.ctc_loss`.

    Returns:
        A scalar or ``(S,)``, nats; ``requires_grad`` is that of the network's output.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
    """
    check_reduction(reduction)
    check_instance("graph_compiler", graph_compiler, AbstractGraphCompiler, "a graph compiler of this package")
    emissions = _emissions(dense_fsa_vec, allow_truncate, nonfinite)
    engine = get_backend(backend, emissions.scores.device)
    losses = 0.0 - _totals(engine, emissions, graph_compiler, _references(texts, token_ids, emissions))
    return reduce(_with_dropped(losses, emissions), reduction)


def mmi_loss(
    dense_fsa_vec: NetworkOutput,
    graph_compiler: MMIGraphCompiler,
    *,
    texts: Sequence[str] | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    den_scale: float = 1.0,
    allow_truncate: int = 0,
    reduction: str = "sum",
    backend: str = "auto",
    nonfinite: str = "raise",
) -> torch.Tensor:
    """In place of icefall's ``LFMMILoss``: exact, under any topology, the denominator shared by all utterances.

    ``loss = -(Z_num - den_scale * Z_den)``, both weighed by the compiler's language model. Arguments as in `ctc_loss`.
    """
    check_reduction(reduction)
    check_number("den_scale", den_scale, low=0.0)
    if not isinstance(graph_compiler, MMIGraphCompiler):
        raise ValueError(f"graph_compiler is {shown(graph_compiler)}, expected an MMIGraphCompiler")
    emissions = _emissions(dense_fsa_vec, allow_truncate, nonfinite)
    engine = get_backend(backend, emissions.scores.device)
    numerator = _totals(engine, emissions, graph_compiler, _references(texts, token_ids, emissions))
    whole = graph_compiler.denominator()
    if engine.needs_epsilon_free:
        whole = GraphBatch.from_graphs([without_epsilons(whole.graph(0))])
    losses = den_scale * engine.shared_total_scores(whole, emissions) - numerator
    losses = losses.masked_fill(numerator.detach() == -torch.inf, torch.inf)
    return reduce(_with_dropped(losses, emissions), reduction)


def mwer_loss(
    dense_fsa_vec: NetworkOutput,
    graph_compiler: AbstractGraphCompiler,
    *,
    texts: Sequence[str] | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    decoding_graph: Fsa | DecodingGraph | None = None,
    allow_truncate: int = 0,
    reduction: str = "sum",
    **options: Any,
) -> torch.Tensor:
    """Expected errors: of hypotheses from a pruned k2 lattice where there is a decoding graph, else from the outputs.

    With a decoding graph such as HLG, errors are counted in what it writes: words for a `LexiconGraphCompiler`, and
    ``options`` are those of `wfst_losses.lattice_mwer_loss`. Without one, hypotheses are token sequences through the
    compiler's topology, drawn from the exact posterior, and ``options`` are those of `wfst_losses.mwer_loss`, with
    ``baseline="none"`` where left out: values are expected errors. Other arguments as in `ctc_loss`.
    """
    check_reduction(reduction)
    check_instance("graph_compiler", graph_compiler, AbstractGraphCompiler, "a graph compiler of this package")
    log_probs, lengths = read_network_output(dense_fsa_vec, allow_truncate)
    references = _references(texts, token_ids, len(lengths))
    ids = references if token_ids is not None else graph_compiler.texts_to_ids(cast("Sequence[str]", references))
    ids = cast("list[list[int]]", list(ids))
    if decoding_graph is None:
        _need_tokens(graph_compiler)
        options = {"baseline": "none", **options, "topology": graph_compiler.topology, "reduction": "none"}
        return reduce(cast("torch.Tensor", mwer_from_log_probs(log_probs, ids, lengths, **options)), reduction)
    held = decoding_graph if isinstance(decoding_graph, DecodingGraph) else DecodingGraph(decoding_graph)
    # An utterance of no frames, which k2 refuses, has no lattice.
    losses = (0.0 * log_probs[:, :, :0].sum(dim=(1, 2))).float() + torch.inf
    if np.any(lengths > 0):
        lattice, framed = held(log_probs, lengths)
        options = {**options, "reduction": "none"}
        found = lattice_mwer_loss(lattice, [ids[index] for index in framed.tolist()], **options)
        place = torch.from_numpy(framed).to(losses.device)
        losses = losses.index_copy(0, place, cast("torch.Tensor", found).to(losses))
    return reduce(losses, reduction)


def read_network_output(
    dense_fsa_vec: NetworkOutput, allow_truncate: int = 0
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """``(S, T, V)`` log-probs and ``(S,)`` lengths of a DenseFsaVec or of output and segments, in their order."""
    if isinstance(dense_fsa_vec, (tuple, list)):
        if len(dense_fsa_vec) != 2:
            raise ValueError(f"dense_fsa_vec has {len(dense_fsa_vec)} parts, expected (nnet_output, segments)")
        return cut_segments(*dense_fsa_vec, allow_truncate=allow_truncate)
    if isinstance(dense_fsa_vec, torch.Tensor):
        raise ValueError("dense_fsa_vec is a tensor, expected a k2.DenseFsaVec or (nnet_output, supervision_segments)")
    if importlib.util.find_spec("k2") is None:
        raise ValueError(f"dense_fsa_vec is {shown(dense_fsa_vec)}, expected (nnet_output, supervision_segments)")
    from wfst_losses.backends.k2.dense import read_dense

    return read_dense(dense_fsa_vec)


def metrics(name: str, losses: torch.Tensor) -> dict[str, float]:
    """What to put into icefall's MetricsTracker: the sum over the finite of ``(S,)`` losses, and how many were not.

    The same keys on every rank, whatever happened there: the tracker adds ranks up by position.

    >>> metrics("mwer_loss", torch.tensor([1.0, torch.inf, 0.5]))
    {'mwer_loss': 1.5, 'mwer_loss_num_infinite': 1.0}
    """
    check_instance("name", name, str, "a name")
    check_instance("losses", losses, torch.Tensor, "a tensor of losses")
    if "utt_" in name:
        raise ValueError(f"name is {name!r}, expected one without 'utt_': icefall's MetricsTracker refuses those")
    finite = losses.detach().isfinite()
    total = float(losses.detach()[finite].sum())
    return {name: total, f"{name}_num_infinite": float((~finite).sum())}


def _emissions(dense_fsa_vec: NetworkOutput, allow_truncate: int, nonfinite: str) -> Emissions:
    log_probs, lengths = read_network_output(dense_fsa_vec, allow_truncate)
    return read_emissions(log_probs, lengths, check_normalised=False, nonfinite=nonfinite)


def _references(
    texts: Sequence[str] | None, token_ids: Sequence[Sequence[int]] | None, emissions: Emissions | int
) -> TextsOrIds:
    if (texts is None) == (token_ids is None):
        raise ValueError("texts and token_ids are both given or both None, expected one of them")
    name, rows = ("texts", texts) if texts is not None else ("token_ids", token_ids)
    rows = cast("TextsOrIds", rows.tolist() if hasattr(rows, "tolist") else rows)  # type: ignore[union-attr]
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
        raise ValueError(f"{name} is {shown(rows)}, expected one for each segment")
    number = emissions if isinstance(emissions, int) else emissions.num_utterances
    if len(rows) != number:
        raise ValueError(f"{name} has {len(rows)} entries but dense_fsa_vec {number} segments, expected as many")
    return rows


def _totals(
    engine: AbstractBackend, emissions: Emissions, compiler: AbstractGraphCompiler, references: TextsOrIds
) -> torch.Tensor:
    if compiler.topology.num_labels != emissions.num_labels:
        raise ValueError(
            f"graph_compiler has {compiler.topology.num_labels} labels but the network {emissions.num_labels}, "
            "expected as many"
        )
    graphs = compiler.graphs(references)
    if engine.needs_epsilon_free:
        graphs = GraphBatch.from_graphs([without_epsilons(graphs.graph(i)) for i in range(graphs.num_graphs)])
    return engine.total_scores(graphs, emissions, torch.arange(emissions.num_utterances))


def _with_dropped(losses: torch.Tensor, emissions: Emissions) -> torch.Tensor:
    losses = losses.to(emissions.scores.dtype)
    return losses.masked_fill(torch.as_tensor(emissions.dropped, device=losses.device), torch.inf)


def _need_tokens(compiler: AbstractGraphCompiler) -> None:
    from wfst_losses.integrations.icefall.graph_compilers import LexiconGraphCompiler

    inner = compiler.compiler if isinstance(compiler, MMIGraphCompiler) else compiler
    if isinstance(inner, LexiconGraphCompiler):
        raise ValueError("graph_compiler writes words: give decoding_graph, such as HLG, to draw words from")
