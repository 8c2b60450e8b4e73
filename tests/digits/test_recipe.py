"""Model, checkpoints, objectives, and the scripts from end to end on tones."""

from __future__ import annotations

import json
import sys

import pytest
import torch

pytest.importorskip("lhotse")
pytest.importorskip("kaldialign")
pytest.importorskip("tensorboard")

import checkpoint
import data
import decode
import model
import objectives
import prepare
import train
from lexicon import make_tokens, text_to_labels
from training_loss import TrainingLoss


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_model(seed=0, **options):
    torch.manual_seed(seed)
    return model.DigitModel(40, 20, channels=16, num_blocks=2, **options).eval()


@pytest.mark.parametrize("block", model.BLOCKS)
def test_an_utterance_does_not_depend_on_its_batch(block):
    net = small_model(block=block, intermediate_layers=[1])
    features = torch.randn(2, 57, 40)
    features[1, 33:] = 1e3
    together, lengths = net(features, torch.tensor([57, 33]))
    alone, alone_lengths = net(features[1:, :33], torch.tensor([33]))
    assert lengths.tolist() == [15, 9]
    assert alone_lengths.tolist() == [9]
    assert torch.allclose(together[1, :9], alone[0], atol=1e-5)
    assert torch.allclose(together.exp().sum(-1), torch.ones(2, 15), atol=1e-5)
    outputs, _ = model.AllOutputs(net)(features, torch.tensor([57, 33]))
    assert len(outputs) == 2
    assert torch.equal(outputs[0], together)
    assert torch.allclose(outputs[1].exp().sum(-1), torch.ones(2, 15), atol=1e-5)
    with pytest.raises(ValueError, match=r"intermediate_layers is \[2\], expected 1\.\.1"):
        small_model(intermediate_layers=[2])


