"""The wheel: what it holds, and that installing it leaves torch and k2 alone."""

from __future__ import annotations

import re
import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    pytest.importorskip("hatchling", reason="builds the wheel; part of the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def requirements(metadata: Message, extra: str | None) -> list[str]:
    lines = [line.partition(";") for line in metadata.get_all("Requires-Dist", [])]
    wanted = "" if extra is None else f"extra == '{extra}'"
    return [requirement.strip() for requirement, _, marker in lines if marker.strip() == wanted]


def test_installing_never_asks_for_torch_or_k2(metadata: Message) -> None:
    plain = requirements(metadata, None)
    names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in plain}
    assert names == {"click", "numba", "numpy", "psutil", "rapidfuzz", "rich", "safetensors"}
    assert not any("==" in requirement or "<" in requirement for requirement in plain), "pins would replace packages"


def test_extras_name_what_fits(metadata: Message) -> None:
    assert requirements(metadata, "k2") == ["k2>=1.23.4"]
    assert requirements(metadata, "torch") == ["torch>=1.13.1"]
    holders = [
        extra for extra in metadata.get_all("Provides-Extra", []) if "espeak" in str(requirements(metadata, extra))
    ]
    assert holders == ["speech"], "GPL-3 code comes only when asked for"


def test_the_wheel_holds_both_typed_packages_and_nothing_else(wheel: ZipFile) -> None:
    names = wheel.namelist()
    folders = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert folders == {"topologies", "wfst_losses"}
    assert {"topologies/py.typed", "wfst_losses/py.typed"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_command_and_the_licence_come_along(wheel: ZipFile, metadata: Message) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "wfst-losses = wfst_losses.cli:main" in wheel.read(entry_points).decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("name", ["full", "free"])
def test_constraints_pin_by_name_and_version_alone(name: str) -> None:
    lines = (ROOT / "tools" / "constraints" / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    pattern = re.compile(r'[a-z0-9.-]+==[\w.]+(; python_version >= "3\.11")?')
    assert [line for line in pins if not pattern.fullmatch(line)] == []
    assert len({line.split("==")[0] for line in pins}) == len(pins)


def test_k2_is_pinned_by_content_too_in_the_version_of_the_constraints() -> None:
    folder = ROOT / "tools" / "constraints"
    (pin,) = [line for line in (folder / "k2.txt").read_text().splitlines() if not line.startswith("#")]
    version, _, digest = pin.partition(" --hash=sha256:")
    assert version in (folder / "full.txt").read_text().splitlines()
    assert re.fullmatch("[0-9a-f]{64}", digest)
