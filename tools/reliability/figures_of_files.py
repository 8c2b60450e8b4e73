"""Line 22: damaged files of every format."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from isolation import run_alone

from topologies import Graph, build
from wfst_losses.graphs.files import read_graph_file, write_graph_file

FORMATS = (".fst.txt", ".fst", ".pt", ".safetensors")
NUM_FLIPS = 1000
_OUR_CHECKSUM = b"wfst-losses crc32"
_SECONDS = 600.0


def files() -> tuple[bool, str]:
    """1000 flipped bits and every prefix: none kills the reader, and none is read as another graph."""
    found, held = [], True
    for ending in FORMATS:
        # Alone, so that a death is seen and counted.
        outcome = run_alone(lambda ending=ending: (_counts(ending), None), _SECONDS)  # type: ignore[misc]
        if outcome.ended != "returned":
            held = False
            found.append(f"{ending}: {outcome.ended} {outcome.error} {outcome.message:.100}")
            continue
        prefixes, flips, refused, other = outcome.values
        held &= other == 0
        found.append(f"{ending}: {prefixes:,} prefixes, {flips:,} bits, {refused:,} refused, {other} another graph")
    return held, "; ".join(found)


def _counts(ending: str) -> tuple[int, int, int, int]:
    """Prefixes and flips tried, how many were refused, how many were read as another graph."""
    generator = random.Random(0)
    refused = other = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph{ending}"
        write_graph_file(build("compact", 3).graph(), path)
        content, wanted = path.read_bytes(), _key(read_graph_file(path).graph)
        spoilt = [content[:length] for length in range(len(content))]
        for _ in range(NUM_FLIPS):
            damaged = bytearray(content)
            damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            spoilt.append(bytes(damaged))
        for each in spoilt:
            path.write_bytes(each)
            try:
                is_other = _key(read_graph_file(path).graph) != wanted
            except ValueError:
                refused += 1
            else:
                other += is_other
    return len(content), NUM_FLIPS, refused, other


def _key(graph: Graph) -> tuple[Any, ...]:
    columns = ("source", "destination", "input_label", "output_label", "score", "final_score")
    return graph.start, *(np.asarray(getattr(graph, name)).tobytes() for name in columns)
