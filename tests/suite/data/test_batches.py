from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from suite.data.batches import TrainingBatches, eval_batches
from suite.errors import SteppeError
from tests.suite.data.fakes import fake_dataset, fake_task, numbered

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DATASET = fake_dataset()
X = DATASET.source.load(None).train_x
# Normalised values reach 5 in size and are one multiply-add in float32: four units in the last place there.
ATOL = 2e-6


def make(seed: int = 0, device: str = "cpu", n: int = 100, **changes: object) -> TrainingBatches:
    return TrainingBatches(numbered(X[:n]), fake_task(DATASET, **changes), DATASET, seed, device)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (DATASET.mean, DATASET.std))
    return (images.float() / 255 - mean) / std


def crops(image: Tensor, padding: int, flip: bool) -> dict[tuple[int, int, bool], Tensor]:
    """Pad with zero pixels, crop, flip and normalise one image the plain way: every outcome."""
    padded = F.pad(image, (padding,) * 4)
    out = {}
    for dy in range(2 * padding + 1):
        for dx in range(2 * padding + 1):
            window = padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]]
            out[dy, dx, False] = normalised(window)
            if flip:
                out[dy, dx, True] = normalised(window.flip(-1))
    return out


@pytest.mark.parametrize("device", DEVICES)
def test_every_image_is_exactly_one_of_the_plain_augmentations_of_its_example(device: str) -> None:
    batches = make(device=device, augment=("crop:2", "flip"))
    seen: list[tuple[int, int, bool]] = []
    for step in range(2 * batches.steps_per_epoch):
        inputs, targets = batches.batch(step)
        for image, number in zip(inputs.cpu(), targets.tolist(), strict=True):
            outcomes = crops(X[number], 2, flip=True)
            hits = [key for key, want in outcomes.items() if torch.allclose(image, want, rtol=0, atol=ATOL)]
            assert len(hits) == 1, f"example {number} matches {hits}"
            seen += hits
    # 200 uniform draws: an offset is missed with a chance of 0.8 ** 200; flips lie in 100 +- 5 sigma.
    assert {dy for dy, _, _ in seen} == {dx for _, dx, _ in seen} == set(range(5))
    assert 65 <= sum(flip for *_, flip in seen) <= 135


def test_without_augmentation_images_are_only_normalised() -> None:
    inputs, targets = make().batch(3)
    torch.testing.assert_close(inputs, normalised(X[targets]), rtol=0, atol=ATOL)


def test_crop_alone_never_flips() -> None:
    inputs, targets = make(augment=("crop:1",)).batch(0)
    for image, number in zip(inputs, targets.tolist(), strict=True):
        assert any(
            torch.allclose(image, want, atol=ATOL) for want in crops(X[number], 1, flip=False).values()
        )


def test_an_epoch_holds_every_example_once_and_its_last_batch_is_the_rest() -> None:
    batches = make(n=100)
    assert batches.steps_per_epoch == 7
    for epoch in range(2):
        targets = [batches.batch(epoch * 7 + i)[1] for i in range(7)]
        assert len(targets[-1]) == 4
        assert sorted(torch.cat(targets).tolist()) == list(range(100))


def test_epochs_differ_in_order() -> None:
    batches = make()
    assert batches.batch(0)[1].tolist() != batches.batch(batches.steps_per_epoch)[1].tolist()


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    changes = {"augment": ("crop:2", "flip")}
    one, other = make(seed=5, **changes), make(seed=5, **changes)
    expected = [one.batch(step) for step in range(15)]
    torch.manual_seed(123)
    for step in (14, 2, 9, 2, 0):  # out of order, with draws from elsewhere between
        torch.rand(7)
        inputs, targets = other.batch(step)
        assert torch.equal(inputs, expected[step][0])
        assert torch.equal(targets, expected[step][1])


def test_drawing_batches_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    make(augment=("crop:2", "flip")).batch(0)
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_differ() -> None:
    changes = {"augment": ("crop:2", "flip")}
    assert not torch.equal(make(seed=0, **changes).batch(0)[1], make(seed=1, **changes).batch(0)[1])


@pytest.mark.parametrize("device", DEVICES)
def test_devices_see_the_same_batches(device: str) -> None:
    changes = {"augment": ("crop:2", "flip")}
    inputs, targets = make(device=device, **changes).batch(4)
    expected, numbers = make(**changes).batch(4)
    assert inputs.device.type == device
    assert targets.tolist() == numbers.tolist()
    torch.testing.assert_close(inputs.cpu(), expected, rtol=0, atol=ATOL)  # a GPU may fuse the multiply-add


def test_a_batch_does_not_spoil_the_training_set() -> None:
    batches = make(augment=("crop:2", "flip"))
    first = batches.batch(0)[0].clone()
    for step in range(1, 14):
        batches.batch(step)
    assert torch.equal(batches.batch(0)[0], first)


def test_memory_format() -> None:
    inputs, _ = make(augment=("crop:2", "flip")).batch(0)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    plain = TrainingBatches(numbered(X), fake_task(DATASET), DATASET, 0, "cpu", channels_last=False)
    assert plain.batch(0)[0].is_contiguous()


def test_images_that_are_not_square() -> None:
    dataset = fake_dataset(shape=(3, 4, 8))
    x = dataset.source.load(None).train_x
    batches = TrainingBatches(numbered(x), fake_task(dataset, augment=("crop:1", "flip")), dataset, 0, "cpu")
    inputs, targets = batches.batch(0)
    for image, number in zip(inputs, targets.tolist(), strict=True):
        assert any(torch.allclose(image, want, atol=ATOL) for want in crops(x[number], 1, flip=True).values())


@pytest.mark.parametrize("name", ["rotate", "crop", "crop:-1", "crop:x", "flip:1"])
def test_unknown_augmentation_is_one_clear_line(name: str) -> None:
    with pytest.raises(SteppeError, match="valid: crop:N"):
        make(augment=(name,))


@pytest.mark.parametrize("device", DEVICES)
def test_eval_batches_keep_the_order_and_normalise(device: str) -> None:
    y = torch.arange(50)
    got = list(eval_batches(X[:50], y, DATASET, device, batch_size=20))
    assert [len(targets) for _, targets in got] == [20, 20, 10]
    assert torch.equal(torch.cat([targets for _, targets in got]).cpu(), y)
    inputs = torch.cat([inputs for inputs, _ in got])
    torch.testing.assert_close(inputs.cpu(), normalised(X[:50]), rtol=0, atol=ATOL)
    assert got[0][0].is_contiguous(memory_format=torch.channels_last)
