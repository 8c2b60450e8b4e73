"""Measure decoding graphs: their sizes under every topology, and time and memory of compiling the large one.

    python tools/benchmarks/decoding_graphs.py FOLDER [--only sizes|compile] [--output FILE]

Two language models: a dense bigram of 300 tokens, every token listed after every other, and the words of
made_bigram.py: 200,000 words in 500 tokens, 2 million n-grams, which FOLDER gets if it has none. Sizes are of the form
with true epsilon arcs and of the epsilon-free form, whose arcs are counted. `wfst-losses compile` runs as a process of
its own for minimal and compact: wall and CPU seconds, and peak resident memory, which is an upper bound: the system
counts what this process had too when it started the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from made_bigram import make

import topologies
from topologies import Graph, compose_graph
from wfst_losses import LanguageModel
from wfst_losses.graphs.decoding_graph import lexicon_grammar
from wfst_losses.graphs.lexicon import Lexicon
from wfst_losses.graphs.lossless_compact import FORMS, lossless_compact
from wfst_losses.inspection.sizes import epsilon_free_size

ROOT = Path(__file__).resolve().parents[2]
DENSE_TOKENS = 300


def sizes(grammar: Graph, num_labels: int) -> dict[str, dict[str, int]]:
    """Return states and arcs of every topology over a grammar, and of both forms of lossless compact."""
    found = {}
    for name in topologies.TOPOLOGIES:
        graph = compose_graph(topologies.build(name, num_labels).graph(), grammar).batch.graph(0)
        found[name] = _size(graph)
        print(name, found[name], flush=True)
        del graph
    for form in FORMS:
        found[f"lossless compact, {form}"] = _size(lossless_compact(grammar, form=form))
        print(form, found[f"lossless compact, {form}"], flush=True)
    return found


def _size(graph: Graph) -> dict[str, int]:
    free = epsilon_free_size(graph)[0]
    return {
        "num_states": graph.num_states,
        "num_arcs": graph.num_arcs,
        "num_epsilon_arcs": graph.num_epsilon_arcs,
        "num_arcs_epsilon_free": free.num_arcs,
    }


def dense_bigram(num_tokens: int) -> Graph:
    """Return a bigram that lists every token after every token and after the start."""
    history, token = np.divmod(np.arange((num_tokens + 1) * num_tokens), num_tokens)
    scores = np.full(len(token), -np.log(num_tokens + 1.0))
    finals = np.full(num_tokens + 1, -np.log(num_tokens + 1.0))
    return LanguageModel.from_arcs(history, token + 1, token + 1, scores, finals).graph()


def large_grammar(folder: Path) -> tuple[Graph, int]:
    """Return the large lexicon and grammar, determinised, and the number of labels."""
    lexicon = Lexicon.from_file(folder / "lexicon.txt", folder / "tokens.txt")
    grammar = lexicon.language_model(folder / "G.arpa").graph("epsilon")
    return lexicon_grammar(lexicon, grammar, "openfst"), lexicon.num_labels


def compile_once(folder: Path, topology: str) -> dict[str, Any]:
    """Run the command line; return seconds, peak memory in bytes and its answer."""
    command = [
        *(sys.executable, "-m", "wfst_losses.cli", "compile", "--topology", topology, "--json"),
        *("--tokens", folder / "tokens.txt", "--lexicon", folder / "lexicon.txt", "--lm", folder / "G.arpa"),
        *("--engine", "openfst", "--output", folder / f"{topology}.fst"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    log = folder / f"{topology}.json"
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, command)], stdout=file, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"compile ended with status {status}")
    answer = json.loads(log.read_text())
    return {
        "wall_seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
        "file_bytes": answer["file_bytes"],
        "stages": answer["stages"],
    }


def main() -> None:
    """Measure what is asked for and write it beside what is there already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("sizes", "compile"))
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "decoding_graphs.json")
    arguments = parser.parse_args()
    if not (arguments.folder / "G.arpa").exists():
        make(arguments.folder, 200_000, 2_000_000, 500, 0)
    found = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    if arguments.only != "compile":
        found["dense"] = sizes(dense_bigram(DENSE_TOKENS), DENSE_TOKENS + 1)
        found["sparse"] = sizes(*large_grammar(arguments.folder))
    if arguments.only != "sizes":
        found["compile"] = {name: compile_once(arguments.folder, name) for name in ("minimal", "compact")}
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found.get("compile"), indent=1))


if __name__ == "__main__":
    main()
