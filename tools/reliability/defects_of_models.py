"""The table of defects of what graphs and models are asked for after they are made."""

from __future__ import annotations

import numpy as np
import torch
from case import Defect, Finite, Unchanged
from changes import put, refused, to
from defects_of_options import COUNT, NOT_BELOW_ZERO

import topologies
from wfst_losses import DecodingGraph

SEQUENCE = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("ab"), refused("'ab'")),
    Defect("a number", to(3), refused("3")),
    Defect("epsilon", put(1, -1), refused("[1] is -1")),
    Defect("a negative label", put(1, -7), refused("[1] is -7")),
    Defect("fractions", to([1.5, 2]), refused("1.5")),
    Defect("truth values", to([True, True]), refused("True")),
    Defect("nested", to([[1, 2]]), refused("[[1, 2]]")),
    Defect("nothing", to([]), Finite()),
    Defect("numpy", np.array, Unchanged()),
    Defect("a tuple", tuple, Unchanged()),
)


def _decoding_graph(num_labels: int) -> DecodingGraph:
    return DecodingGraph(topologies.build("correct", num_labels).graph())


DECODING_GRAPH = (
    Defect("None", to(None), refused("None")),
    Defect("text", to("HLG.pt"), refused("'HLG.pt'")),
    Defect("a number", to(4), refused("4")),
    Defect("a class", to(DecodingGraph), refused("class")),
    Defect("the graph inside", lambda x: x.graph, refused("Graph(")),
    Defect("a topology", to(topologies.build("correct", 5)), refused("Correct")),
    Defect("of more labels", to(_decoding_graph(7)), refused("label 6")),
)

MASK = (
    Defect("text", to("all"), refused("'all'", "dtype")),
    Defect("numbers", lambda x: x.astype(np.int64), refused("array([0")),
    Defect("one too few", lambda x: x[:-1], refused("shape", "(")),
    Defect("one too many", lambda x: np.append(x, True), refused("shape", "(")),
    Defect("two dimensions", lambda x: x[None], refused("shape", "(")),
    Defect("a list", lambda x: x.tolist(), Unchanged()),
    Defect("a tensor", torch.from_numpy, Unchanged()),
)

PLACE = (
    Defect("negative", to(-1), refused("-1")),
    Defect("too high", to(2), refused("2")),
    Defect("None", to(None), refused("None")),
    Defect("a fraction", to(0.5), refused("0.5")),
    Defect("truth value", to(True), refused("True")),
    Defect("2^31", to(2**31), refused(2**31)),
)

OPENFST = (
    Defect("None", to(None), refused("None")),
    Defect("bytes", str.encode, refused("b'")),
    Defect("a number", to(7), refused("7")),
    Defect("nothing", to(""), refused("no arcs")),
    Defect("prose", to("This is not a graph.\n"), refused("line 1")),
    Defect("a zero byte", lambda x: "\0" + x, refused("line 1")),
    Defect("a negative state", lambda x: "-" + x, refused("line 1")),
    Defect("a byte order mark", lambda x: "\ufeff" + x, refused("line 1")),
    Defect("an arc that costs -inf", lambda x: x + "0\t0\t1\t1\t-Infinity\n", refused("'-Infinity'")),
)

UNKNOWN_OPTION = (
    Defect("an unknown name", to({"topolgy": "correct"}), refused("topolgy", under=("topolgy",))),
    Defect("an argument of the call", to({"log_probs": 1}), refused("log_probs", under=("log_probs",))),
)

MODEL_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "sequence": SEQUENCE,
    "decoding_graph": DECODING_GRAPH,
    "mask": MASK,
    "place": PLACE,
    "openfst_string": OPENFST,
    "unknown_option": UNKNOWN_OPTION,
    "encoder_options": (
        Defect("a number", to(3), refused("3")),
        Defect("text", to("sigma_frames"), refused("'sigma_frames'")),
        Defect("an unknown name", to({"sigma": 1.0}), refused("sigma", under=("sigma",))),
        Defect("a reduction", to({"reduction": "mean"}), refused("reduction", under=("reduction",))),
    ),
    "num_real": tuple(defect for defect in COUNT if defect.name != "None"),
    "times": NOT_BELOW_ZERO,
    "labels_of_batch": (
        Defect("None", to(None), refused("None")),
        Defect("one too few", lambda x: x[:-1], refused("expected (")),
        Defect("two dimensions", lambda x: x[None], refused("expected (")),
    ),
    "model_blank": (
        Defect("negative", to(-1), refused("-1")),
        Defect("V", to(3), refused("3")),
        Defect("None", to(None), refused("None")),
        Defect("text", to("0"), refused("'0'")),
        Defect("truth value", to(True), refused("True")),
    ),
}