def test_checkpoints_come_back_and_failed_writes_leave_the_last_one(tmp_path, monkeypatch):
    net = small_model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    facts = {
        "tokens": make_tokens(),
        "num_features": 40,
        "model_options": {"channels": 16, "num_blocks": 2},
        "wer": 1.5,
    }
    checkpoint.save_checkpoint(tmp_path / "last.pt", net, optimizer, facts)
    loaded, read = checkpoint.load_model(tmp_path / "last.pt")
    assert read == facts
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), loaded.state_dict().values(), strict=True))

    def fail(_state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_checkpoint(tmp_path / "last.pt", small_model(1), optimizer, facts)
    assert checkpoint.load_model(tmp_path / "last.pt")[1] == facts


def objective(*options):
    required = ["--data-dir", "unused", "--exp-dir", "unused"]
    args = train.get_parser().parse_args([*required, *options])
    return objectives.make_objective(args, make_tokens(), texts=["one two", "six seven"])


def batch():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(2, 24, 20, generator=generator).log_softmax(-1).requires_grad_()
    return log_probs, torch.tensor([24, 20]), [text_to_labels(text, make_tokens()) for text in ("one two", "six")]


@pytest.mark.parametrize("topology", ["correct", "compact", "minimal", "selfless"])
@pytest.mark.parametrize(
    "options",
    [
        ("--loss", "ctc"),
        ("--loss", "mmi"),
        ("--loss", "mwer", "--lattice", "log-probs"),
        ("--loss", "mwer", "--lattice", "log-probs", "--risk", "token", "--ctc-weight", "0.1"),
        ("--loss", "mwer", "--lattice", "log-probs", "--estimator", "sampled", "--path-score", "single"),
        ("--loss", "mwer", "--lattice", "log-probs", "--estimator", "exact", "--risk", "token", "--max-errors", "1"),
        ("--loss", "mwer", "--lattice", "log-probs", "--sampler", "nbest", "--num-paths", "4"),
        ("--loss", "mwer", "--lattice", "log-probs", "--sampler", "negative", "--num-paths", "8"),
    ],
)
def test_objectives_have_gradients_through_every_topology(topology, options):
    log_probs, lengths, targets = batch()
    terms = objective("--topology", topology, *options)(log_probs, lengths, targets)
    assert terms["loss"].shape == (2,)
    terms["loss"].sum().backward()
    assert torch.isfinite(log_probs.grad).all()
    assert log_probs.grad.abs().sum() > 0
    assert (log_probs.grad[1, 20:] == 0).all()
    assert not terms[options[1]].requires_grad


@pytest.mark.k2
@pytest.mark.parametrize("topology", ["correct", "compact", "minimal", "selfless"])
def test_mwer_over_a_k2_lattice_is_that_from_log_probs_up_to_pruning_and_sampling(topology):
    if not objectives.has_k2():
        pytest.skip("k2 is not installed")
    means = []
    for lattice in ("k2", "log-probs"):
        loss = objective("--loss", "mwer", "--lattice", lattice, "--num-paths", "400", "--topology", topology)
        torch.manual_seed(0)
        log_probs = (3 * torch.randn(1, 8, 20)).log_softmax(-1).requires_grad_()
        means.append(sum(loss(log_probs, torch.tensor([8]), [[17, 4, 12]])["loss"].item() for _ in range(4)) / 4)
    assert means[0] == pytest.approx(means[1], abs=0.15)


@pytest.mark.k2
def test_the_peer_counts_what_the_same_paths_count_here():
    if not objectives.has_k2():
        pytest.skip("k2 is not installed")
    log_probs, lengths, targets = batch()
    peer = objective("--loss", "k2-mwer", "--num-paths", "8", "--nbest-scale", "0.5")(log_probs, lengths, targets)
    assert peer["loss"].shape == (2,)
    peer["loss"].sum().backward()
    from wfst_losses import GridPaths, lattice_mwer_loss

    lattice = objectives.K2Lattices("correct", 20)(log_probs.detach(), lengths)
    ours = lattice_mwer_loss(lattice, targets, nbest_scale=0.5, path_score="single", sampler=GridPaths(8))
    assert peer["loss"].sum().item() == pytest.approx(ours.item(), rel=1e-5)
    assert log_probs.grad.abs().sum() > 0


def training_loss(*options):
    required = ["--data-dir", "unused", "--exp-dir", "unused", "--lattice", "log-probs"]
    args = train.get_parser().parse_args([*required, *options])
    return TrainingLoss(args, make_tokens(), ["one two", "six seven"], torch.Generator().manual_seed(0))


def test_stages_take_turns_and_layers_add_their_ctc():
    log_probs, lengths, targets = batch()
    loss = training_loss("--stages", "ctc:0", "mmi:2", "mwer:5", "--intermediate-layers", "1", "--topology", "minimal")
    outputs = [log_probs, log_probs.detach() * 1.0]
    for step, name in ((0, "ctc"), (1, "ctc"), (2, "mmi"), (4, "mmi"), (5, "mwer"), (99, "mwer")):
        terms = loss(outputs, lengths, targets, step)
        assert set(terms) == {"loss", name, "ctc_at_1"}
        torch.testing.assert_close(terms["loss"], terms[name] + 0.3 * terms["ctc_at_1"])
    inner = objective("--loss", "ctc", "--topology", "minimal")(outputs[1], lengths, targets)["loss"]
    torch.testing.assert_close(terms["ctc_at_1"], inner)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stages", "ctc:1"], "expected ascending steps, the first 0"),
        (["--stages", "ctc:0", "mwer:9", "mmi:5"], "expected ascending steps"),
        (["--stages", "ctc:0", "ctc:5"], "expected each loss once"),
        (["--stages", "ctc"], "stages has 'ctc', expected LOSS:STEP"),
        (["--stages", "smbr:0"], "stages has 'smbr:0'"),
        (["--intermediate-layers", "1", "--intermediate-ctc-weight", "0"], "expected above 0 with layers"),
    ],
)
def test_bad_stages(options, message):
    with pytest.raises(ValueError, match=message):
        training_loss(*options)


