"""``wfst-losses compile``: a topology, or a decoding graph over it, as a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wfst_losses.cli.output import NewPath, json_option, max_memory_option, print_json, progress, refuse_overwriting

if TYPE_CHECKING:
    from topologies import AbstractTopology, Graph
    from wfst_losses.graphs.decoding_graph import DecodingGraph
    from wfst_losses.graphs.language_model import LanguageModel
    from wfst_losses.graphs.lexicon import Lexicon

_ENDINGS = (".txt", ".fst", ".pt", ".safetensors", ".dot")
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclasses.dataclass(frozen=True)
class _Sources:
    """What a graph is compiled from, as given."""

    tokens: Path | None
    lexicon: Path | None
    sentencepiece: Path | None
    words: Path | None
    lm: Path | None
    silence: str | None
    silence_probability: float


@click.command("compile")
@click.option("--topology", required=True, help="The name of a topology; wfst-losses list has them.")
@click.option("--num-labels", type=click.IntRange(min=1), help="Labels of the network, blank included.")
@click.option("--tokens", type=_file, help="tokens.txt instead of --num-labels: '<blk> 0' first, '#0' and on last.")
@click.option("--lexicon", type=_file, help="lexicon.txt, 'word token token ...': the graph writes words.")
@click.option("--sentencepiece", type=_file, help="A sentencepiece model instead of --lexicon; spells --words.")
@click.option("--words", type=_file, help="words.txt, '<eps> 0' first; if left out, it is written beside the graph.")
@click.option("--lm", type=_file, help="ARPA model, of words with a lexicon, else of tokens.")
@click.option("--silence", help="The lexicon's token for optional silence between words.")
@click.option("--silence-probability", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5)
@click.option(
    "--backoff",
    type=click.Choice(["epsilon", "failure"]),
    default="epsilon",
    show_default=True,
    help="Back-off anywhere, as icefall and Kaldi, or only where a word is not listed.",
)
@click.option(
    "--lossless",
    type=click.Choice(["expanded", "shared"]),
    help="With --topology correct and --lm or a lexicon: the same paths at about compact's size.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "k2", "openfst"]),
    default="auto",
    show_default=True,
    help="What determinises the lexicon with the grammar; auto is k2 where it is installed.",
)
@click.option("--store", type=NewPath(is_folder=True), help="A folder that keeps compiled graphs.")
@click.option(
    "--output",
    required=True,
    type=NewPath(),
    help="The file to write: .txt (OpenFst text), .fst (OpenFst binary), .pt (k2), .safetensors or .dot.",
)
@max_memory_option
@json_option
def compile_command(
    topology: str,
    num_labels: int | None,
    output: Path,
    backoff: str,
    lossless: str | None,
    engine: str,
    store: Path | None,
    max_memory: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Write a topology, or a decoding graph over it, to a file, whole or not at all.

    With --lm, --lexicon or both: topology o determinise(lexicon o grammar), disambiguation symbols removed. OpenFst
    keeps virtual arcs; its labels are ours + 1, 0 is epsilon, words keep their ids. k2 has no arc that takes no frame:
    the .pt, which k2.Fsa.from_dict(torch.load(...)) reads, holds the exact epsilon-free form, and the answer says so.

    \b
    Example:
      wfst-losses compile --topology compact --tokens data/lang/tokens.txt --output compact.fst.txt
      wfst-losses compile --topology minimal --tokens tokens.txt --lexicon lexicon.txt --lm G.arpa --output TLG.pt
    """
    sources = _Sources(**given)
    problem = _problem(sources, num_labels, topology, lossless, output)
    if problem:
        raise click.UsageError(problem, click.get_current_context())
    writes_names = (sources.lexicon or sources.sentencepiece) and not sources.words
    refuse_overwriting(*([_words_beside(output)] if writes_names else []))
    import topologies

    model, lexicon = _read(sources)
    if lexicon is not None:
        num_labels = lexicon.num_labels
    elif sources.tokens is not None:
        from wfst_losses.graphs.tokens import read_tokens

        num_labels = len(read_tokens(sources.tokens))
    rule = topologies.build(topology, int(num_labels or 0))
    answer: dict[str, Any] = {"topology": rule.name, "num_labels": rule.num_labels}
    if model is None and lexicon is None:
        _refuse_large(rule, output, max_memory)
        with progress(f"Loading torch and building {rule.name}"):
            import wfst_losses.graphs.files  # noqa: F401 (torch, under the same sign of life)

            graph, writes_words = rule.graph(), False
    else:
        made, stages = _compiled(rule, model, lexicon, backoff, engine, lossless, store, max_memory)
        graph, writes_words = made.graph, made.writes_words
        answer |= {"writes": "words" if writes_words else "tokens", "lossless": lossless, "backoff": backoff}
        answer["stages"] = stages
        if lexicon is not None and sources.words is None:
            answer["words"] = str(_write_words(lexicon, output))
    answer |= _write(graph, output, writes_words)
    if as_json:
        print_json(answer)
        return
    for name, sizes in answer.get("stages", {}).items():
        click.echo(f"{name}: {sizes['num_states']:,} states, {sizes['num_arcs']:,} arcs")
    form = " in its epsilon-free form" if answer["form"] == "epsilon-free" else ""
    click.echo(
        f"{output}: {answer['topology']}, {answer['num_labels']:,} labels{form}, {answer['num_states']:,} states, "
        f"{answer['num_arcs']:,} arcs ({answer['num_epsilon_arcs']:,} epsilon), {answer['format']}, "
        f"{answer['file_bytes']:,} bytes"
    )


