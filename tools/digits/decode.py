"""Decode prepared digit strings with a checkpoint: greedy, with the ten-word lexicon, with a token language model.

    python tools/digits/decode.py --data-dir data --checkpoint exp/best.pt --output-dir exp/decode

Greedy is the best path through the topology; lexicon is the best path through the topology composed with any
sequence of the ten words (an HLG whose G is free); letter-lm, on request, is the best path through the topology and a
language model of the training texts' letters. Writes the hypotheses, ``wer.json`` and which words were confused.
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
from lexicon import WORDS, labels_to_words, text_to_labels
from lhotse import CutSet
from results import write_json, write_text
from scoring import confusions, word_error_rate
from search import best_paths, language_model_graph, search_graph
from torch import nn
from tqdm import tqdm

from topologies import Graph
from wfst_losses import LanguageModel

TEST_SPLITS = ("test", "test_held_out")
METHODS = ("greedy", "lexicon")
"""What the experiment reports."""
LETTER_LM = "letter-lm"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--topology", help="topology to decode through; the checkpoint's own if not given")
    parser.add_argument("--splits", nargs="+", default=list(TEST_SPLITS))
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, LETTER_LM), default=list(METHODS))
    parser.add_argument("--lm-order", type=int, default=3, help="of the token language model")
    parser.add_argument("--lm-scale", type=float, default=0.5, help="what its scores are multiplied by")
    return parser


@torch.no_grad()
def decode_batches(
    model: nn.Module,
    batches: Iterable[dict[str, Any]],
    tokens: list[str],
    topology: str,
    methods: Iterable[str] = METHODS,
    token_lm: Graph | None = None,
) -> dict[str, dict[str, list[str]]]:
    """Return for each method the words of each cut id; ``token_lm`` is the graph of that method."""
    graphs = {
        method: token_lm
        if method == LETTER_LM and token_lm is not None
        else search_graph(topology, tokens, lexicon=method == "lexicon")
        for method in methods
    }
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
    token_lm = None
    if LETTER_LM in args.methods:
        texts = texts_of(load_cuts(args.data_dir, "train")).values()
        sequences = [text_to_labels(text, facts["tokens"]) for text in texts]
        counted = LanguageModel.from_counts(sequences, len(facts["tokens"]), args.lm_order)
        token_lm = language_model_graph(topology, facts["tokens"], counted, args.lm_scale)
    results: dict[str, Any] = {}
    for split in args.splits:
        cuts = load_cuts(args.data_dir, split)
        batches = tqdm(eval_loader(cuts), desc=f"decode {split}", unit="batch")
        hypotheses = decode_batches(model, batches, facts["tokens"], topology, args.methods, token_lm)
        results[split] = {method: score(cuts, hypotheses[method]) for method in args.methods}
        texts = texts_of(cuts)
        for method in args.methods:
            confused = confusions(list(texts.values()), [hypotheses[method][i] for i in texts])
            lines = [f"{number}\t{said}\t{heard}\n" for said, heard, number in confused]
            write_text(args.output_dir / f"confusions-{split}-{method}.txt", "".join(lines))
            lines = [f"{i}\tref={texts[i]}\thyp={' '.join(hypotheses[method][i])}\n" for i in texts]
            write_text(args.output_dir / f"hyps-{split}-{method}.txt", "".join(lines))
            write_json(args.output_dir / f"hyps-{split}-{method}.json", hypotheses[method])
    write_json(args.output_dir / "wer.json", results)
    return results


if __name__ == "__main__":
    print(json.dumps(decode(get_parser().parse_args()), indent=2))
