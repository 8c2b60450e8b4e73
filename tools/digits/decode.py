"""Decode prepared digit strings with a checkpoint: greedy, and with the ten-word lexicon.

    python tools/digits/decode.py --data-dir data --checkpoint exp/best.pt --output-dir exp/decode

Greedy is the best path through the topology; lexicon is the best path through the topology composed with any
sequence of the ten words. Writes the hypotheses and ``wer.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from checkpoint import load_model
from data import eval_loader, load_cuts, unpack
from lexicon import WORDS, labels_to_words
from lhotse import CutSet
from results import write_json, write_text
from scoring import word_error_rate
from search import best_paths, search_graph
from torch import nn
from tqdm import tqdm

TEST_SPLITS = ("test", "test_held_out")
METHODS = ("greedy", "lexicon")


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--topology", help="topology to decode through; the checkpoint's own if not given")
    parser.add_argument("--splits", nargs="+", default=list(TEST_SPLITS))
    return parser


@torch.no_grad()
def decode_batches(
    model: nn.Module,
    batches: Iterable[dict[str, Any]],
    tokens: list[str],
    topology: str,
    methods: Iterable[str] = METHODS,
) -> dict[str, dict[str, list[str]]]:
    """Return for each method the words of each cut id."""
    graphs = {method: search_graph(topology, tokens, lexicon=method == "lexicon") for method in methods}
    hypotheses: dict[str, dict[str, list[str]]] = {method: {} for method in graphs}
    device = next(model.parameters()).device
    model.eval()
    for batch in batches:
        features, num_frames, _, ids = unpack(batch)
        log_probs, lengths = model(features.to(device), num_frames.to(device))
        scores, frames = log_probs.float().cpu().numpy(), lengths.cpu().numpy()
        for method, graph in graphs.items():
            for cut_id, written in zip(ids, best_paths(graph, scores, frames), strict=True):
                words = [WORDS[d] for d in written] if method == "lexicon" else labels_to_words(written, tokens)
                hypotheses[method][cut_id] = words
    return hypotheses


def texts_of(cuts: CutSet) -> dict[str, str]:
    """Return the reference text of each cut id."""
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def score(cuts: CutSet, hypotheses: dict[str, list[str]]) -> dict[str, Any]:
    """Return the word error rate of the hypotheses of all cuts."""
    texts = texts_of(cuts)
    return word_error_rate(list(texts.values()), [hypotheses[cut_id] for cut_id in texts])


def decode(args: argparse.Namespace) -> dict[str, Any]:
    """Decode and score the splits; return word error rates by split and method."""
    model, facts = load_model(args.checkpoint)
    topology = args.topology or facts["params"]["topology"]
    results: dict[str, Any] = {}
    for split in args.splits:
        cuts = load_cuts(args.data_dir, split)
        batches = tqdm(eval_loader(cuts), desc=f"decode {split}", unit="batch")
        hypotheses = decode_batches(model, batches, facts["tokens"], topology)
        results[split] = {method: score(cuts, hypotheses[method]) for method in METHODS}
        texts = texts_of(cuts)
        for method in METHODS:
            lines = [f"{i}\tref={texts[i]}\thyp={' '.join(hypotheses[method][i])}\n" for i in texts]
            write_text(args.output_dir / f"hyps-{split}-{method}.txt", "".join(lines))
            write_json(args.output_dir / f"hyps-{split}-{method}.json", hypotheses[method])
    write_json(args.output_dir / "wer.json", results)
    return results


if __name__ == "__main__":
    print(json.dumps(decode(get_parser().parse_args()), indent=2))
