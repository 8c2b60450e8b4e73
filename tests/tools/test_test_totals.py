"""tools/test_totals.py: the line of totals, and what makes it fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "test_totals.py"
PASSED = '<testcase name="a"/>'
FAILED = '<testcase name="b"><failure message="no"/></testcase>'
BROKEN = '<testcase name="c"><error message="no"/></testcase>'


def skipped(reason: str) -> str:
    return f'<testcase name="d"><skipped type="pytest.skip" message="{reason}"/></testcase>'


def totals(tmp_path: Path, cases: str, *, environment: str = "full", pytest_status: int = 0) -> tuple[int, list[str]]:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>" if cases else "")
    command = [
        sys.executable,
        SCRIPT,
        report,
        "--environment",
        environment,
        "--pytest-status",
        str(pytest_status),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("cases", "environment", "pytest_status", "status", "line"),
    [
        (PASSED * 2, "full", 0, 0, "full: 2 passed, 0 failed, 0 skipped"),
        (PASSED + FAILED + BROKEN, "free", 1, 1, "free: 1 passed, 2 failed, 0 skipped"),
        (PASSED + skipped("k2 is not installed"), "free", 0, 0, "free: 1 passed, 0 failed, 1 skipped"),
        (PASSED + skipped("k2 is not installed"), "full", 0, 1, "full: 1 passed, 1 failed, 0 skipped"),
        (PASSED + skipped("could not import 'numba'"), "full", 0, 1, "full: 1 passed, 1 failed, 0 skipped"),
        (PASSED + skipped("could not import 'k2'"), "free", 0, 0, "free: 1 passed, 0 failed, 1 skipped"),
        (PASSED + skipped("could not import 'lhotse'"), "free", 0, 1, "free: 1 passed, 1 failed, 0 skipped"),
        (PASSED + skipped("triton is not installed"), "free", 0, 1, "free: 1 passed, 1 failed, 0 skipped"),
        (PASSED + skipped("triton is not installed"), "full", 0, 0, "full: 1 passed, 0 failed, 1 skipped"),
        (PASSED + skipped("needs a GPU"), "full", 0, 0, "full: 1 passed, 0 failed, 1 skipped"),
        (PASSED, "full", 3, 1, "full: 1 passed, 1 failed, 0 skipped"),
        ("", "full", 5, 1, "full: 0 passed, 1 failed, 0 skipped"),
        (skipped("needs a GPU"), "free", 0, 1, "free: 0 passed, 1 failed, 1 skipped"),
    ],
)
def test_totals(tmp_path: Path, cases: str, environment: str, pytest_status: int, status: int, line: str) -> None:
    returned, lines = totals(tmp_path, cases, environment=environment, pytest_status=pytest_status)
    assert returned == status
    assert lines[-1] == line


def test_reasons_are_counted(tmp_path: Path) -> None:
    _, lines = totals(tmp_path, PASSED + skipped("no k2") * 3 + skipped("no GPU"), environment="free")
    assert lines[:2] == ["3 skipped: no k2", "1 skipped: no GPU"]


def test_a_file_skipped_for_want_of_k2_fails_too(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\npytest.importorskip('k2_of_another_world')\n")
    report = tmp_path / "real.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={report}",
        tmp_path / "test_it.py",
    ]
    subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    case = report.read_text().replace("k2_of_another_world", "k2")
    cases = PASSED + case[case.index("<testcase") : case.index("</testsuite>")]
    status, lines = totals(tmp_path, cases)
    assert status == 1
    assert lines[0].startswith("1 skipped: could not import 'k2'")
    assert lines[-1] == "full: 1 passed, 1 failed, 0 skipped"
