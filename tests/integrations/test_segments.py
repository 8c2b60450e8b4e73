"""A K2 dataset's batch as arguments of the losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from wfst_losses import ctc_loss
from wfst_losses.integrations.lhotse import loss_arguments
from wfst_losses.integrations.segments import cut_segments

LABELS = {"a": 1, "b": 2, "c": 3}


def texts_to_ids(texts: list[str]) -> list[list[int]]:
    return [[LABELS[letter] for letter in text] for text in texts]


def scores(num_sequences: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_sequences, num_frames, 4, generator=generator, dtype=torch.float64).log_softmax(-1)


def batch(rows: list[tuple[str, int, int, int]]) -> dict[str, Any]:
    texts, sequence, start, frames = zip(*rows, strict=True)
    columns = {"sequence_idx": sequence, "start_frame": start, "num_frames": frames}
    return {"supervisions": {"text": list(texts), **{name: torch.tensor(c) for name, c in columns.items()}}}


def test_each_supervision_is_an_utterance_in_the_order_given() -> None:
    log_probs = scores(2, 10).requires_grad_()
    rows = [("a", 1, 8, 20), ("bc", 0, 0, 16), ("ab", 0, 20, 20)]
    arguments = loss_arguments(batch(rows), log_probs, texts_to_ids, subsampling_factor=4)
    losses = ctc_loss(*arguments[:3])
    alone = [log_probs[1, 2:7], log_probs[0, :4], log_probs[0, 5:10]]
    wanted = [
        ctc_loss(frames[None], [target], [len(frames)]) for frames, target in zip(alone, arguments.targets, strict=True)
    ]
    torch.testing.assert_close(losses, torch.cat(wanted), rtol=1e-12, atol=1e-12)
    losses.sum().backward()
    assert log_probs.grad is not None
    assert (log_probs.grad[0, 4] == 0).all()
    assert (log_probs.grad[1, [0, 1, 7, 8, 9]] == 0).all()
    assert (log_probs.grad[1, 2:7, :2] != 0).all()
    assert arguments.cut_ids is None


def test_whole_sequences_are_not_copied() -> None:
    log_probs = scores(2, 10)
    same, lengths = cut_segments(log_probs, torch.tensor([[0, 0, 10], [1, 0, 7]]))
    assert same is log_probs
    assert lengths.tolist() == [10, 7]


def test_what_reaches_beyond_the_output_is_left_out_up_to_the_subsampling() -> None:
    log_probs = scores(1, 10)
    for frames in (40, 43, 44, 52, 55):
        arguments = loss_arguments(batch([("a", 0, 0, frames)]), log_probs, texts_to_ids, subsampling_factor=4)
        assert arguments.input_lengths.tolist() == [10]
    with pytest.raises(ValueError, match=r"supervision_segments\[0\] is \[0, 0, 14\], expected an end of at most 10"):
        loss_arguments(batch([("a", 0, 0, 56)]), log_probs, texts_to_ids, subsampling_factor=4)


def test_the_network_s_own_lengths_hold() -> None:
    rows = [("a", 0, 0, 39), ("b", 1, 0, 33)]
    arguments = loss_arguments(
        batch(rows), scores(2, 10), texts_to_ids, subsampling_factor=4, output_lengths=torch.tensor([10, 8])
    )
    assert arguments.input_lengths.tolist() == [10, 8]
    arguments = loss_arguments(
        batch([("a", 0, 0, 8), ("b", 0, 9, 30)]), scores(1, 10), texts_to_ids, subsampling_factor=4, output_lengths=[9]
    )
    assert arguments.input_lengths.tolist() == [2, 7]


def test_a_real_dataset_s_batch() -> None:
    pytest.importorskip("lhotse", exc_type=ImportError)
    from lhotse import CutSet, MonoCut, SupervisionSegment
    from lhotse.dataset import K2SpeechRecognitionDataset
    from lhotse.testing.dummies import dummy_features
    from lhotse.utils import fastcopy

    cuts = []
    for name, frames, text in (("short", 30, "ab"), ("long", 80, "abc"), ("middle", 52, "c")):
        features = fastcopy(dummy_features(0, duration=frames / 100), num_frames=frames)
        supervision = SupervisionSegment(name, features.recording_id, 0.0, frames / 100, text=text)
        cuts.append(MonoCut(name, 0.0, frames / 100, 0, features=features, supervisions=[supervision]))

    class Zeros:
        """Frames of nothing, where the real strategy would read the disk."""

        def __call__(self, cuts: Any) -> tuple[torch.Tensor, torch.Tensor]:
            lengths = torch.tensor([cut.num_frames for cut in cuts])
            return torch.zeros(len(cuts), int(lengths.max()), 80), lengths

        def supervision_intervals(self, cuts: Any) -> dict[str, torch.Tensor]:
            from lhotse.dataset.input_strategies import PrecomputedFeatures

            return PrecomputedFeatures().supervision_intervals(cuts)  # type: ignore[no-any-return]

    made = K2SpeechRecognitionDataset(return_cuts=True, input_strategy=Zeros())[CutSet.from_cuts(cuts)]
    arguments = loss_arguments(made, scores(3, 20), texts_to_ids, subsampling_factor=4)
    assert arguments.cut_ids == ["long", "middle", "short"]
    assert arguments.targets == [[1, 2, 3], [3], [1, 2]]
    assert arguments.input_lengths.tolist() == [20, 13, 7]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[2, 0, 3]], r"supervision_segments\[0\] is \[2, 0, 3\], expected a sequence in 0..1"),
        ([[0, 0, 3], [1, -1, 3]], r"supervision_segments\[1\] is \[1, -1, 3\], expected no negative frames"),
        ([[0, 8, 3]], "expected an end of at most 10"),
        ([[0, 8]], r"supervision_segments has shape \(1, 2\)"),
        ([[0.0, 0.0, 3.0]], "dtype float32, expected"),
    ],
)
def test_bad_segments(segments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_segments(scores(2, 10), torch.tensor(segments))


def test_bad_batches() -> None:
    with pytest.raises(ValueError, match="batch has no num_frames, sequence_idx, start_frame of supervisions"):
        loss_arguments({"supervisions": {"text": ["a"]}}, scores(1, 5), texts_to_ids)
    with pytest.raises(ValueError, match="batch has no num_frames"):
        loss_arguments({}, scores(1, 5), texts_to_ids)
    with pytest.raises(ValueError, match="gave 0 label sequences for 1 texts"):
        loss_arguments(batch([("a", 0, 0, 5)]), scores(1, 5), lambda _: [])