def test_what_no_alignment_fits_is_named_and_left_out(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115, PTH123 (progress bars)
    cuts = data.load_cuts(data_dir, "train")
    for entry in cuts:
        if entry.id.endswith("-0000"):
            entry.supervisions[0].text = "three " * 30
    monkeypatch.setattr(train, "load_cuts", lambda folder, split: cuts if split == "train" else dev)
    dev = data.load_cuts(data_dir, "dev")
    tiny = ["--channels", "8", "--num-blocks", "1", "--num-epochs", "1", "--num-train-parts", "1", "--num-threads", "1"]
    train.train(train.get_parser().parse_args(["--data-dir", str(data_dir), "--exp-dir", str(tmp_path), *tiny]))
    lines = (tmp_path / "left-out.txt").read_text(encoding="utf-8").splitlines()
    named = [name for line in lines for name in line.partition("no alignment fits: ")[2].split(", ")]
    too_long = [entry.id for entry in cuts if entry.id.endswith("-0000")]
    assert sorted(named) == sorted(too_long)
    (entry,) = json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"))
    assert entry["num_left_out"] == len(too_long) > 0
    assert 0 < entry["loss"] < 1000


def test_rate_warms_up_then_decays_or_halves():
    required = ["--data-dir", "x", "--exp-dir", "x", "--lr", "1.0", "--warmup-steps", "4", "--num-epochs", "2"]
    linear = train.Rate(train.get_parser().parse_args([*required, "--schedule", "linear"]), steps_per_epoch=10)
    assert linear(0) == pytest.approx(0.25)
    assert linear(10) == pytest.approx(0.5)
    plateau = train.Rate(train.get_parser().parse_args(required), steps_per_epoch=10)
    for epoch, improved in enumerate((True, False, False, True, False), start=1):
        plateau.epoch_ended(epoch, improved)
    assert plateau(10) == pytest.approx(0.5)
    held = train.Rate(train.get_parser().parse_args([*required, "--hold-epochs", "4"]), steps_per_epoch=10)
    rates = []
    for epoch in range(1, 9):
        held.epoch_ended(epoch, improved=False)
        rates.append(held(10))
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.5, 0.5, 0.25])


def test_prepare_train_fine_tune_decode(tmp_path, recordings, monkeypatch):
    monkeypatch.setattr(prepare, "read_folder", lambda _folder: recordings)
    monkeypatch.setattr(sys, "stderr", open("/dev/null", "w"))  # noqa: SIM115, PTH123 (progress bars)
    data_dir = tmp_path / "data"
    draws = ["--train-draws", "2", "--dev-draws", "1", "--test-draws", "1", "--held-out-draws", "1"]
    summary = prepare.prepare(
        prepare.get_parser().parse_args(["--corpus-dir", "tones", "--output-dir", str(data_dir), *draws])
    )
    assert summary["train"]["words"] == 2 * 40
    assert summary["test"]["words"] == 100
    assert summary["held_out_speaker"] == "cy"
    assert not list(data_dir.glob("*.tmp*"))
    tiny = ["--channels", "8", "--num-blocks", "1", "--num-epochs", "2", "--num-train-parts", "1", "--num-threads", "1"]
    common = ["--data-dir", str(data_dir), "--max-duration", "20", *tiny]
    parse = train.get_parser().parse_args
    ctc = train.train(parse([*common, "--exp-dir", str(tmp_path / "ctc")]))
    assert ctc["epochs"] == 2
    mwer = ["--exp-dir", str(tmp_path / "mwer"), "--loss", "mwer", "--lattice", "log-probs", "--schedule", "linear"]
    train.train(parse([*common, *mwer, "--init-from", str(tmp_path / "ctc" / "best.pt"), "--spec-augment"]))
    curves = json.loads((tmp_path / "mwer" / "curves.json").read_text(encoding="utf-8"))
    assert [entry["epoch"] for entry in curves] == [0, 1, 2]
    assert curves[0]["dev_wer"] == pytest.approx(ctc["dev_wer"])
    command = ["--data-dir", str(data_dir), "--checkpoint", str(tmp_path / "mwer" / "best.pt")]
    wer = decode.decode(
        decode.get_parser().parse_args(
            [*command, "--output-dir", str(tmp_path / "decode"), "--methods", "lexicon", "greedy", "letter-lm"]
        )
    )
    assert set(wer) == {"test", "test_held_out"}
    assert wer["test_held_out"]["lexicon"]["words"] == 120
    assert len((tmp_path / "decode" / "hyps-test-greedy.txt").read_text(encoding="utf-8").splitlines()) > 10
