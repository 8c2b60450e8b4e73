"""Try every bad call, each in a process of its own, and count what became of it.

    python tools/reliability/scorecard.py                    # this library
    python tools/reliability/scorecard.py --peers            # beside it torch and k2, where they take the same call
    python tools/reliability/scorecard.py --entry mwer_loss  # the cases of one entry, each shown

A case is one argument of one entry, spoilt in one way, with what has to happen: a refusal, or a value. Outcomes:

- right: the value that is due;
- clear: a refusal whose message holds the argument's name and the offending index or value;
- unclear: another refusal, or one where a value is due;
- silent: a value where a refusal is due, or a wrong value;
- death: the process was killed by what it did; hang: it did not end.

Exit status 1 if this library has a death, a hang, a silent case, or fewer than 95 % clear ones among refusals.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# The children are forked: nothing here may have threads of its own.
os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"})

import numpy as np
import torch
from case import Case, Empty, Entry, Finite, Impossible, Noticed, Outcome, Refused, Unchanged
from defects import DEFECTS
from entries import get_entries
from isolation import run_alone

OUTCOMES = ("right", "clear", "unclear", "silent", "death", "hang")
SECONDS = 120.0  # a loop that is not compiled yet takes half of it
MAX_MESSAGE = 2000
MIN_CLEAR = 0.95


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", help="only entries whose name holds this; shows each case")
    parser.add_argument("--peers", action="store_true", help="torch and k2 too, where they take the same arguments")
    parser.add_argument("--output", type=Path, help="write all outcomes as JSON")
    parser.add_argument("--table", type=Path, help="write the table too, as docs/results/reliability.md has it")
    return parser


def get_cases(entries: Iterable[Entry]) -> list[Case]:
    """Every defect of every argument of every entry, none twice."""
    cases = [
        Case(entry, argument, defect)
        for entry in entries
        for argument, kind in entry.kinds.items()
        for defect in DEFECTS[kind]
        if (argument, defect.name) not in entry.skipped
    ]
    repeated = [key for key, count in collections.Counter(case.key for case in cases).items() if count > 1]
    if repeated:
        raise ValueError(f"cases: expected each once, got {repeated[0]} again")
    return cases


def classify(case: Case, outcome: Outcome, good: Outcome, *, is_peer: bool = False) -> str:
    """One of `OUTCOMES`. A peer's message needs no name of ours, only the index or value."""
    if outcome.ended == "timeout":
        return "hang"
    if outcome.ended not in ("returned", "raised"):
        return "death"
    if isinstance(case.defect.expected, Refused):
        if outcome.ended == "returned":
            # NaN or inf is no refusal, but it can be seen.
            is_seen = outcome.values is not None and not np.isfinite(outcome.values).all()
            return "unclear" if is_peer and is_seen else "silent"
        return "clear" if _is_clear(case, outcome, case.defect.expected, is_peer=is_peer) else "unclear"
    if isinstance(case.defect.expected, Noticed) and outcome.ended == "raised":
        return "clear" if _is_clear(case, outcome, case.defect.expected, is_peer=is_peer) else "unclear"
    if outcome.ended == "raised":
        return "unclear"
    if outcome.values is None:
        return "right"
    return "right" if _is_right(case.defect.expected, outcome, good) else "silent"


def _is_clear(case: Case, outcome: Outcome, expected: Refused | Noticed, *, is_peer: bool) -> bool:
    message = outcome.message
    names = (
        case.argument,
        case.argument.replace("_", "-"),
        *expected.under,
        *case.entry.aliases.get(case.argument, ()),
    )
    named = is_peer or any(name in message for name in names)
    mentioned = any(mention in message for mention in expected.mentions)
    quiet = not outcome.printed
    return named and mentioned and quiet and (is_peer or outcome.is_answer) and len(message) <= MAX_MESSAGE


