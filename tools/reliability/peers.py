"""The same arguments, given to torch and to k2 the way their users give them."""

from __future__ import annotations

from typing import Any

import torch


def _gradients(scores: Any, losses: torch.Tensor) -> tuple[Any, Any]:
    losses = losses.reshape(-1)
    finite = losses.detach().isfinite()
    (gradient,) = torch.autograd.grad(losses[finite].sum() + 0.0 * losses.nan_to_num(0, 0, 0).sum(), scores)
    return losses.detach().double().numpy(), gradient.double().numpy()


def _leaf(scores: Any) -> Any:
    return (
        scores.clone().requires_grad_() if isinstance(scores, torch.Tensor) and scores.is_floating_point() else scores
    )


def torch_ctc(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any = None,
    *,
    blank: Any = 0,
    reduction: Any = "none",
    zero_infinity: Any = False,
    **_: Any,
) -> tuple[Any, Any]:
    """``torch.nn.functional.ctc_loss``; ragged targets concatenated, as it wants them."""
    scores = _leaf(log_probs)
    if isinstance(targets, (list, tuple)):
        target_lengths = [len(row) for row in targets]
        targets = torch.tensor([label for row in targets for label in row])
    losses = torch.nn.functional.ctc_loss(
        scores.transpose(0, 1),
        targets,
        input_lengths if isinstance(input_lengths, torch.Tensor) else torch.as_tensor(input_lengths),
        target_lengths if isinstance(target_lengths, torch.Tensor) else torch.as_tensor(target_lengths),
        blank=blank,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )
    return _gradients(scores, losses)


def k2_ctc(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any = None,
    *,
    reduction: Any = "none",
    **_: Any,
) -> tuple[Any, Any]:
    """``k2.ctc_loss`` over ``k2.ctc_graph``, supervisions as icefall makes them."""
    import k2

    scores = _leaf(log_probs)
    if isinstance(targets, torch.Tensor):
        targets = [row[:length] for row, length in zip(targets.tolist(), target_lengths, strict=True)]
    segments = torch.zeros(len(input_lengths), 3, dtype=torch.int32)
    segments[:, 0] = torch.arange(len(input_lengths))
    segments[:, 2] = torch.as_tensor(input_lengths)
    losses = k2.ctc_loss(
        k2.ctc_graph([list(row) for row in targets]),
        k2.DenseFsaVec(scores, segments),
        reduction=reduction,
        target_lengths=torch.tensor([len(row) for row in targets]),
    )
    return _gradients(scores, losses)


def k2_lattice(scores: torch.Tensor) -> Any:
    """The lattice of three utterances under k2's CTC topology, next to nothing pruned."""
    import k2

    segments = torch.tensor([[0, 0, 6], [1, 0, 5], [2, 0, 4]], dtype=torch.int32)
    dense = k2.DenseFsaVec(scores, segments)
    return k2.intersect_dense_pruned(k2.ctc_topo(scores.shape[2] - 1), dense, 100.0, 100.0, 1, 10000)


def k2_mwer(
    ref_texts: Any, nbest_scale: Any = 0.5, num_paths: Any = 200, temperature: Any = 1.0, **options: Any
) -> Any:
    """``k2.mwer_loss`` on the same lattice."""
    import k2
    from good_calls import log_probs

    scores = log_probs().requires_grad_()
    lattice = options["lattice"] if "lattice" in options else k2_lattice(scores)
    losses = k2.mwer_loss(
        lattice,
        ref_texts,
        nbest_scale,
        num_paths,
        temperature,
        options.get("use_double_scores", True),
        # "none" would give a ragged tensor, a number per path.
        "sum" if options["reduction"] == "none" else options["reduction"],
    )
    return _gradients(scores, losses)
