"""What ``torch.save`` writes, read without running any of it: tensors, plain values and k2's ragged tensors."""

from __future__ import annotations

import collections
import dataclasses
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_STORAGES = {
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
}


@dataclasses.dataclass
class Ragged:
    """A ``k2.RaggedTensor`` of two axes: row r is ``values[splits[r]:splits[r + 1]]``."""

    splits: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def __setstate__(self, state: object) -> None:
        """As k2 writes it: row splits, the name of an axis, values."""
        is_known = isinstance(state, tuple) and len(state) == 3 and state[1] == "row_ids1"
        if not is_known or not all(isinstance(part, torch.Tensor) for part in (state[0], state[2])):  # type: ignore[index]
            raise pickle.UnpicklingError("a ragged tensor is not of two axes")
        self.splits, self.values = state[0], state[2]  # type: ignore[index]


def read_torch_archive(path: Path) -> Any:
    """The value of a file; names in it that are no tensors, plain values or ragged tensors are refused, never imported.

    Raises:
        ValueError: for anything but a whole archive, checksums met, that holds nothing else.
        OSError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch never compresses: a bit that says so is damage. torch checks no checksums; the archive has them.
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            damaged = packed[0] if packed else archive.testzip()
            if damaged is None:
                return _load(archive, path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: holds more than tensors and plain values, which is not loaded ({error!s:.200}); expected what "
            "torch.save({'arcs': ..., 'aux_labels': ...}) writes"
        ) from None
    except (zipfile.BadZipFile, EOFError, OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}), expected a k2 .pt file") from None
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: is no file of torch ({error!s:.200}), expected a k2 .pt file") from None
    raise ValueError(f"{path}: is damaged in {damaged!r}, its checksum differs; expected a k2 .pt file")


def _load(archive: zipfile.ZipFile, path: Path) -> Any:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise zipfile.BadZipFile(f"{path.name} is no archive of torch")
    folder = names[0].removesuffix("data.pkl")
    return _Unpickler(archive, folder, archive.read(names[0])).load()


class _Unpickler(pickle.Unpickler):
    """Makes tensors of an archive's bytes; every other name is refused."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        found = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("_k2.ragged", "RaggedTensor"): Ragged,
        }.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in _STORAGES.values():
            raise pickle.UnpicklingError("it holds something stored that is no tensor")
        content = self.archive.read(f"{self.folder}data/{key}")
        # A copy, which may be written to as torch wants it.
        return np.frombuffer(content, dtype=dtype, count=count).copy()


def _tensor(
    storage: npt.NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> torch.Tensor:
    # as_strided would read beyond the end; this raises.
    return torch.from_numpy(storage).as_strided(shape, strides, offset)
