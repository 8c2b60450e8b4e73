"""Connectionist temporal classification under any topology."""

from __future__ import annotations

import torch

from topologies import AbstractTopology
from wfst_losses.backends import get_backend
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.blank import reading_columns, tokens_inside
from wfst_losses.graphs.training import training_graphs
from wfst_losses.losses.reduction import reduce
from wfst_losses.validation import (
    Lengths,
    Targets,
    check_blank,
    check_flag,
    check_reduction,
    check_targets,
    check_topology,
)


def ctc_loss(
    log_probs: torch.Tensor,
    targets: Targets,
    input_lengths: Lengths,
    target_lengths: Lengths | None = None,
    *,
    topology: str | AbstractTopology = "correct",
    backend: str = "auto",
    reduction: str = "none",
    zero_infinity: bool = False,
    blank: int = 0,
    from_logits: bool = False,
    check_normalised: bool = True,
    nonfinite: str = "raise",
    max_memory: int | None = None,
) -> torch.Tensor:
    """Negative log-probability of each target, summed over all alignments the topology allows.

    ``loss = -Z(y) = -logsumexp over paths writing y of sum_t log_probs[t, label_t]``

    A target that no path can write, because it needs more frames than there are, is a value: +inf with zero
    gradient. With "correct" this is the usual CTC loss; torch's gradient with respect to ``log_probs`` alone differs
    (it assumes a log_softmax before it), with respect to logits both agree. Compact may give a negative loss: its
    masses over all targets sum to more than 1.

    Args:
        log_probs: ``(B, T, V)``, half, bfloat16, float32 or float64, nats; or logits with ``from_logits``.
        targets: ``(B, S)`` integers padded with anything, or a list of B lists; tokens are labels other than blank.
        input_lengths: ``(B,)`` frames, in any order; frames beyond are never read and get gradient 0.
        target_lengths: ``(B,)`` tokens; may be left out for a list of lists.
        topology: a name in `topologies.TOPOLOGIES` or a topology value for V labels.
        backend: "auto" or a name in `wfst_losses.backends.BACKENDS`.
        reduction: "none" gives B values in the order given; "sum" and "mean" go over the finite ones.
        zero_infinity: 0 in place of +inf, as torch.
        blank: the blank's label.
        from_logits: normalise rows first.
        check_normalised: refuse rows whose probabilities do not sum to 1; turn off for priors or acoustic scales. Of
            more than 65,536 log-probs the native backend looks at four rows of each utterance, the first and the last
            among them.
        nonfinite: what NaN or +inf in a live frame does: "raise", "drop" (+inf, zero gradient) or "pass".
        max_memory: bytes that the sums and the gradient may take, told before they are taken; None: the machine's.

    Returns:
        ``(B,)`` or a scalar, nats; float64 for float64, else float32.

    Raises:
        ValueError: naming the argument, the index, what was expected and what came.
        MemoryLimitError: before anything is allocated, with the prediction.

    Source: Graves et al. 2006; topologies after Laptev et al. 2022 (arXiv 2110.03098).

    >>> import torch
    >>> log_probs = torch.full((1, 7, 4), 0.25).log()
    >>> loss = ctc_loss(log_probs, [[1, 1, 2]], [7], topology="minimal")
    >>> round(float((-loss + 7 * torch.log(torch.tensor(4.0))).exp()))  # C(7, 3) alignments
    35
    """
    check_reduction(reduction)
    check_flag("zero_infinity", zero_infinity)
    emissions = read_emissions(
        log_probs,
        input_lengths,
        from_logits=from_logits,
        check_normalised=check_normalised,
        nonfinite=nonfinite,
        max_memory=max_memory,
        may_defer=True,
    )
    engine = get_backend(backend, emissions.scores.device)
    if emissions.pending is not None and not engine.checks_rows:
        emissions.pending.refuse()
    blank = check_blank(blank, emissions.num_labels)
    sequences = check_targets(targets, target_lengths, emissions.num_utterances, emissions.num_labels, blank)
    rule = check_topology(topology, emissions.num_labels)
    graphs = training_graphs(rule, tokens_inside(sequences, blank), epsilon_free=engine.needs_epsilon_free)
    utterances = torch.arange(emissions.num_utterances)
    totals = engine.total_scores(reading_columns(graphs, blank), emissions, utterances)
    losses = (0.0 - totals).to(emissions.scores.dtype)
    impossible = torch.as_tensor(emissions.dropped, device=losses.device)
    losses = losses.masked_fill(impossible, torch.inf)
    if zero_infinity:
        losses = losses.masked_fill(losses.detach() == torch.inf, 0.0)
    return reduce(losses, reduction)
