from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from suite.data.batches import Augmentation
from suite.data.choose import choose_data
from suite.engine.evaluate import evaluate
from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.problem import Setting, Splits
from suite.problems.image_task import ImageTask
from suite.schedule import lr_factor
from suite.seeds import Streams
from suite.spec import TIERS
from suite.task import Task

REGISTRY = Registry()


def any_task(name: str, **overrides: str) -> Task:
    return REGISTRY.resolve_task(REGISTRY.reference("task", name, overrides))


def resolve(name: str, **overrides: str) -> ImageTask:
    task = any_task(name, **overrides)
    assert isinstance(task, ImageTask)
    return task


def test_the_tasks_are_those_promised() -> None:
    small = "cifar10-resnet8-5k"
    expected = {
        "digits-cnn",
        small,
        f"{small}-label-noise",
        f"{small}-width",
        "cifar10-resnet20",
        "cifar10-resnet18",
    }
    assert expected <= set(REGISTRY.tasks)


@pytest.mark.parametrize("name", sorted(REGISTRY.tasks))
def test_every_task_is_consistent(name: str) -> None:
    task, entry = any_task(name), REGISTRY.task(name).entry
    assert (task.name, task.version, task.tier, task.summary) == (
        entry.name,
        entry.version,
        entry.tier,
        entry.summary,
    )
    assert task.tier in TIERS
    if isinstance(task, ImageTask):
        Augmentation.parse(task.augment)  # raises SteppeError where there is no such augmentation
    assert task.expected, "say what it reaches and costs, and on which machine"
    assert "\n" not in task.summary


def test_small_task_is_as_the_papers_of_the_suite_say() -> None:
    task = resolve("cifar10-resnet8-5k")
    assert (task.n_drawn, task.n_validation, task.epochs, task.batch_size) == (5000, 500, 40, 128)
    assert task.augment == ("crop:4", "flip")
    assert [dataset.name for dataset in task.data] == ["cifar10", "cifar10-jpeg"]


def test_label_noise_family() -> None:
    task = resolve("cifar10-resnet8-5k-label-noise")
    assert (task.label_noise, task.label_noise_kind) == (0.4, "incorrect")
    task = resolve("cifar10-resnet8-5k-label-noise", noise="0.2", kind="uniform")
    assert (task.label_noise, task.label_noise_kind) == (0.2, "uniform")
    with pytest.raises(SteppeError, match=r"noise=1.5 is out of range; valid: \[0, 1\]"):
        resolve("cifar10-resnet8-5k-label-noise", noise="1.5")
    with pytest.raises(SteppeError, match="incorrect, uniform"):
        resolve("cifar10-resnet8-5k-label-noise", kind="wrong")


def test_width_family_at_16_is_the_small_task() -> None:
    def weights(task: ImageTask) -> list[torch.Tensor]:
        Streams(0).seed_global("init")
        return list(task.model().parameters())

    base, same = weights(resolve("cifar10-resnet8-5k")), weights(resolve("cifar10-resnet8-5k-width"))
    assert all(torch.equal(a, b) for a, b in zip(base, same, strict=True))
    assert weights(resolve("cifar10-resnet8-5k-width", width="4"))[0].shape[0] == 4
    with pytest.raises(SteppeError, match=r"valid: \[4, 64\]"):
        resolve("cifar10-resnet8-5k-width", width="128")


@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-resnet18"])
def test_full_tier_with_and_without_augmentation(name: str) -> None:
    assert resolve(name).augment == ("crop:4", "flip")
    assert resolve(name, augment="false").augment == ()
    assert resolve(name).n_drawn is None
    assert resolve(name, epochs="15").epochs == 15


def test_examples_of_an_epoch_are_what_is_drawn_less_validation() -> None:
    assert resolve("cifar10-resnet8-5k").training_examples("cifar10") == 4500
    assert resolve("cifar10-resnet20").training_examples("cifar10-jpeg") == 45_000
    assert resolve("digits-cnn").training_examples("digits") == 1000


def test_digits_reach_95_percent_in_seconds() -> None:
    """Plain SGD of torch on the suite's batches; five seeds reached 97.2 to 98.0 % on the 500 test images."""
    task = resolve("digits-cnn")
    data = choose_data(task, None)
    splits = Splits(data, sealed=task.tests)
    problem = task.problem(Setting(task, data, splits))
    assert problem.n_train == 1000
    assert sum(len(batch) for batch in problem.batches("validation")) == 297
    Streams(0).seed_global("init")
    model = problem.model().to(memory_format=problem.memory_format)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    total = int(task.epochs) * problem.steps_per_epoch
    for step in range(total):
        batch = problem.batch(step)
        sgd.param_groups[0]["lr"] = 0.1 * lr_factor({"schedule": "cosine", "warmup": 0.05}, step, total)
        sgd.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        sgd.step()
    splits.unseal()
    found = evaluate(problem, model, "test")
    assert found.n == 500
    assert found.metrics["accuracy"] >= 0.95
