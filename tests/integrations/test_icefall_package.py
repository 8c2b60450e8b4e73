"""Against icefall itself, where a checkout is on PYTHONPATH: its compilers, losses, batches and checkpoints."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import topologies
from wfst_losses import LanguageModel
from wfst_losses.integrations import icefall
from wfst_losses.integrations.icefall import LexiconGraphCompiler, MMIGraphCompiler, TokenGraphCompiler

from .icefall_lang import TOKENS, WORDS, SymbolTable, k2_dict, lexicon

pytestmark = [
    pytest.mark.k2,
    pytest.mark.skipif(
        importlib.util.find_spec("icefall") is None,
        reason="no icefall on PYTHONPATH: its interfaces alone are tested; put a checkout there for the real ones",
    ),
]
TEXTS = ["ab kb", "back what", "kb"]
ROOT = Path(__file__).parents[2]


def dense(log_probs: torch.Tensor) -> Any:
    import k2

    return k2.DenseFsaVec(log_probs, torch.tensor([[1, 0, 12], [0, 0, 10], [2, 1, 8]], dtype=torch.int32))


def output() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 12, len(TOKENS), generator=generator).log_softmax(-1).requires_grad_()


def real_lexicon(folder: Path) -> Any:
    """icefall's own Lexicon, read from files as its scripts leave them."""
    import k2
    from icefall.lexicon import Lexicon

    inverse = k2.Fsa.from_dict(k2_dict())
    torch.save(k2.arc_sort(inverse).as_dict(), folder / "Linv.pt")
    for name, symbols in (("tokens", TOKENS), ("words", WORDS)):
        lines = [f"{symbol} {number}\n" for number, symbol in enumerate([*symbols, "#0"])]
        (folder / f"{name}.txt").write_text("".join(lines))
    return Lexicon(folder)


def test_ctc_over_a_lexicon_is_icefall_s(tmp_path: Path) -> None:
    import k2
    from icefall.graph_compiler import CtcTrainingGraphCompiler

    read = real_lexicon(tmp_path)
    theirs, ours = CtcTrainingGraphCompiler(read, torch.device("cpu")), LexiconGraphCompiler(read)
    assert ours.texts_to_ids(TEXTS) == theirs.texts_to_ids(TEXTS)
    found, wanted = output(), output()
    loss = icefall.ctc_loss(dense(found), ours, texts=TEXTS, reduction="none")
    their_loss = k2.ctc_loss(theirs.compile(TEXTS), dense(wanted), output_beam=1e9, reduction="none")
    torch.testing.assert_close(loss, their_loss.to(loss), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(loss.sum(), found)
    (their_gradient,) = torch.autograd.grad(their_loss.sum(), wanted)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-3, atol=1e-4)


def test_the_stand_in_is_the_real_lexicon(tmp_path: Path) -> None:
    ours, theirs = LexiconGraphCompiler(lexicon()), LexiconGraphCompiler(real_lexicon(tmp_path))
    assert {word: number for word, number in theirs.word_of.items() if word != "#0"} == ours.word_of
    assert (theirs.oov_id, theirs.topology) == (ours.oov_id, ours.topology)
    arguments = {"texts": TEXTS, "reduction": "none"}
    torch.testing.assert_close(
        icefall.ctc_loss(dense(output()), theirs, **arguments), icefall.ctc_loss(dense(output()), ours, **arguments)
    )
    assert isinstance(lexicon().word_table, SymbolTable)


@pytest.mark.parametrize("topology", topologies.TOPOLOGIES)
def test_mmi_graphs_go_into_icefall_s_loss(topology: str) -> None:
    from icefall.mmi import LFMMILoss

    model = LanguageModel.from_counts([[1, 2, 3, 1], [3, 3], [4, 1]], num_labels=len(TOKENS), order=2)
    made = MMIGraphCompiler(TokenGraphCompiler(lambda texts: [[2, 3], [4], [3]], len(TOKENS), topology), model)
    theirs = LFMMILoss(made, beam_size=1e9)(dense_fsa_vec=dense(output()), texts=TEXTS)
    ours = icefall.mmi_loss(dense_fsa_vec=dense(output()), graph_compiler=made, texts=TEXTS)
    torch.testing.assert_close(ours, theirs.to(ours), rtol=1e-4, atol=1e-4)


def test_supervisions_as_icefall_encodes_them() -> None:
    from icefall.utils import encode_supervisions

    supervisions = {
        "sequence_idx": torch.arange(3),
        "start_frame": torch.zeros(3, dtype=torch.int64),
        "num_frames": torch.tensor([20, 25, 23]),
        "text": TEXTS,
    }
    segments, texts = encode_supervisions(supervisions, subsampling_factor=2)
    assert texts == [TEXTS[1], TEXTS[2], TEXTS[0]]
    made = LexiconGraphCompiler(lexicon())
    losses = icefall.ctc_loss((output(), segments), made, texts=texts, allow_truncate=1, reduction="none")
    unsorted = torch.tensor([[0, 0, 10], [1, 0, 12], [2, 0, 11]])
    others = icefall.ctc_loss((output(), unsorted), made, texts=TEXTS, reduction="none")
    torch.testing.assert_close(losses, others[[1, 2, 0]])


def test_metrics_go_into_icefall_s_tracker() -> None:
    from icefall.utils import MetricsTracker

    tracker = MetricsTracker()
    tracker["frames"] = 10
    tracker.update(icefall.metrics("mwer_loss", torch.tensor([2.0, torch.inf, 3.0])))
    total = tracker + tracker
    assert "mwer_loss=0.5, mwer_loss_num_infinite=0.1" in str(total)


def test_checkpoints_take_decoding_graphs(tmp_path: Path) -> None:
    from icefall.checkpoint import save_checkpoint
    from icefall.utils import AttributeDict

    graph = icefall.DecodingGraph(topologies.build("compact", 5))
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), graph)
    params = AttributeDict({"HLG": graph, "graph_compiler": LexiconGraphCompiler(lexicon())})
    save_checkpoint(tmp_path / "epoch-0.pt", model, params=params)
    loaded = torch.load(tmp_path / "epoch-0.pt", weights_only=False)
    assert loaded["HLG"].fsa.num_arcs == graph.fsa.num_arcs
    assert loaded["graph_compiler"].texts_to_ids(["ab"]) == [[2]]


@pytest.fixture
def recipes() -> Path:
    """The recipes beside the package, in a checkout."""
    import icefall as package

    found = Path(package.__file__).parents[1] / "egs"
    if not found.is_dir():
        pytest.skip("icefall has no recipes beside it: not a checkout")
    return found


@pytest.mark.parametrize("name", ["yesno", "conformer_ctc2", "zipformer"])
def test_the_diffs_apply(name: str, recipes: Path) -> None:
    folder = recipes / ("yesno" if name == "yesno" else "librispeech") / "ASR"
    diff = ROOT / "tools" / "icefall" / f"{name}.diff"
    command = ["patch", "-p1", "--dry-run", "--fuzz=0", "--input", str(diff)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
