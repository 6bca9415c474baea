"""The promises of image tasks can be broken, and say so."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from suite.batch import Batch
from suite.conformance import IMAGES, TASKS, check_task
from suite.data.dataset import Dataset
from suite.data.source import Arrays
from suite.data.splits import TrainingData, training_data
from suite.entries.registry import Found, Registry
from suite.problem import Classification, Setting
from suite.problems import image_problem
from suite.problems.image_problem import ImageClassification
from suite.problems.image_task import ImageTask
from suite.task import TaskSpec
from tests.plugins.tiny import Synthetic

TINY = Path(__file__).parents[1] / "plugins" / "tiny.py"
ENTRY = Registry([TINY]).task("tiny").entry


def tiny(**changes: Any) -> Found:
    """The tiny plugin task with fields of its `ImageTask` changed."""
    assert isinstance(ENTRY, TaskSpec)
    make = ENTRY.make

    def changed(**params: Any) -> ImageTask:
        task = make(**params)
        assert isinstance(task, ImageTask)
        return dataclasses.replace(task, **changes)

    return Found(dataclasses.replace(ENTRY, make=changed), TINY, plugin=True)


def dataset(**changes: Any) -> Dataset:
    assert isinstance(ENTRY, TaskSpec)
    (data,) = ENTRY.make(epochs=1, measure_every=0).data
    assert isinstance(data, Dataset)
    return dataclasses.replace(data, **changes)


def broken(task: Found) -> dict[str, str]:
    return {check.promise: check.message for check in check_task(task, None) if not check.ok}


def net(classes: int = 4, scale: float = 1.0) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, classes))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(scale)
    return model


def test_the_task_that_is_broken_below_is_sound() -> None:
    checks = check_task(tiny(), None)
    names = [promise.name for promise in (*TASKS, *IMAGES)]
    assert [check.promise for check in checks] == ["is well formed", *names]
    assert not broken(tiny())


@dataclasses.dataclass(frozen=True)
class WrongLabels(Synthetic):
    checksum: str = "wrong labels"

    def load(self, root: Path | None) -> Arrays:
        arrays = super().load(root)
        return dataclasses.replace(arrays, train_y=arrays.train_y + 1)


@dataclasses.dataclass(frozen=True)
class Lost(Synthetic):
    checksum: str = "lost"

    def verify(self, root: Path | None) -> None:
        raise FileNotFoundError("images.bin")


BROKEN: list[tuple[Mapping[str, Any], str, str]] = [
    ({"model": lambda: net(5)}, "gives logits", r"5 logits for 4 classes"),
    ({"model": lambda: nn.Conv2d(3, 4, 8)}, "gives logits", r"the model gives \(4, 4, 1, 1\) for 4 examples"),
    (
        {"model": lambda: net(scale=9.0)},
        "starts at the loss of a blind guess",
        r"ln\(4\) = 1.386: weights or",
    ),
    ({"measure_examples": 100}, "finds its data whole", "is 100, but there are 90 training images: lower it"),
    (
        {"data": (dataset(n_train=106),), "measure_examples": 100},
        "has the sizes that it declares",
        "is 100, but there are 90 training examples: lower it",
    ),
    (
        {"data": (dataset(n_train=107),), "measure_examples": 32},
        "finds its data whole",
        "90 training images on synthetic, declared are 91: correct n_train of the data set",
    ),
    ({"data": (dataset(source=Lost()),)}, "finds its data whole", "FileNotFoundError: images.bin"),
]


@pytest.mark.parametrize(
    ("changes", "promise", "message"), BROKEN, ids=[f"{row[1]}{i}" for i, row in enumerate(BROKEN)]
)
def test_a_mistake_in_a_task_breaks_its_promise(
    changes: Mapping[str, Any], promise: str, message: str
) -> None:
    crosses = broken(tiny(**changes))
    assert set(crosses) == {promise}
    assert re.search(message, crosses[promise]), crosses


def test_fake_images_are_not_kept_in_the_cache(tmp_path: Path) -> None:
    check_task(tiny(), None, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # the genuine ones


def test_labels_outside_of_the_classes_are_seen() -> None:
    crosses = broken(tiny(data=(dataset(source=WrongLabels()),)))
    assert set(crosses) == {"finds its data whole"}
    assert "labels of synthetic lie outside [0, 4)" in crosses["finds its data whole"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": (dataset(), dataset(n_classes=5))}, "differ in n_classes or shape"),
        ({"data": (dataset(mean=(0.5,)),)}, "one value for each of its channels"),
        ({"n_validation": 0}, "n_validation is 0; valid: at least 1"),
        ({"augment": ("mirror",)}, "unknown augmentation 'mirror'"),
        ({"label_noise": 0.2, "label_noise_kind": "odd"}, "unknown label noise kind 'odd'"),
    ],
)
def test_a_malformed_task_is_not_judged_further(changes: Mapping[str, Any], message: str) -> None:
    (check,) = check_task(tiny(**changes), None)
    assert not check.ok
    assert re.search(message, check.message), check.message


Draw = Callable[[TrainingData], TrainingData]


@pytest.mark.parametrize(
    ("spoil", "promise", "message"),
    [
        (
            lambda data: dataclasses.replace(
                data, x=torch.cat([data.x, data.val_x]), y=torch.cat([data.y, data.val_y])
            ),
            "splits without overlap",
            "16 examples are both in training and validation",
        ),
        (
            lambda data: dataclasses.replace(
                data, x=torch.cat([data.x, data.x[:3]]), y=torch.cat([data.y, data.y[:3]])
            ),
            "splits without overlap",
            "an example appears twice",
        ),
        (
            lambda data: dataclasses.replace(data, val_x=data.val_x[1:], val_y=data.val_y[1:]),
            "splits without overlap",
            "15 validation examples, declared are 16",
        ),
        (
            lambda data: dataclasses.replace(data, split_checksum=str(torch.rand(()))),
            "splits without overlap",
            "two draws of the split differ",
        ),
        (
            lambda data: dataclasses.replace(data, y=(data.y + 1) % 4),
            "corrupts labels as declared",
            "1.000 of the training labels are wrong, label_noise=0",
        ),
        (
            lambda data: dataclasses.replace(data, val_y_clean=(data.val_y_clean + 1) % 4),
            "corrupts labels as declared",
            "the clean validation labels are not the true ones",
        ),
    ],
)
def test_a_broken_split_is_seen(
    monkeypatch: pytest.MonkeyPatch, spoil: Draw, promise: str, message: str
) -> None:
    monkeypatch.setattr(image_problem, "training_data", lambda *args: spoil(training_data(*args)))
    assert re.search(message, broken(tiny())[promise])


class Leaky(ImageClassification):
    def __init__(self, setting: Setting) -> None:
        train = setting.splits["train"]
        images, labels = setting.splits["test"]
        mixed = torch.cat([train[0], images]), torch.cat([train[1], labels])
        setting.splits.__dict__["_reader"] = lambda split: mixed if split == "train" else (images, labels)
        super().__init__(setting)


def test_a_leak_of_the_test_set_is_seen() -> None:
    crosses = broken(tiny(problem=Leaky))
    assert "images of the test set are in training" in crosses["splits without overlap"]
    assert "'test' is read before training ends" in crosses["leaves the test splits alone"]


class SpoilsTheTests(ImageClassification):
    def batches(self, split: str) -> Iterator[Batch]:
        for batch in super().batches(split):
            targets = (batch.targets + 1) % 4 if split == "test" else batch.targets
            yield Batch(inputs=batch.inputs, targets=targets)


def test_label_noise_on_the_test_set_is_seen() -> None:
    crosses = broken(tiny(problem=SpoilsTheTests))
    assert set(crosses) == {"leaves test labels alone"}
    assert "labels of the test set are changed" in crosses["leaves test labels alone"]


class Flat(Classification):
    """A problem of one's own on images: their splits are tuples, which it makes batches of."""

    def model(self) -> nn.Module:
        return net()

    def examples(self, split: str) -> Batch:
        images, labels = self.setting.splits["test" if split == "test" else "train"]
        rows = {"train": slice(16, None), "validation": slice(16), "test": slice(None)}[split]
        return Batch(inputs=images[rows] / 255.0 - 0.5, targets=labels[rows])


def test_an_image_task_may_have_a_problem_of_its_own() -> None:
    checks = {check.promise: check for check in check_task(tiny(problem=Flat, measure_examples=32), None)}
    assert all(check.ok for check in checks.values()), checks
    for promise in {promise.name for promise in IMAGES} - {"finds its data whole"}:
        assert checks[promise].message == "not judged: the problem is the task's own"
