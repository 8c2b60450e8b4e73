"""Time and weigh the denominator of MMI, value and gradient: the native backend beside k2 where it is installed.

    python tools/benchmarks/mmi.py [--part denominator|large|growth] [--num-threads 1] [--rounds 7] [--output FILE]

"denominator": the correct topology composed with a random n-gram, 3,033 states and about 51,000 arcs, T = 200, B = 8.
k2 makes a lattice and prunes it (output beam 10, its default) or does not (1e9); without pruning it takes about a
minute and 10 GB, so that it is timed on fewer frames (--exact-frames) and once, and compared by arc-frames per second;
its memory is taken at the T of the others.
"large": mmi_loss with the correct topology, V = 2048, B = 32, T = 500, a back-off bigram of 200,000 arcs.
"growth": the cost of a denominator over T, B and arcs.

All forms take turns in one process. Peak memory is what a run adds to a process of its own. An arc-frame is one arc at
one frame of one utterance; value and gradient visit each twice.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import in_process_of_its_own, machine, peak_bytes, report, take_turns

import topologies
from topologies import GraphBatch
from wfst_losses import LanguageModel, mmi_loss
from wfst_losses.backends import get_backend
from wfst_losses.emissions import read_emissions
from wfst_losses.graphs.denominator import denominator

NATIVE = "native"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("denominator", "large", "growth"), default="denominator")
    parser.add_argument("--num-utterances", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=200)
    parser.add_argument("--exact-frames", type=int, default=20, help="frames for k2 without pruning")
    parser.add_argument("--rounds", type=int, default=7, help="times each form runs, after one to warm up")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--memory-of", help="run this form once, print its peak memory")
    parser.add_argument("--output", type=Path, help="write the JSON there, too")
    return parser


def random_ngram(num_histories: int, num_arcs: int, num_labels: int, seed: int = 0) -> LanguageModel:
    """``num_histories`` states, each behind one token, every arc to a random one behind its token; no back-off."""
    random = np.random.default_rng(seed)
    last = random.permutation(np.arange(num_histories) % (num_labels - 1)) + 1
    behind = [np.flatnonzero(last == token) for token in range(num_labels)]
    pairs = random.choice(num_histories * (num_labels - 1), size=num_arcs, replace=False)
    source, token = pairs // (num_labels - 1), pairs % (num_labels - 1) + 1
    destination = np.array([random.choice(behind[label]) for label in token.tolist()])
    score = np.log(random.dirichlet(np.ones(num_arcs)) * num_arcs) - np.log(num_arcs / num_histories)
    return LanguageModel.from_arcs(source, destination, token, score, np.full(num_histories, -3.0))


def backoff_bigram(num_labels: int, num_pairs: int, seed: int = 0) -> LanguageModel:
    """State = last token, 0 = unigram: ``num_pairs`` pairs are listed, all others backed off."""
    random = np.random.default_rng(seed)
    tokens = np.arange(1, num_labels)
    pairs = random.choice(len(tokens) ** 2, size=num_pairs, replace=False)
    history, token = pairs // len(tokens) + 1, pairs % len(tokens) + 1
    listed = np.log(0.7 / np.bincount(history, minlength=num_labels)[history])
    root, unigram = np.zeros_like(tokens), np.full(len(tokens), -np.log(num_labels))
    final_scores = np.full(num_labels, -np.inf)
    final_scores[0] = -np.log(num_labels)
    return LanguageModel.from_arcs(
        np.concatenate([history, tokens, root]),
        np.concatenate([token, root, tokens]),
        np.concatenate([token, np.full(len(tokens), topologies.EPSILON), tokens]),
        np.concatenate([listed, np.full(len(tokens), np.log(0.3)), unigram]),
        final_scores,
    )


def random_log_probs(num_utterances: int, num_frames: int, num_labels: int) -> torch.Tensor:
    """Normalised, float32, with gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(num_utterances, num_frames, num_labels, generator=generator)
    return torch.log_softmax(logits, 2).requires_grad_()