def _problem(
    sources: _Sources, num_labels: int | None, topology: str, lossless: str | None, output: Path
) -> str | None:
    """What is wrong with the call, asked before torch is loaded."""
    spelled = sources.lexicon or sources.sentencepiece
    has_count = num_labels is not None
    has_names = bool(sources.tokens)
    wrong = {
        "--sentencepiece takes the place of --lexicon and --num-labels": sources.sentencepiece
        and (sources.lexicon or has_count),
        "--sentencepiece needs the words that it spells, --words": sources.sentencepiece and not sources.words,
        "compile takes either --num-labels or --tokens": not sources.sentencepiece and has_count == has_names,
        "--lexicon and --lm name their tokens: they go with --tokens": has_count and (spelled or sources.lm),
        "--words goes with --lexicon or --sentencepiece": sources.words and not spelled,
        "--silence goes with --lexicon": sources.silence and not sources.lexicon,
        "--lossless goes with --topology correct and --lm or --lexicon": lossless
        and (topology != "correct" or not (spelled or sources.lm)),
        f"--output {output} ends in none of {', '.join(_ENDINGS)}": output.suffix.lower() not in _ENDINGS,
    }
    return next((problem for problem, is_there in wrong.items() if is_there), None)


def _read(sources: _Sources) -> tuple[LanguageModel | None, Lexicon | None]:
    """The model and the lexicon."""
    if not (sources.lexicon or sources.sentencepiece or sources.lm):
        return None, None
    with progress("Loading torch"):
        from wfst_losses.graphs.language_model import LanguageModel
        from wfst_losses.graphs.lexicon import Lexicon
        from wfst_losses.graphs.symbols import read_words
    lexicon = None
    if sources.lexicon:
        with progress(f"Reading {sources.lexicon.name}"):
            lexicon = Lexicon.from_file(
                sources.lexicon,
                str(sources.tokens),
                sources.words,
                silence=sources.silence,
                silence_probability=sources.silence_probability,
            )
    elif sources.sentencepiece:
        with progress(f"Spelling the words of {sources.words}"):
            lexicon = Lexicon.from_sentencepiece(sources.sentencepiece, read_words(str(sources.words)), sources.tokens)
    if sources.lm is None:
        return None, lexicon
    with sources.lm.open("rb") as file:
        num_lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    with progress(f"Reading {sources.lm.name}", num_lines) as advance:
        if lexicon is not None:
            return lexicon.language_model(sources.lm, on_lines=advance), lexicon
        return LanguageModel.from_arpa(sources.lm, str(sources.tokens)), None


def _compiled(
    topology: AbstractTopology,
    model: LanguageModel | None,
    lexicon: Lexicon | None,
    backoff: str,
    engine: str,
    lossless: str | None,
    store: Path | None,
    max_memory: int,
) -> tuple[DecodingGraph, dict[str, dict[str, int]]]:
    """The graph, and the sizes of the graphs on the way to it."""
    from wfst_losses.graphs.decoding_graph import decoding_graph
    from wfst_losses.graphs.store import GraphStore
    from wfst_losses.inspection.sizes import predicted_decoding_bytes
    from wfst_losses.memory_limit import MemoryLimitError

    stages: dict[str, dict[str, int]] = {}

    def note(name: str, graph: Graph) -> None:
        stages[name] = {"num_states": graph.num_states, "num_arcs": graph.num_arcs}
        if name == "lexicon o grammar" or lexicon is None:
            predicted = predicted_decoding_bytes(topology, graph, lossless=lossless)
            if predicted > max_memory:
                what = f"topology {topology.name!r} over {name} ({graph.num_arcs:,} arcs)"
                raise MemoryLimitError(what, predicted, max_memory)

    make = decoding_graph if store is None else GraphStore(store).decoding_graph
    with progress(f"Compiling {topology.name}, lexicon and grammar"):
        made = make(topology, model, lexicon, backoff=backoff, engine=engine, lossless=lossless, on_stage=note)
    return made, stages


def _write_words(lexicon: Lexicon, output: Path) -> Path:
    """words.txt beside the graph: without it nobody could tell what the graph writes."""
    from wfst_losses.graphs.symbols import write_symbols

    path = _words_beside(output)
    write_symbols(lexicon.words, path)
    return path


def _words_beside(output: Path) -> Path:
    return output.with_suffix(".words.txt")


def _refuse_large(topology: AbstractTopology, output: Path, max_memory: int) -> None:
    from wfst_losses.inspection.sizes import predicted_compile_bytes
    from wfst_losses.memory_limit import MemoryLimitError

    predicted = predicted_compile_bytes(topology, for_k2=output.suffix.lower() == ".pt")
    if predicted > max_memory:
        what = f"topology {topology.name!r} with {topology.num_labels:,} labels ({topology.size().num_arcs:,} arcs)"
        raise MemoryLimitError(what, predicted, max_memory)


def _write(graph: Graph, output: Path, writes_words: bool) -> dict[str, Any]:
    from wfst_losses.graphs.files import OPENFST_BINARY, OPENFST_TEXT, format_by_name, write_graph_file

    found = format_by_name(output)
    num_lines = graph.num_arcs + int((graph.final_score > float("-inf")).sum())
    total = num_lines if found in (OPENFST_TEXT, OPENFST_BINARY) else None
    with progress(f"Writing {output.name}", total) as advance:
        written = write_graph_file(graph, output, writes_words=writes_words, on_lines=advance)
    return {
        "form": "as defined" if written is graph else "epsilon-free",
        "num_states": written.num_states,
        "num_arcs": written.num_arcs,
        "num_epsilon_arcs": written.num_epsilon_arcs,
        "format": found,
        "output": str(output),
        "file_bytes": output.stat().st_size,
    }
