from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from suite.data import splits
from suite.data.dataset import Dataset
from suite.data.splits import TrainingData, draw_stratified, training_data
from suite.errors import SteppeError
from suite.problem import Setting, Splits
from tests.suite.data.fakes import fake_dataset, fake_task

DATASET = fake_dataset(n_train=2000)


def load(dataset: Dataset = DATASET, **changes: Any) -> TrainingData:
    arrays = dataset.source.load(None)
    task = fake_task(dataset, **{"n_validation": 400, **changes})
    return training_data(task, dataset.n_classes, arrays.train_x, arrays.train_y)


def counts(labels: Tensor) -> list[int]:
    return torch.bincount(labels, minlength=4).tolist()


def test_validation_is_held_out_and_stratified() -> None:
    data = load()
    assert counts(data.y) == [400] * 4
    assert counts(data.val_y) == [100] * 4
    train, val = ({image.numpy().tobytes() for image in x} for x in (data.x, data.val_x))
    everything = {image.numpy().tobytes() for image in DATASET.source.load(None).train_x}
    assert not train & val
    assert train | val == everything


def test_images_stay_with_their_labels() -> None:
    truth = DATASET.source.load(None)
    label = {image.numpy().tobytes(): int(y) for image, y in zip(truth.train_x, truth.train_y, strict=True)}
    data = load(n_drawn=400, n_validation=80)
    for x, y in ((data.x, data.y), (data.val_x, data.val_y)):
        assert [label[image.numpy().tobytes()] for image in x] == y.tolist()


def test_a_subset_has_the_same_number_of_each_class_and_includes_validation() -> None:
    data = load(n_drawn=400, n_validation=80)
    assert counts(data.y) == [80] * 4
    assert counts(data.val_y) == [20] * 4


def test_shares_of_uneven_classes_are_rounded_to_the_right_total() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 21)
    drawn = draw_stratified(labels, 10, 3, torch.Generator().manual_seed(0))
    assert counts(labels[drawn])[:3] == [5, 3, 2]


def test_the_split_is_the_same_every_time_and_its_checksum_says_so() -> None:
    one = load(n_drawn=400, n_validation=80)
    torch.manual_seed(99)
    again = load(n_drawn=400, n_validation=80)
    other = load(n_drawn=400, n_validation=84)
    assert torch.equal(one.x, again.x)
    assert one.split_checksum == again.split_checksum != other.split_checksum
    # Pinned: a change of the split is a new version of every task, never an accident.
    assert one.split_checksum.startswith("98547c428a530afb")


def test_the_first_training_examples_are_a_fair_sample_of_a_sorted_source() -> None:
    labels = torch.arange(2000) // 500
    train, _ = splits.split(labels, fake_task(DATASET, n_validation=400), 4)
    # 100 of 1,600 drawn at random: 25 a class within five standard deviations of 4.3.
    assert all(abs(n - 25) < 22 for n in counts(labels[train[:100]]))


def test_too_few_examples_and_uneven_draws_are_refused() -> None:
    with pytest.raises(SteppeError, match="class 0 has 500 examples, but the task draws 600"):
        load(n_drawn=2400)
    with pytest.raises(SteppeError, match="evenly"):
        load(n_drawn=401)


@pytest.mark.parametrize("kind", ["incorrect", "uniform"])
def test_label_noise_rate(kind: str) -> None:
    clean, noisy = load(), load(label_noise=0.4, label_noise_kind=kind)
    assert torch.equal(clean.x, noisy.x)
    assert clean.split_checksum == noisy.split_checksum
    for before, after in ((clean.y, noisy.y), (clean.val_y, noisy.val_y)):
        changed = int((before != after).sum())
        flips = round(0.4 * len(before))
        if kind == "incorrect":  # every flip changes the label
            assert changed == flips
        else:  # a quarter of 640 or 160 flips returns the true label; five standard deviations
            assert abs(changed - 0.75 * flips) < 5 * (flips * 0.75 * 0.25) ** 0.5


def test_incorrect_labels_are_spread_over_the_other_classes() -> None:
    clean, noisy = load().y, load(label_noise=1.0).y
    for c in range(4):
        got = counts(noisy[clean == c])
        assert got[c] == 0
        # 400 labels over three classes: 133 each within five standard deviations of 9.4.
        assert all(abs(n - 400 / 3) < 47 for i, n in enumerate(got) if i != c)


def test_validation_is_noisy_with_its_clean_labels_beside() -> None:
    clean, noisy = load(), load(label_noise=0.4)
    assert torch.equal(noisy.val_y_clean, clean.val_y)
    assert not torch.equal(noisy.val_y, clean.val_y)
    assert torch.equal(clean.val_y, clean.val_y_clean)


def test_test_labels_are_never_noisy_and_the_set_is_whole() -> None:
    task = fake_task(DATASET, label_noise=0.9, n_drawn=400)
    read = Splits(DATASET, sealed=task.tests)
    problem = task.problem(Setting(task, DATASET, read))
    with pytest.raises(SteppeError, match="split 'test' of data set fake is a test split and sealed"):
        list(problem.batches("test"))
    read.unseal()
    batches = list(problem.batches("test"))
    truth = DATASET.source.load(None)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), truth.test_y)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (DATASET.mean, DATASET.std))
    expected = (truth.test_x.float() / 255 - mean) / std
    # one multiply-add in float32 of numbers up to 5: four units in the last place there
    torch.testing.assert_close(torch.cat([batch.inputs for batch in batches]), expected, rtol=0, atol=2e-6)


def test_noise_is_the_same_every_time_and_its_checksum_says_so() -> None:
    one = load(label_noise=0.4)
    torch.manual_seed(5)
    again = load(label_noise=0.4)
    assert torch.equal(one.y, again.y)
    assert one.noise_checksum == again.noise_checksum
    others = {
        load(label_noise=0.4, label_noise_kind="uniform").noise_checksum,
        load(label_noise=0.2).noise_checksum,
    }
    assert one.noise_checksum not in others
    assert load().noise_checksum == ""


def test_less_noise_flips_a_subset() -> None:
    clean, little, much = load().y, load(label_noise=0.2).y, load(label_noise=0.4).y
    flipped = little != clean
    assert torch.equal(little[flipped], much[flipped])


def test_unknown_noise_kind() -> None:
    with pytest.raises(SteppeError, match="did you mean 'uniform'"):
        load(label_noise=0.1, label_noise_kind="unifrom")
