"""What README.md and docs/ say is true: their examples run, their tables are current, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_run(document):
    blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if document.name in ("README.md", "topologies.md"):
        assert blocks
    finished = run("-c", "\n".join(blocks))
    assert finished.returncode == 0, finished.stderr


def test_icefalls_diffs_are_those_that_are_applied():
    text = (ROOT / "docs" / "icefall.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```diff\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert sorted(blocks) == sorted(
        path.read_text(encoding="utf-8") for path in (ROOT / "tools/icefall").glob("*.diff")
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_tables_are_current():
    finished = run("tools/tables.py", "--check")
    assert finished.returncode == 0, finished.stderr


def test_commands_of_the_readme_exist():
    commands = set(re.findall(r"^wfst-losses ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert commands
    for command in commands:
        assert run("-m", "wfst_losses.cli", command, "--help").returncode == 0
