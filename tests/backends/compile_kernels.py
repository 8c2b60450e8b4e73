"""Compile the Triton kernels for a GPU of compute capability 9.0 that need not be here; print how many forms of each.

The last line is JSON. Needs no device: Triton brings the compiler and the assembler.
"""

from __future__ import annotations

import json
from collections import Counter
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from wfst_losses.backends.native.cuda import columns, frame_sums, graph_sums
from wfst_losses.compiled import cuda_rows

MODULES = (columns, frame_sums, graph_sums, cuda_rows)
INDICES = {
    *("row_slots", "row_begins", "arc_slots", "labels", "slot_readers", "lengths", "utterances", "exponents"),
    *("reading_splits", "virtual_splits", "arc_nodes", "levels"),
    *("column_begins", "column_readers", "column_labels", "reader_ranks"),
}
SEPARATE = {"SHARED": False, "LOG": True}
SHARED = {"SHARED": True, "LOG": False}
AGAIN = {"SHARED": True, "LOG": True}
ROWS_OF_ONE = {"ROWS": 64, "ARCS": 4, "LANES": 1}
ROWS_OF_MANY = {"ROWS": 1, "ARCS": 16, "LANES": 64}
FRAME_SUMS = [SEPARATE | ROWS_OF_ONE, SHARED | ROWS_OF_MANY, AGAIN | ROWS_OF_MANY]
FORMS: dict[str, list[dict[str, Any]]] = {
    "sum_suffixes": [form | {"READS": False} for form in FRAME_SUMS],
    "sum_prefixes": [form | {"READS": reads} for form in FRAME_SUMS for reads in (False, True)],
    "sum_suffixes_of_graphs": [{"NODES": 256, "ARCS": 4}, {"NODES": 1024, "ARCS": 4}],
    "sum_prefixes_of_graphs": [{"NODES": 256, "ARCS": 4}, {"NODES": 1024, "ARCS": 4}],
    "write_factors": [{"LANES": 16, "LABELS": 64}],
    "sum_frames": [{"NODES": 32, "LANES": 64}],
    "sum_columns": [
        SEPARATE | {"COLUMNS": 128, "LANES": 1},
        SHARED | {"COLUMNS": 32, "LANES": 32},
        AGAIN | {"COLUMNS": 32, "LANES": 32},
    ],
    "write_softmax": [{"IS_LOGITS": is_logits, "LABELS": 512} for is_logits in (False, True)],
    "add_occupancies": [
        {"SHARED": False, "COLUMNS": 128, "LANES": 1},
        {"SHARED": True, "COLUMNS": 32, "LANES": 32},
    ],
    "write_log_sums": [{"LABELS": 1024}],
}


def signature(names: list[str], form: dict[str, Any]) -> dict[str, str]:
    """What each argument is: log-sums are float64 over float32 scores, scaled sums float32 throughout."""
    sums = "*fp64" if form.get("LOG") or form.keys() == {"NODES", "ARCS"} else "*fp32"
    kinds = dict.fromkeys(("scores", "log_sums", "occupancies", "gradient", "coefficients", "sums"), "*fp32")
    kinds |= dict.fromkeys(INDICES, "*i32") | dict.fromkeys(form, "constexpr")
    kinds |= dict.fromkeys(("stride_b", "stride_t", "stride_v", "frame", "first_row", "last_row", "rank"), "i32")
    return {name: kinds.get(name, "i32" if name.startswith("num_") else sums) for name in names}


def kernels(module: ModuleType) -> dict[str, Any]:
    """The kernels a module launches, by name; those that start with an underscore and return something are parts."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, triton.JITFunction)}
    return {name.lstrip("_"): value for name, value in found.items() if "return " not in value.src}


def main() -> None:
    """Compile all, or fail."""
    counts: Counter[str] = Counter()
    for module in MODULES:
        for name, kernel in kernels(module).items():
            for form in FORMS[name]:
                source = ASTSource(kernel, signature(kernel.arg_names, form), form, {})
                compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
                counts[name] += "cubin" in compiled.asm
    print(json.dumps(counts, sort_keys=True))


if __name__ == "__main__":
    main()