def _is_right(expected: object, outcome: Outcome, good: Outcome) -> bool:
    values, gradients = np.asarray(outcome.values), np.asarray(outcome.gradients)
    if isinstance(expected, Empty):
        return values.shape == (0,)
    if values.shape != np.shape(good.values):
        return False
    if isinstance(expected, Finite):
        return bool(np.isfinite(values).all() and np.isfinite(gradients).all())
    if isinstance(expected, Impossible):
        others = np.arange(len(values)) != expected.utterance
        excluded = values[expected.utterance] == np.inf and not gradients[expected.utterance].any()
        return (
            bool(excluded)
            and _close(values[others], good.values[others])
            and _close(gradients[others], good.gradients[others])
        )
    if isinstance(expected, Noticed):
        return bool(np.array_equal(values, good.values))
    if isinstance(expected, Unchanged):
        frames = np.shape(good.gradients)[1]
        extra = not gradients[:, frames:].any()
        close = _close(gradients[:, :frames], good.gradients, expected.tolerance)
        return bool(extra) and close and _close(values, good.values, expected.tolerance)
    raise TypeError(f"expected is {expected!r}")


def _close(found: Any, due: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.allclose(found, due, rtol=tolerance, atol=tolerance))


def run_entry(
    entry: Entry, call: Callable[..., Any], cases: list[Case], *, is_peer: bool = False
) -> list[dict[str, Any]]:
    """The outcome of each case of an entry; its good call comes first and has to succeed."""
    if not (entry.has_threads or entry.prints or is_peer):
        call(**entry.good())  # what is compiled or imported now is there in every fork
    good = run_alone(lambda: call(**entry.good()), SECONDS)
    if good.ended != "returned" or (good.printed and not entry.prints):
        raise RuntimeError(f"{entry.name}: the good call {good.ended}: {good.error} {good.message} {good.printed}")
    records = []
    for case in cases:
        spoilt = case.arguments()
        outcome = run_alone(lambda spoilt=spoilt: call(**spoilt), SECONDS)  # type: ignore[misc]
        records.append(
            {
                "entry": entry.name,
                "argument": case.argument,
                "defect": case.defect.name,
                "outcome": classify(case, outcome, good, is_peer=is_peer),
                "due": "refusal" if isinstance(case.defect.expected, Refused) else "value",
                "ended": outcome.ended,
                "error": outcome.error,
                "message": outcome.message[:MAX_MESSAGE],
            }
        )
    return records


def count(records: list[dict[str, Any]]) -> dict[str, int]:
    """How many cases had each outcome."""
    counted = collections.Counter(record["outcome"] for record in records)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def is_good(records: list[dict[str, Any]]) -> bool:
    """Nothing dead, hung or silently wrong, and refusals clear."""
    counts = count(records)
    refusals = [record for record in records if record["due"] == "refusal"]
    clear = sum(record["outcome"] == "clear" for record in refusals)
    values_right = all(record["outcome"] in ("right", "clear") for record in records if record["due"] == "value")
    return (
        not (counts["death"] or counts["hang"] or counts["silent"])
        and values_right
        and clear >= MIN_CLEAR * len(refusals)
    )


def to_markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """A row per library."""
    lines = ["| library | cases | " + " | ".join(OUTCOMES) + " |", "|---|" + "---|" * (len(OUTCOMES) + 1)]
    for name, records in results.items():
        cells = [str(len(records)), *(str(number) for number in count(records).values())]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(entries: list[Entry], *, with_peers: bool) -> dict[str, list[dict[str, Any]]]:
    """All outcomes, by library."""
    results: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for entry in entries:
        cases = get_cases([entry])
        results["wfst-losses"] += run_entry(entry, entry.call, cases)
        for name, peer in entry.peers.items() if with_peers else ():
            shared = [case for case in cases if case.argument in peer.arguments and not case.defect.is_ours]
            results[name] += run_entry(entry, peer.call, shared, is_peer=True)
    return dict(results)


def main() -> int:
    """Run, print, tell whether all held."""
    args = get_parser().parse_args()
    torch.set_num_threads(1)
    entries = [entry for entry in get_entries() if args.entry is None or args.entry in entry.name]
    get_cases(entries)
    results = run(entries, with_peers=args.peers)
    ours = results["wfst-losses"]
    for record in ours:
        if args.entry or record["outcome"] not in ("right", "clear"):
            place = f"{record['entry']} | {record['argument']} | {record['defect']}"
            print(f"{record['outcome']:8} {place}: {record['error']} {record['message']:.200}")
    print(to_markdown(results))
    if args.table:
        args.table.write_text(to_markdown(results) + "\n", encoding="utf-8")
    if args.output:
        args.output.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0 if is_good(ours) else 1


if __name__ == "__main__":
    raise SystemExit(main())
