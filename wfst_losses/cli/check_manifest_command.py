"""``wfst-losses check-manifest``: the cuts of a manifest that training could make nothing of."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wfst_losses.cli.output import (
    FailedJob,
    NewPath,
    json_option,
    print_json,
    print_table,
    progress,
    refuse_overwriting,
)

if TYPE_CHECKING:
    from wfst_losses.integrations.manifests import Finding, Summary
    from wfst_losses.integrations.text_units import TextToLabels

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("check-manifest", short_help="Cuts no alignment fits, unknown tokens, empty texts.")
@click.argument("manifest", type=_FILE)
@click.option("--tokens", required=True, type=_FILE, help="tokens.txt of the network.")
@click.option("--topology", default="correct", show_default=True, help="The name of a topology.")
@click.option("--units", type=click.Choice(["characters", "words"]), default="characters", show_default=True)
@click.option("--lexicon", type=_FILE, help="lexicon.txt: words to tokens, the shortest pronunciation counts.")
@click.option("--bpe-model", type=_FILE, help="The sentencepiece model that makes tokens of texts.")
@click.option("--subsampling", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--lost-frames",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Feature frames lost before subsampling: 5 in icefall's zipformer, 3 in its conformer.",
)
@click.option("--frame-shift", type=float, default=0.01, show_default=True, help="Seconds, of cuts without features.")
@click.option("--max-listed", type=click.IntRange(min=0), default=20, show_default=True, help="Findings to list.")
@click.option("--output", type=NewPath(), help="Write the manifest without the cuts found.")
@click.option("--findings", type=NewPath(), help="Write every finding, one JSON object per line.")
@json_option
def check_manifest_command(manifest: Path, max_listed: int, as_json: bool, **options: Any) -> None:
    """List the cuts of MANIFEST (cuts.jsonl or cuts.jsonl.gz) that give no loss, or not the one meant.

    A cut is found when no alignment of the topology fits into its frames, a text is empty or holds what tokens.txt
    does not, or there is no supervision. A million cuts take constant memory. Exit status 1 when any is found,
    unless --output takes the others.

    \b
    Example:
      wfst-losses check-manifest cuts.jsonl.gz --tokens tokens.txt --topology compact --output good.jsonl.gz
    """
    from wfst_losses.integrations.manifests import Frames, check_manifest

    _check_call(options)
    text_to_labels, num_labels = _text_to_labels(options)
    import topologies

    topology = topologies.build(options["topology"], num_labels)
    frames = Frames(options["subsampling"], options["lost_frames"], options["frame_shift"])
    listed: list[Finding] = []
    with contextlib.ExitStack() as stack:
        write = _writer(options["findings"], stack)
        advance = stack.enter_context(progress(f"Reading {manifest.name}", manifest.stat().st_size))

        def on_finding(finding: Finding) -> None:
            if len(listed) < max_listed:
                listed.append(finding)
            write(finding)

        summary = check_manifest(
            manifest,
            topology,
            text_to_labels,
            frames,
            output=options["output"],
            on_finding=on_finding,
            on_bytes=advance,
        )
    answer = _answer(summary, listed, options)
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    num_found = summary.num_cuts - summary.num_kept
    if num_found and options["output"] is None:
        raise FailedJob(f"{num_found:,} of {summary.num_cuts:,} cuts give no loss, or not the one meant")


def _check_call(options: dict[str, Any]) -> None:
    context = click.get_current_context()
    if options["lexicon"] is not None and options["bpe_model"] is not None:
        raise click.UsageError("check-manifest takes either --lexicon or --bpe-model", context)
    if not 1e-4 <= options["frame_shift"] <= 10:
        raise click.UsageError(
            f"--frame-shift is {options['frame_shift']}, expected seconds above 0, 0.0001 to 10", context
        )
    refuse_overwriting()


def _text_to_labels(options: dict[str, Any]) -> tuple[TextToLabels, int]:
    from wfst_losses.graphs.tokens import read_tokens
    from wfst_losses.integrations import text_units

    tokens = read_tokens(options["tokens"])
    if options["lexicon"] is not None:
        convert = text_units.by_lexicon(tokens, options["lexicon"])
    elif options["bpe_model"] is not None:
        convert = text_units.by_sentencepiece(tokens, options["bpe_model"])
    elif options["units"] == "words":
        convert = text_units.by_words(tokens)
    else:
        convert = text_units.by_characters(tokens)
    return convert, len(tokens)


def _writer(path: Path | None, stack: contextlib.ExitStack) -> Callable[[Finding], object]:
    if path is None:
        return lambda _: None
    from topologies.atomic import replacing

    file = stack.enter_context(replacing(path))
    return lambda finding: file.write(json.dumps(_entry(finding), ensure_ascii=False).encode() + b"\n")


def _entry(finding: Finding) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(finding).items() if value not in (None, ())}


def _answer(summary: Summary, listed: list[Finding], options: dict[str, Any]) -> dict[str, Any]:
    from wfst_losses.integrations.manifests import PROBLEMS

    return {
        "topology": options["topology"],
        "num_cuts": summary.num_cuts,
        "num_supervisions": summary.num_supervisions,
        "hours": round(summary.seconds / 3600, 3),
        "num_kept": summary.num_kept,
        "kept_hours": round(summary.kept_seconds / 3600, 3),
        "problems": {problem: summary.problems[problem] for problem in PROBLEMS},
        "unknown_tokens": dict(summary.unknown.most_common(20)),
        "listed": [_entry(finding) for finding in listed],
        "output": None if options["output"] is None else str(options["output"]),
    }


def _print(answer: dict[str, Any]) -> None:
    for entry in answer["listed"]:
        what = entry["problem"]
        if "unknown" in entry:
            what += f" {', '.join(map(repr, entry['unknown'][:5]))}"
        elif "min_frames" in entry and entry["min_frames"] > entry["num_frames"]:
            what += f": {entry['min_frames']} frames needed, {entry['num_frames']} there"
        click.echo(f"{entry['cut_id']}: {what}" + (f" in {entry['text']!r:.80}" if entry.get("text") else ""))
    more = sum(answer["problems"].values()) - len(answer["listed"])
    if more:
        click.echo(f"... and {more:,} more (--max-listed, or --findings FILE for all)")
    if answer["listed"] or more:
        click.echo()
    rows = [("cuts", f"{answer['num_cuts']:,} ({answer['hours']:,} hours)")]
    rows += [(problem, f"{number:,}") for problem, number in answer["problems"].items()]
    rows.append(("kept", f"{answer['num_kept']:,} ({answer['kept_hours']:,} hours)"))
    if answer["unknown_tokens"]:
        rows.append(("unknown", ", ".join(f"{name!r} {number:,}" for name, number in answer["unknown_tokens"].items())))
    print_table(rows)
    if answer["output"] is not None:
        click.echo(f"\n{answer['output']}: {answer['num_kept']:,} cuts")
