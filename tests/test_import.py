"""``import wfst_losses``: light, complete, and not fooled by another package named topologies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wfst_losses

PACKAGE = Path(wfst_losses.__file__).parent


def python(code: str, *, path: Path | None = None, alone: bool = False) -> subprocess.CompletedProcess[str]:
    setup = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
    if path is not None:
        setup += f"sys.path.insert(0, {str(path)!r}); "
    if alone:
        setup += f"sys.path = [p for p in sys.path if p not in ('', {str(PACKAGE.parent)!r})]; "
    return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=False)


def test_nothing_heavy_is_imported() -> None:
    for module in ("wfst_losses", "wfst_losses.cli.commands"):
        code = f"import {module}; print(sorted(set(sys.modules) & set('torch numpy k2 rich numba topologies'.split())))"
        done = python(code)
        assert done.stdout == "[]\n", done.stderr


def test_every_public_name_is_there_and_typed() -> None:
    for name in wfst_losses.__all__:
        assert getattr(wfst_losses, name) is not None
        assert name in dir(wfst_losses)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = wfst_losses.nothing_of_the_kind
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    guarded = next(
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    typed = {
        (alias.name, str(statement.module))
        for statement in guarded.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    lazy = {(name, f"wfst_losses.{module}") for name, module in wfst_losses._MODULES.items()}
    assert typed == lazy
    assert {name for name, _ in lazy} == set(wfst_losses.__all__)


@pytest.mark.parametrize("imported_first", [False, True])
def test_a_shadowing_package_is_named_with_the_fix(tmp_path: Path, imported_first: bool) -> None:
    other = tmp_path / "topologies" / "__init__.py"
    other.parent.mkdir()
    other.write_text("")
    done = python("import topologies; " * imported_first + "import wfst_losses", path=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: another package named topologies shadows")
    assert str(other) in last
    assert "pip uninstall topologies" in last


def test_a_package_installed_over_ours_is_named_with_the_fix(tmp_path: Path) -> None:
    for name in ("wfst_losses", "topologies"):
        (tmp_path / name).mkdir()
    for name in ("__init__.py", "shadowing.py"):
        (tmp_path / "wfst_losses" / name).write_text((PACKAGE / name).read_text())
    for content in ("__version__ = '1.0'\n", None):
        if content is not None:
            (tmp_path / "topologies" / "__init__.py").write_text(content)
        else:
            (tmp_path / "topologies" / "__init__.py").unlink()
        done = python("import wfst_losses", path=tmp_path, alone=True)
        assert "installed over" in done.stderr.splitlines()[-1]
        assert "--force-reinstall --no-deps wfst-losses" in done.stderr.splitlines()[-1]


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "topologies" / "__init__.py"
    other.parent.mkdir()
    other.write_text("")
    program = "sys.argv = ['/bin/wfst-losses', 'doctor']; from wfst_losses.cli import main; main()"
    done = python(program, path=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("wfst-losses: another package named topologies")