def native_form(graph: GraphBatch, log_probs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Value and gradient on the graph itself."""
    engine, lengths = get_backend(NATIVE, log_probs.device), [log_probs.shape[1]] * log_probs.shape[0]

    def run() -> torch.Tensor:
        log_probs.grad = None
        emissions = read_emissions(log_probs, lengths, check_normalised=False)
        totals = engine.shared_total_scores(graph, emissions)
        totals.sum().backward()
        return totals.detach()

    return run


def k2_form(graph: GraphBatch, log_probs: torch.Tensor, beam: float) -> Callable[[], torch.Tensor]:
    """Value and gradient over a lattice, from k2's graph on."""
    import k2

    from wfst_losses.backends.k2.convert import to_k2

    num_utterances, num_frames, _ = log_probs.shape
    fsas = k2.create_fsa_vec([to_k2(graph.graph(0))] * num_utterances)
    supervisions = torch.tensor([[row, 0, num_frames] for row in range(num_utterances)], dtype=torch.int32)
    to_dense = torch.arange(num_utterances, dtype=torch.int32)

    def run() -> torch.Tensor:
        log_probs.grad = None
        dense = k2.DenseFsaVec(log_probs, supervisions)
        lattice = k2.intersect_dense(fsas, dense, beam, max_states=2**31 - 1, max_arcs=2**30, a_to_b_map=to_dense)
        totals = lattice.get_tot_scores(use_double_scores=True, log_semiring=True)
        totals.sum().backward()
        return totals.detach()

    return run


def denominator_forms(args: argparse.Namespace) -> dict[str, tuple[Callable[[], torch.Tensor], int]]:
    """Each form and the arc-frames it covers, each visited twice."""
    num_labels = 300
    # Arcs are read from a token's state and from the blank behind it, but for repeated tokens.
    model = random_ngram(1517, 25_000, num_labels)
    topology = topologies.build("correct", num_labels)
    graph = denominator(topology, model)
    log_probs = random_log_probs(args.num_utterances, args.num_frames, num_labels)
    size = graph.num_arcs * args.num_utterances
    forms = {NATIVE: (native_form(graph, log_probs), size * args.num_frames)}
    factored = denominator(topology, model, factored=True)
    forms["native, factored graph"] = native_form(factored, log_probs), size * args.num_frames
    if importlib.util.find_spec("k2") is not None:
        few = random_log_probs(args.num_utterances, args.exact_frames, num_labels)
        forms["k2, beam 10"] = k2_form(graph, log_probs, 10.0), size * args.num_frames
        forms["k2, beam 1e9"] = k2_form(graph, few, 1e9), size * args.exact_frames
    print(f"graph: {graph.num_states:,} states, {graph.num_arcs:,} arcs; factored: {factored.num_arcs:,} arcs")
    return forms


def measure_denominator(args: argparse.Namespace) -> dict[str, Any]:
    """Times, rates, ratios and peak memory of all forms."""
    forms = denominator_forms(args)
    often = {name: form for name, (form, _) in forms.items() if name != "k2, beam 1e9"}
    times = take_turns(often, args.rounds)
    if "k2, beam 1e9" in forms:
        times |= take_turns({"k2, beam 1e9": forms["k2, beam 1e9"][0]}, 1)
    rates = {name: 2e3 * forms[name][1] / times[name]["processor_ms"] for name in forms}
    rows = {}
    for name in forms:
        # Memory at the same number of frames for all.
        options = [f"--num-utterances={args.num_utterances}", f"--num-frames={args.num_frames}"]
        options.append(f"--exact-frames={args.num_frames}")
        memory = in_process_of_its_own([f"--memory-of={name}", *options])
        rows[name] = {
            **times[name],
            "arc_frames_per_second": rates[name],
            "native_is_faster_by": rates[NATIVE] / rates[name],
            "peak_bytes": memory["peak_bytes"],
            "num_frames": args.exact_frames if name == "k2, beam 1e9" else args.num_frames,
        }
    return {"part": args.part, "num_utterances": args.num_utterances, "forms": rows}


def measure_large(args: argparse.Namespace) -> dict[str, Any]:
    """mmi_loss at the size at which lattices fill 32 GB with one utterance."""
    num_labels, num_utterances, num_frames = 2048, 32, 500
    model = backoff_bigram(num_labels, 200_000 - 2 * (num_labels - 1))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_utterances, num_frames, num_labels, generator=generator).requires_grad_()
    targets = torch.randint(1, num_labels, (num_utterances, 60), generator=generator)
    call = functools.partial(
        mmi_loss, logits, targets, [num_frames] * num_utterances, [60] * num_utterances,
        language_model=model, topology="correct", from_logits=True,
    )  # fmt: skip
    begin = time.process_time()
    graph = denominator(topologies.build("correct", num_labels), model, factored=True)
    composition = time.process_time() - begin
    tiny = logits.detach()[:2, :70].clone().requires_grad_()
    mmi_loss(tiny, targets[:2], [70, 70], [60, 60], language_model=model, from_logits=True).sum().backward()

    def run() -> None:
        logits.grad = None
        call().sum().backward()

    logits.grad = None
    beyond = peak_bytes(run) - logits.numel() * 4
    times = take_turns({NATIVE: run}, args.rounds)[NATIVE]
    return {
        "part": args.part, "num_arcs": graph.num_arcs, "num_states": graph.num_states,
        "composition_seconds": composition, "peak_bytes_beyond_gradient": beyond, **times,
    }  # fmt: skip


