"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_unfinished: set[Path] = set()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` when the block ends well, and vanishes when it does not.

    It lies beside ``path`` under a temporary name until then; a process killed in the middle leaves that one behind
    and whatever was at ``path`` as it was. A symbolic link stays one: the file it leads to is replaced.

    Raises:
        ValueError: if ``path`` is there and is no file (renaming onto a device would replace the device).
        OSError: what the disk says, nothing left over.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is there and is no regular file; expected the name of a file to write")
    # The name is known before there is a file: wherever an interrupt comes, nothing stays.
    temporary = path.parent / f".{path.name[:60]}.{secrets.token_hex(8)}"
    _unfinished.add(temporary)
    try:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        _unfinished.discard(temporary)


def discard_unfinished() -> None:
    """Delete what is being written: for a process that is about to end on the spot."""
    for temporary in tuple(_unfinished):
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """The new name outlives a power cut too; file systems that know no such thing are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
