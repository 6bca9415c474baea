"""Every built-in task, and the members of families, through the battery; and what breaks each promise."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from suite.conformance import check_task, tasks
from suite.conformance.check import Check
from suite.data.batches import TrainingBatches
from suite.data.dataset import Dataset
from suite.data.splits import TrainingData, training_data
from suite.errors import SteppeError
from suite.registry import Found, Registry
from suite.select import parse_selector
from suite.spec import Task, TaskSpec
from tests.conformance.plugins import write

TINY = Path(__file__).parents[1] / "plugins" / "tiny.py"
DATA = os.environ.get("STEPPE_DATA")
REGISTRY = Registry([TINY])

OFFLINE = ["tiny", "digits-cnn"]
CIFAR10 = [
    "cifar10-resnet8-5k",
    "cifar10-resnet8-5k-label-noise",
    "cifar10-resnet8-5k-label-noise[kind=uniform,noise=0.2]",
    "cifar10-resnet8-5k-width[width=4]",
    "cifar10-resnet20",
    "cifar10-resnet20[augment=false]",
    "cifar10-resnet18",
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def checks_of(text: str, root: Path | None, cache: Path | None = None) -> list[Check]:
    selector = parse_selector(text)
    (overrides,) = selector.grid()
    return check_task(REGISTRY.task(selector.pattern), root, overrides, cache)


def broken_in(checks: list[Check]) -> str:
    return "\n".join(f"{check.promise}: {check.message}" for check in checks if not check.ok)


@pytest.mark.parametrize("text", OFFLINE)
def test_offline_tasks_keep_their_promises(text: str) -> None:
    assert not broken_in(checks_of(text, None))


@pytest.mark.skipif(DATA is None, reason="STEPPE_DATA names no folder of data sets")
@pytest.mark.parametrize("text", CIFAR10)
def test_tasks_with_data_keep_their_promises(text: str, cache: Path) -> None:
    assert DATA is not None
    assert not broken_in(checks_of(text, Path(DATA), cache))


@pytest.mark.parametrize("text", CIFAR10)
def test_without_data_all_else_is_judged(text: str) -> None:
    broken = [check for check in checks_of(text, None) if not check.ok]
    assert [check.promise for check in broken] == ["finds its data whole"]
    name = parse_selector(text).pattern
    assert f"run `steppe prepare {name}`" in broken[0].message


def test_every_entry_is_covered() -> None:
    assert {parse_selector(text).pattern for text in OFFLINE + CIFAR10} == set(REGISTRY.tasks)


def tiny(**changes: Any) -> Found:
    """The tiny plugin task with fields of its `Task` changed."""
    entry = REGISTRY.task("tiny").entry
    assert isinstance(entry, TaskSpec)

    def make(**params: Any) -> Task:
        return dataclasses.replace(entry.make(**params), **changes)

    return Found(dataclasses.replace(entry, make=make), TINY, plugin=True)


def dataset(**changes: Any) -> Dataset:
    entry = REGISTRY.task("tiny").entry
    assert isinstance(entry, TaskSpec)
    return dataclasses.replace(entry.make(epochs=1, measure_every=0).data[0], **changes)


def net(classes: int = 4, scale: float = 1.0) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, classes))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(scale)
    return model


def seeded_net() -> nn.Module:
    torch.manual_seed(1)
    return net()


def numpy_net() -> nn.Module:
    import numpy as np

    model = net()
    with torch.no_grad():
        model[1].bias.copy_(torch.from_numpy(np.random.randn(32)))
    return model


BROKEN: list[tuple[Mapping[str, Any], str, str]] = [
    (
        {"model": seeded_net},
        "initialises from the init stream only",
        "the model seeds its own initialisation",
    ),
    (
        {"model": numpy_net},
        "initialises from the init stream only",
        "two models of one seed differ: .*1.bias",
    ),
    ({"model": lambda: net(5)}, "gives logits of the right shape", r"shape \(16, 5\), not .* = \(16, 4\)"),
    (
        {"model": lambda: net(scale=9.0)},
        "starts at the loss of a blind guess",
        r"ln\(4\) = 1.386: weights or",
    ),
    (
        {"label_noise": 0.2, "label_noise_kind": "odd"},
        "spoils labels as declared",
        "unknown label noise kind 'odd'",
    ),
    ({"augment": ("mirror",)}, "gives deterministic batches", "unknown augmentation 'mirror'"),
]


@pytest.mark.parametrize(
    ("changes", "promise", "message"), BROKEN, ids=[row[1] + str(i) for i, row in enumerate(BROKEN)]
)
def test_a_mistake_in_a_task_breaks_its_promise(
    changes: Mapping[str, Any], promise: str, message: str
) -> None:
    broken = {check.promise: check.message for check in check_task(tiny(**changes), None) if not check.ok}
    assert re.search(message, broken[promise]), broken


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "cross_entrpy"}, "unknown loss 'cross_entrpy'; did you mean 'cross_entropy'"),
        ({"data": ()}, "data is empty"),
        ({"data": (dataset(), dataset(n_classes=5))}, "differ in n_classes or shape"),
        ({"data": (dataset(mean=(0.5,)),)}, "one value for each of its channels"),
        ({"n_validation": 0}, "n_validation is 0: it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"measure_every": -2}, "measure_every is -2; valid: a period in epochs"),
        ({"curve_measures": ("lamda_max",)}, "unknown measure 'lamda_max'; did you mean 'lambda_max'"),
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
            lambda data: dataclasses.replace(data, y=(data.y + 1) % 4),
            "spoils labels as declared",
            "1.000 of the training labels are wrong, label_noise=0",
        ),
    ],
)
def test_a_broken_split_is_seen(
    monkeypatch: pytest.MonkeyPatch, spoil: Draw, promise: str, message: str
) -> None:
    monkeypatch.setattr(tasks, "training_data", lambda *args: spoil(training_data(*args)))
    broken = {check.promise: check.message for check in check_task(tiny(), None) if not check.ok}
    assert re.search(message, broken[promise]), broken


def test_a_leak_of_the_test_set_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(task: Task, data: Dataset, root: Path | None, cache: Path | None) -> TrainingData:
        drawn = training_data(task, data, root, cache)
        arrays = data.source.load(root)
        return dataclasses.replace(
            drawn, x=torch.cat([drawn.x, arrays.test_x]), y=torch.cat([drawn.y, arrays.test_y])
        )

    monkeypatch.setattr(tasks, "training_data", leaky)
    broken = {check.promise: check.message for check in check_task(tiny(), None) if not check.ok}
    assert "images of the test set are in training" in broken["leaves the test set alone"]


def test_label_noise_on_the_test_set_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(task: Task, data: Dataset, root: Path | None, cache: Path | None) -> tuple[Any, Any]:
        arrays = data.source.load(root)
        return arrays.test_x, (arrays.test_y + 1) % data.n_classes

    monkeypatch.setattr(tasks, "test_data", noisy)
    broken = {check.promise: check.message for check in check_task(tiny(), None) if not check.ok}
    assert "labels of the test set are changed" in broken["leaves the test set alone"]


def test_batches_of_no_stream_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loose(TrainingBatches):
        def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            inputs, targets = super().batch(step)
            return inputs + torch.rand(()), targets

    monkeypatch.setattr(tasks, "TrainingBatches", Loose)
    broken = {check.promise: check.message for check in check_task(tiny(), None) if not check.ok}
    assert "two batches of one seed and step differ in images" in broken["gives deterministic batches"]


def test_the_scaffold_of_a_task_fails_until_its_model_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, "task", "my-images")
    before = check_task(Registry([path]).task("my-images"), None)
    assert [check.ok for check in before] == [True, False]
    assert "the model is still to be written: fill in `model`" in before[-1].message
    text = path.read_text()
    start = text.index("    raise SteppeError(")
    end = text.index("\n", start)
    model = "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))"
    path.write_text(text[:start] + model + text[end:])
    assert not broken_in(check_task(Registry([path]).task("my-images"), None))


def test_unknown_parameters_are_the_users_mistake() -> None:
    (check,) = checks_of("tiny[epochs=0]", None)
    assert "epochs=0 is out of range" in check.message
    with pytest.raises(SteppeError, match="unknown task"):
        checks_of("tinny", None)