def measure_growth(args: argparse.Namespace) -> dict[str, Any]:
    """Processor time over two orders of magnitude of frames, utterances and arcs."""
    num_labels = 100
    topology = topologies.build("correct", num_labels)

    def cost(num_utterances: int, num_frames: int, num_arcs: int) -> float:
        # As many arcs to a state whatever the size.
        graph = denominator(topology, random_ngram(num_arcs // 20, num_arcs // 2, num_labels))
        form = native_form(graph, random_log_probs(num_utterances, num_frames, num_labels))
        return take_turns({NATIVE: form}, args.rounds)[NATIVE]["processor_ms"]

    series = {
        "frames": {size: cost(8, size, 6000) for size in (100, 300, 1000, 3000, 10_000)},
        "utterances": {size: cost(size, 100, 6000) for size in (16, 48, 160, 480, 1600)},
        "arcs": {size: cost(8, 50, size) for size in (20_000, 60_000, 200_000, 600_000, 2_000_000)},
    }
    return {"part": args.part, "processor_ms": series}


def main() -> None:
    """Measure, print, write."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.num_threads)
    if args.memory_of:
        form = denominator_forms(args)[args.memory_of][0]
        # Code that is loaded with the first call is not the call's memory.
        few = argparse.Namespace(num_utterances=args.num_utterances, num_frames=2, exact_frames=2)
        denominator_forms(few)[args.memory_of][0]()
        print(json.dumps({"peak_bytes": peak_bytes(form)}))
        return
    measure = {"denominator": measure_denominator, "large": measure_large, "growth": measure_growth}[args.part]
    result = {**machine(args.num_threads), **measure(args)}
    if args.part == "denominator":
        table = Table("form", "T", "wall ms", "processor ms", "arc-frames/s", "native is faster by", "peak MiB")
        for name, row in result["forms"].items():
            table.add_row(
                name, str(row["num_frames"]), f"{row['wall_ms']:.1f}", f"{row['processor_ms']:.1f}",
                f"{row['arc_frames_per_second']:.2e}", f"{row['native_is_faster_by']:.1f}",
                f"{row['peak_bytes'] / 2**20:.0f}",
            )  # fmt: skip
        Console().print(table)
    report(result, args.output)


if __name__ == "__main__":
    main()
