"""CTC under every topology and backend: enumeration, torch's own, and what must change nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

import topologies
from tests.losses.checks import assert_ctc, random_batch
from tests.losses.engines import EVERY_BACKEND, FLOAT64_BACKENDS, tolerance
from wfst_losses import ctc_loss

EVERY_TOPOLOGY = list(topologies.TOPOLOGIES)


def random_logits(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@hypothesis.given(
    seed=st.integers(0, 2**31), num_labels=st.integers(1, 4), max_frames=st.integers(0, 5), data=st.data()
)
def test_enumeration(name: str, backend: str, seed: int, num_labels: int, max_frames: int, data: st.DataObject) -> None:
    blank = data.draw(st.integers(0, num_labels - 1))
    batch = random_batch(seed, num_labels, max_frames, 8, blank)
    assert_ctc(name, batch, backend=backend, atol=tolerance(backend), blank=blank)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("seed", range(3))
def test_correct_is_torchs_in_value_and_in_gradient_with_respect_to_logits(backend: str, seed: int) -> None:
    logits = random_logits(seed, 5, 30, 12)
    lengths = torch.tensor([30, 11, 30, 22, 17])
    targets = torch.randint(1, 12, (5, 9), generator=torch.Generator().manual_seed(seed))
    target_lengths = torch.tensor([9, 0, 4, 9, 1])
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    found = ctc_loss(torch.log_softmax(leaves[0], 2), targets, lengths, target_lengths, backend=backend)
    wanted = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaves[1], 2).transpose(0, 1), targets, lengths, target_lengths, reduction="none"
    )
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((value * weights).sum(), leaf)[0]
        for value, leaf in zip((found, wanted), leaves, strict=True)
    ]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=tolerance(backend))
    torch.testing.assert_close(*gradients, rtol=0, atol=10 * tolerance(backend))


@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_gradcheck(name: str, backend: str, from_logits: bool) -> None:
    def loss(scores: torch.Tensor) -> torch.Tensor:
        return ctc_loss(
            scores,
            [[1, 1], [2], [], [3, 1, 2]],
            [5, 3, 4, 4],
            topology=name,
            backend=backend,
            from_logits=from_logits,
            check_normalised=False,
        )

    assert torch.autograd.gradcheck(loss, random_logits(1, 4, 5, 4).requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_double_backward_of_the_reference(name: str) -> None:
    def loss(scores: torch.Tensor) -> torch.Tensor:
        return ctc_loss(scores, [[1, 1], [2]], [4, 3], topology=name, backend="reference", check_normalised=False)

    assert torch.autograd.gradgradcheck(loss, random_logits(2, 2, 4, 3).requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_gradient_is_minus_the_occupancy(backend: str) -> None:
    log_probs = torch.log_softmax(random_logits(3, 2, 8, 5), 2).requires_grad_()
    ctc_loss(log_probs, [[1, 2, 2], [4]], [8, 5], backend=backend).sum().backward()
    occupancy = -log_probs.grad
    live = torch.tensor([[1.0] * 8, [1.0] * 5 + [0.0] * 3], dtype=torch.float64)
    torch.testing.assert_close(occupancy.sum(2), live, rtol=0, atol=tolerance(backend))
    assert float(occupancy.min()) >= 0


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_impossible_targets_are_infinite_with_gradient_exactly_zero(name: str, backend: str) -> None:
    targets = [[1, 1, 1], [1], [2, 1, 2, 1], [2, 2], [], [1]]
    lengths = [4, 1, 3, 2, 0, 0]
    log_probs = torch.log_softmax(random_logits(4, 6, 4, 3), 2).requires_grad_()
    losses = ctc_loss(log_probs, targets, lengths, topology=name, backend=backend)
    least = topologies.build(name, 3).min_frames(targets)
    impossible = torch.from_numpy((least < 0) | (least > torch.tensor(lengths).numpy()))
    assert impossible.any()
    assert torch.equal(losses == torch.inf, impossible)
    (gradient,) = torch.autograd.grad(losses.sum(), log_probs)
    assert bool(gradient.isfinite().all())
    assert not gradient[impossible].any()
    zeroed = ctc_loss(log_probs, targets, lengths, topology=name, backend=backend, zero_infinity=True)
    assert zeroed[impossible].tolist() == [0.0] * int(impossible.sum())
    torch.testing.assert_close(zeroed[~impossible], losses[~impossible], rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(zeroed.sum(), log_probs)[0], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_log_probs_of_minus_infinity_are_impossible_labels(name: str, backend: str) -> None:
    log_probs = random_logits(5, 3, 4, 3)
    log_probs[:, 1, 1] = -torch.inf
    log_probs[1, :, 2] = -torch.inf
    batch = (torch.log_softmax(log_probs, 2), [[1, 2], [2], []], [4, 4, 0])
    assert_ctc(name, batch, backend=backend, atol=tolerance(backend))


@pytest.mark.parametrize("filling", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("from_logits", [False, True], ids=["log_probs", "logits"])
@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_frames_beyond_the_lengths_are_never_read(backend: str, from_logits: bool, filling: float) -> None:
    scores = torch.log_softmax(random_logits(6, 3, 6, 4), 2)
    lengths = [4, 6, 0]
    beyond = torch.arange(6)[None] >= torch.tensor(lengths)[:, None]
    values, gradients = [], []
    for padding in (0.0, filling):
        leaf = scores.masked_fill(beyond[..., None], padding).requires_grad_()
        losses = ctc_loss(leaf, [[1, 1], [2, 3], []], lengths, backend=backend, from_logits=from_logits)
        losses.sum().backward()
        values.append(losses.detach())
        gradients.append(leaf.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert not gradients[1][beyond].any()


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_order_splitting_and_padding_of_the_batch_change_nothing(name: str, backend: str) -> None:
    log_probs, targets, lengths = random_batch(7, 4, 9, 6)
    log_probs = log_probs.float()

    def run(rows: list[int], more_frames: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.cat([log_probs[rows], torch.zeros(len(rows), more_frames, 4)], dim=1).requires_grad_()
        losses = ctc_loss(
            padded, [targets[row] for row in rows], [lengths[row] for row in rows], topology=name, backend=backend
        )
        return losses.detach(), torch.autograd.grad(losses.sum(), padded)[0][:, :9]

    losses, gradient = run(list(range(6)))
    order = [3, 0, 5, 1, 4, 2]
    for found, wanted in [
        (run(order), (losses[order], gradient[order])),
        (run([0, 1, 2, 3, 4, 5], more_frames=3), (losses, gradient)),
        *((run([row]), (losses[[row]], gradient[[row]])) for row in range(6)),
    ]:
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
@pytest.mark.parametrize("blank", [0, 2, 4])
def test_blank_may_be_any_column(name: str, backend: str, blank: int) -> None:
    # The last token of the vocabulary is in the first target: a blank in the last column must not lose it.
    log_probs = torch.log_softmax(random_logits(8, 3, 6, 5), 2)
    inside = [[4, 1, 4], [2, 2], [3]]
    columns = torch.arange(1, 5)
    place = torch.cat([columns[:blank], torch.tensor([0]), columns[blank:]])
    outside = [[place.tolist().index(token) for token in target] for target in inside]
    assert max(map(max, outside)) == (4 if blank < 4 else 3)
    wanted = ctc_loss(log_probs, inside, [6, 5, 6], topology=name, backend=backend)
    found = ctc_loss(log_probs[:, :, place], outside, [6, 5, 6], topology=name, backend=backend, blank=blank)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_targets_padded_or_listed(backend: str) -> None:
    log_probs = torch.log_softmax(random_logits(9, 3, 6, 5), 2)
    listed = ctc_loss(log_probs, [[1, 2, 3], [], [4]], [6, 6, 3], backend=backend)
    padded = torch.tensor([[1, 2, 3, 99], [-7, 0, 0, 0], [4, 1, 1, 1]])
    for dtype in (torch.int32, torch.int64):
        found = ctc_loss(
            log_probs,
            padded.to(dtype),
            torch.tensor([6, 6, 3], dtype=dtype),
            torch.tensor([3, 0, 1], dtype=dtype),
            backend=backend,
        )
        assert torch.equal(found, listed)
    tensors = [torch.tensor([1, 2, 3]), torch.tensor([], dtype=torch.int64), torch.tensor([4])]
    assert torch.equal(ctc_loss(log_probs, tensors, torch.tensor([6, 6, 3]).numpy(), backend=backend), listed)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize(
    ("dtype", "returned", "atol"),
    [
        (torch.float64, torch.float64, 1e-4),
        (torch.float32, torch.float32, 1e-4),
        (torch.float16, torch.float32, 5e-2),
        (torch.bfloat16, torch.float32, 3e-1),
    ],
)
def test_dtypes(backend: str, dtype: torch.dtype, returned: torch.dtype, atol: float) -> None:
    log_probs = torch.log_softmax(random_logits(10, 2, 10, 6), 2)
    wanted = ctc_loss(log_probs, [[1, 2, 3], [5]], [10, 7], backend="reference")
    leaf = log_probs.to(dtype).requires_grad_()
    found = ctc_loss(leaf, [[1, 2, 3], [5]], [10, 7], backend=backend)
    assert found.dtype == returned
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=atol)
    found.sum().backward()
    assert leaf.grad.dtype == dtype
    assert bool(leaf.grad.isfinite().all())


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_small_batches(name: str, backend: str) -> None:
    options = {"topology": name, "backend": backend}
    empty = torch.zeros(0, 4, 3, requires_grad=True)
    losses = ctc_loss(empty, [], [], **options)
    assert losses.shape == (0,)
    for reduction in ("sum", "mean"):
        value = ctc_loss(empty, [], [], **options, reduction=reduction)
        assert value.shape == ()
        assert float(value) == 0.0
        value.backward()
    no_frames = torch.zeros(2, 0, 3, requires_grad=True)
    losses = ctc_loss(no_frames, [[], [1]], [0, 0], **options)
    assert losses.tolist() == [0.0, torch.inf]
    losses.sum().backward()
    only_blank = torch.zeros(2, 3, 1)
    assert ctc_loss(only_blank, [[], []], [3, 0], **options).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_reductions(backend: str) -> None:
    log_probs = torch.log_softmax(random_logits(11, 3, 4, 3), 2).requires_grad_()
    targets, lengths = [[1], [1, 1, 1], [2]], [4, 4, 2]
    losses = ctc_loss(log_probs, targets, lengths, backend=backend)
    assert losses.isfinite().tolist() == [True, False, True]
    total = ctc_loss(log_probs, targets, lengths, backend=backend, reduction="sum")
    mean = ctc_loss(log_probs, targets, lengths, backend=backend, reduction="mean")
    assert float(total) == pytest.approx(float(losses[0] + losses[2]))
    assert float(mean) == pytest.approx(float(total) / 2)
    (gradient,) = torch.autograd.grad(mean, log_probs)
    assert bool(gradient.isfinite().all())
    # Nothing finite: 0, and still attached.
    none = ctc_loss(log_probs[1:2], targets[1:2], lengths[1:2], backend=backend, reduction="mean")
    assert float(none) == 0.0
    assert torch.autograd.grad(none, log_probs)[0].abs().sum() == 0


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_twice_the_same_bits(backend: str) -> None:
    log_probs, targets, lengths = random_batch(12, 5, 12, 5)
    runs = []
    for _ in range(3):
        leaf = log_probs.float().requires_grad_()
        losses = ctc_loss(leaf, targets, lengths, backend=backend)
        runs.append((losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]))
    assert all(torch.equal(runs[0][0], losses) and torch.equal(runs[0][1], grad) for losses, grad in runs[1:])


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_nothing_of_the_callers_changes(backend: str) -> None:
    log_probs, targets, lengths = random_batch(13, 4, 6, 3)
    before = (log_probs.clone(), [list(target) for target in targets], list(lengths))
    ctc_loss(log_probs, targets, lengths, backend=backend, blank=3 if all(3 not in t for t in targets) else 0)
    assert torch.equal(log_probs, before[0])
    assert (targets, lengths) == before[1:]


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_evaluation_needs_no_gradient(backend: str) -> None:
    log_probs, targets, lengths = random_batch(14, 4, 6, 3)
    assert not ctc_loss(log_probs, targets, lengths, backend=backend).requires_grad
    with torch.no_grad():
        assert not ctc_loss(log_probs.requires_grad_(), targets, lengths, backend=backend).requires_grad


@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_inference_mode(backend: str) -> None:
    log_probs, targets, lengths = random_batch(14, 4, 6, 3)
    wanted = ctc_loss(log_probs, targets, lengths, backend=backend)
    with torch.inference_mode():
        assert torch.equal(ctc_loss(log_probs.clone(), targets, lengths, backend=backend), wanted)


@pytest.mark.k2
def test_k2_is_refused_in_inference_mode_by_name() -> None:
    log_probs, targets, lengths = random_batch(14, 4, 6, 3)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"backend is 'k2', which does not run under torch\.inference_mode\(\)"),
    ):
        ctc_loss(log_probs, targets, lengths, backend="k2")


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_autocast_changes_nothing(backend: str) -> None:
    logits = random_logits(18, 2, 6, 4).float()
    wanted = ctc_loss(logits, [[1, 2], [3]], [6, 4], backend=backend, from_logits=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ctc_loss(logits, [[1, 2], [3]], [6, 4], backend=backend, from_logits=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", EVERY_BACKEND)
def test_threads_change_nothing(backend: str) -> None:
    log_probs, targets, lengths = random_batch(15, 6, 20, 12)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        leaf = log_probs.clone().requires_grad_()
        losses = ctc_loss(leaf, targets, lengths, topology="compact", backend=backend)
        return losses.detach(), torch.autograd.grad(losses[losses.isfinite()].sum(), leaf)[0]

    before = torch.get_num_threads()
    try:
        runs = []
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            runs.append(run())
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(4) as pool:
        runs += [task.result() for task in [pool.submit(run) for _ in range(8)]]
    assert all(torch.equal(runs[0][0], losses) and torch.equal(runs[0][1], grad) for losses, grad in runs[1:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("backend", FLOAT64_BACKENDS)
def test_long_and_confidently_wrong_outputs_do_not_underflow(backend: str, scale: float, dtype: torch.dtype) -> None:
    logits = scale * random_logits(16, 2, 400, 20)
    generator = torch.Generator().manual_seed(16)
    targets = torch.randint(1, 20, (2, 90), generator=generator)
    lengths, target_lengths = torch.tensor([400, 230]), torch.tensor([90, 40])
    leaves = [torch.log_softmax(logits, 2).requires_grad_(), torch.log_softmax(logits, 2).to(dtype).requires_grad_()]
    found = ctc_loss(leaves[1], targets, lengths, target_lengths, backend=backend)
    wanted = torch.nn.functional.ctc_loss(
        torch.log_softmax(leaves[0], 2).transpose(0, 1), targets, lengths, target_lengths, reduction="none"
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-9 if dtype == torch.float64 else 1e-6, atol=0)
    occupancy = -torch.autograd.grad(found.sum(), leaves[1])[0].double()
    # Torch's gradient is right for what lies before its log_softmax: softmax less occupancy.
    softmax = leaves[0].detach().exp() * (torch.arange(400)[None, :, None] < lengths[:, None, None])
    (gradient,) = torch.autograd.grad(wanted.sum(), leaves[0])
    torch.testing.assert_close(softmax - occupancy, gradient, rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("name", ["correct", "minimal"])
def test_total_mass_of_20000_frames(name: str) -> None:
    from tests.topologies.checks import random_log_probs
    from topologies import GraphBatch
    from wfst_losses.backends import get_backend
    from wfst_losses.emissions import read_emissions

    num_frames = 20_000
    log_probs = random_log_probs(17, 1, num_frames, 4).requires_grad_()
    batch = GraphBatch.from_graphs([topologies.build(name, 4).graph()])
    engine = get_backend("auto", log_probs.device)
    total = engine.total_scores(batch, read_emissions(log_probs, [num_frames]), torch.zeros(1, dtype=torch.int64))
    assert abs(float(total)) < 1e-12 * num_frames
    (occupancy,) = torch.autograd.grad(total.sum(), log_probs)
    torch.testing.assert_close(occupancy.sum(2), torch.ones(1, num_frames, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", EVERY_TOPOLOGY)
def test_a_long_utterance_keeps_its_mass(name: str) -> None:
    # Uniform emissions over one token: T frames have known numbers of alignments, far below float32's range.
    num_frames = 400
    log_probs = torch.full((1, num_frames, 2), 0.5, dtype=torch.float64).log()
    loss = float(ctc_loss(log_probs, [[1]], [num_frames], topology=name))
    count = {"correct": num_frames * (num_frames + 1) / 2, "compact": num_frames * (num_frames + 1) / 2}
    wanted = (
        num_frames * torch.tensor(2.0, dtype=torch.float64).log()
        - torch.tensor(count.get(name, num_frames), dtype=torch.float64).log()
    )
    if name in ("correct", "compact", "minimal", "selfless"):
        assert loss == pytest.approx(float(wanted), abs=1e-9)
