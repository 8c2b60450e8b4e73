"""The command line beside compiling and checking: comparing, memory, pictures, folders that keep graphs."""

from __future__ import annotations

from case import Arguments, Entry
from entries_of_decoding import LEXICON, TOKENS, WORDS, with_files
from entries_of_graphs import ARPA, command, options

from topologies import Graph

_STEP = {
    "num_labels": "option_from_two",
    "frames": "frames",
    "batch": "batch_size",
    "lm_arcs": "arcs_of_bigram",
    "target_tokens": "tokens_of_frames",
    "threads": "num_threads",
    "max_memory": "option_bytes",
}
_NUMBERS: Arguments = {"num_labels": "50", "frames": "50", "batch": "2", "lm_arcs": "100"}
_MODELS: Arguments = {"frames": "20", "batch": "2", "tokens": TOKENS.encode(), "lm": ARPA.encode()}


def _transducer() -> bytes:
    """A graph that reads three labels and writes three words."""
    arcs = [[0, 0, 1], [0, 1, 1], [1, 2, 0], [1, 3, -1]]
    return Graph(*arcs, [0.0] * 3, [0.0] * 2).to_openfst_text().encode()  # type: ignore[arg-type]


def get_command_entries() -> list[Entry]:
    """Every command that no other table has."""
    memory: Arguments = {"command": "memory", "no_measure": True, "topology": "compact", "loss": "mmi"}
    named = {"topology": "option_choice", "loss": "option_choice", "backend": "option_choice"}
    compare: Arguments = {"command": "compare", "backend": "native"}
    return [
        Entry(
            "wfst-losses memory",
            command,
            options(**memory, **_NUMBERS),
            {**named, **_STEP, "device": "option_choice", "nothing": "no_such_option"},
            prints=True,
        ),
        Entry(
            "wfst-losses memory, files",
            with_files("memory"),
            lambda: {name: value for name, value in memory.items() if name != "command"} | _MODELS,
            {"tokens": "option_symbols", "lm": "option_lm", "max_memory": "option_size"},
            prints=True,
        ),
        Entry(
            "wfst-losses compare",
            command,
            options(**compare, **_NUMBERS, report="{folder}/report.html"),
            {**_STEP, "backend": "option_choice", "report": "option_report", "nothing": "no_such_option"},
            prints=True,
        ),
        Entry(
            "wfst-losses compare, files",
            with_files("compare"),
            lambda: {"backend": "native"} | _MODELS,
            {"tokens": "option_symbols", "lm": "option_lm", "max_memory": "option_size"},
            prints=True,
        ),
        Entry(
            "wfst-losses compare, lexicon",
            with_files("compare"),
            lambda: {"backend": "native", "lexicon": LEXICON.encode()} | _MODELS,
            {"lexicon": "lexicon_file"},
            prints=True,
        ),
        Entry(
            "wfst-losses draw",
            command,
            options(command="draw", topology="compact", num_labels="3", output="{folder}/graph.svg"),
            {
                "topology": "option_choice",
                "num_labels": "labels_of_picture",
                "output": "option_picture",
                "max_memory": "option_bytes",
                "nothing": "no_such_option",
            },
            aliases={"num_labels": ("1,000 labels",)},
            prints=True,
        ),
        Entry(
            "wfst-losses draw, file",
            with_files("draw", ("file",)),
            lambda: {
                "file": _transducer(),
                "tokens": TOKENS.encode(),
                "words": WORDS.encode(),
                "output": "{folder}/graph.svg",
            },
            {"file": "option_graph", "tokens": "option_symbols", "words": "option_words", "max_memory": "option_size"},
            aliases={"file": ("FILE",)},
            prints=True,
        ),
        Entry(
            "wfst-losses compile, kept",
            with_files("compile"),
            lambda: {
                "topology": "minimal",
                "tokens": TOKENS.encode(),
                "lm": ARPA.encode(),
                "store": "{folder}/store",
                "output": "{folder}/graph.fst",
            },
            {"store": "folder", "output": "option_output"},
            prints=True,
        ),
    ]
