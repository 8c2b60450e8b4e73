"""Print the reasons of skipped tests and one line of totals from pytest's JUnit report."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

# Set-up installs all that tests import, so nothing may be skipped for want of a package, but for k2 in the free one
# and Triton, of which no release fits torch 1.13.1, in the full one.
OUT_OF_PLACE = {
    "full": re.compile(r"\b(k2|numba)\b|could not import", re.IGNORECASE),
    "free": re.compile(r"could not import (?!'k2\b)|\bnumba\b|triton is not installed", re.IGNORECASE),
}


def reason(skipped: ET.Element) -> str:
    """Why a test was skipped; for a whole file, pytest puts the reason into the text."""
    message = skipped.get("message", "no reason given")
    in_text = re.search(r"Skipped: (.*)['\"]\)$", skipped.text or "")
    return in_text[1] if message == "collection skipped" and in_text else message


def count(report: Path) -> tuple[Counter[str], Counter[str]]:
    """Outcomes by name (passed, failed, skipped) and skipped tests by reason; zeros for an empty report.

    An error outside a test (a fixture, a module that does not import) counts as failed, an expected failure
    counts as skipped.
    """
    outcomes: Counter[str] = Counter(passed=0, failed=0, skipped=0)
    reasons: Counter[str] = Counter()
    if report.stat().st_size == 0:
        return outcomes, reasons
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes["failed"] += 1
        elif skipped is not None:
            outcomes["skipped"] += 1
            reasons[reason(skipped)] += 1
        else:
            outcomes["passed"] += 1
    return outcomes, reasons


def main() -> int:
    """Return 0 when pytest succeeded, at least one test ran and no skip is out of place, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="file that pytest --junit-xml wrote")
    parser.add_argument("--environment", choices=["full", "free"], required=True)
    parser.add_argument("--pytest-status", type=int, required=True, help="exit status of pytest")
    arguments = parser.parse_args()

    outcomes, reasons = count(arguments.report)
    forbidden = [why for why in reasons if OUT_OF_PLACE[arguments.environment].search(why)]
    for why, number in reasons.most_common():
        print(f"{number} skipped: {why}{'  <- not allowed here' if why in forbidden else ''}")
    outcomes["failed"] += sum(reasons[why] for why in forbidden)
    outcomes["skipped"] -= sum(reasons[why] for why in forbidden)
    if arguments.pytest_status != 0 and outcomes["failed"] == 0:
        print(
            f"pytest ended with status {arguments.pytest_status}",
            "(no tests)" * (arguments.pytest_status == 5),
        )
        outcomes["failed"] += 1
    elif outcomes["passed"] == 0:
        print("no test passed")
        outcomes["failed"] += outcomes["failed"] == 0
    print(f"{arguments.environment}: " + ", ".join(f"{number} {name}" for name, number in outcomes.items()))
    return int(outcomes["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
