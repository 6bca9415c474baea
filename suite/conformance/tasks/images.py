"""Promises of an `ImageTask` about images, labels and splits, on images that carry their position."""

from __future__ import annotations

import dataclasses
import math

import torch

from suite.conformance.check import Broken
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.standin import positions, stand_in
from suite.data.batches import Augmentation
from suite.data.dataset import Dataset
from suite.data.splits import NOISE_KINDS, TrainingData
from suite.errors import unknown
from suite.problem import Problem, Setting, Splits
from suite.problems.image_problem import ImageClassification
from suite.problems.image_task import ImageTask

FIRST = 16
"""Images on which the first loss is taken."""

LOSS_MARGIN = 0.5
"""The loss at the start may be off ln(n_classes), that of a blind guess, by this part of it."""

RATE_SIGMAS = 4.0
"""Standard deviations that a label-noise rate may be off: 1 in 16,000 for a right one, and it is fixed."""

_OWN = "not judged: the problem is the task's own"


def declared(task: ImageTask) -> None:
    """Raise where data sets, augmentation or label noise do not fit."""
    if len({(data.n_classes, data.shape) for data in task.data}) != 1:
        raise Broken("the data sets of one task differ in n_classes or shape: only their files may")
    for data in task.data:
        if len(data.mean) != data.shape[0] or len(data.std) != data.shape[0]:
            raise Broken(f"mean and std of {data.name} need one value for each of its channels")
    Augmentation.parse(task.augment)
    if task.label_noise_kind not in NOISE_KINDS:
        raise unknown("label noise kind", task.label_noise_kind, NOISE_KINDS)


def check_arrays(task: ImageTask, problem: Problem) -> None:
    """Raise `Broken` unless images and labels of the genuine data are what the data set declares."""
    declared = task.training_examples(problem.setting.data.name)
    if declared is not None and declared != problem.n_train:
        raise Broken(
            f"{problem.n_train} training images on {problem.setting.data.name}, declared are {declared}: "
            "correct n_train of the data set"
        )
    if problem.n_train < task.measure_examples and declared is None:
        raise Broken(
            f"measure_examples is {task.measure_examples}, but there are {problem.n_train} training images: "
            "lower it"
        )
    if not isinstance(problem, ImageClassification):
        return
    dataset = _dataset(problem)
    data = problem.data
    labels = torch.cat([data.y, data.val_y, data.val_y_clean])
    if labels.min() < 0 or labels.max() >= dataset.n_classes:
        raise Broken(f"labels of {dataset.name} lie outside [0, {dataset.n_classes})")


def first_loss(case: TaskCase) -> str:
    """The loss before training is about that of a blind guess."""
    problem = case.problem()
    if not isinstance(problem, ImageClassification):
        return _OWN
    model, batch = case.model(problem).train(), problem.batch(0)[:FIRST]
    with torch.no_grad():
        loss = float(problem.loss(problem.forward(model, batch), batch))
    n = case.judged.data[0].n_classes  # type: ignore[attr-defined]
    blind = math.log(n)
    if not abs(loss - blind) <= LOSS_MARGIN * blind:
        raise Broken(
            f"the loss before training is {loss:.3f}, that of a blind guess is ln({n}) = {blind:.3f}: "
            "weights or inputs of the wrong size?"
        )
    return f"loss {loss:.3f}, ln({n}) = {blind:.3f}"


def split(case: TaskCase) -> str:
    """Training and validation share no image, take none of the test set, and have the declared sizes."""
    marked = _marked(case)
    if marked is None:
        return _OWN
    task, data = _images(case), marked[1]
    places = [positions(images) for images in (data.x, data.val_x)]
    if bool((torch.cat(places) < 0).any()):
        raise Broken("images of the test set are in training or validation: draw from the training set")
    train, val = (place.tolist() for place in places)
    shared = set(train) & set(val)
    if shared:
        raise Broken(f"{len(shared)} examples are both in training and validation: draw without overlap")
    if len(set(train)) != len(train) or len(set(val)) != len(val):
        raise Broken("an example appears twice in training or in validation: draw without replacement")
    if len(val) != task.n_validation:
        raise Broken(f"{len(val)} validation examples, declared are {task.n_validation}")
    if task.n_drawn and len(train) + len(val) != task.n_drawn:
        raise Broken(f"{len(train) + len(val)} examples are drawn, n_drawn declares {task.n_drawn}")
    again = _marked(case)
    if again is None or again[1].split_checksum != data.split_checksum:
        raise Broken("two draws of the split differ: it must come from the task's own stream")
    return f"{len(val)} validation examples, none of them trained on"


def test_labels(case: TaskCase) -> str:
    """Label noise touches no label of the test set."""
    marked = _marked(case)
    if marked is None:
        return _OWN
    problem, _ = marked
    truth = _dataset(problem).source.load(None).test_y
    found = torch.cat([batch.targets for batch in problem.batches("test")])
    if not torch.equal(found.cpu(), truth):
        raise Broken("the labels of the test set are changed: label noise never touches them")
    return "no test label is changed"


def label_noise(case: TaskCase) -> str:
    """As many training and validation labels are wrong as the task says, and the clean ones are kept."""
    marked = _marked(case)
    if marked is None:
        return _OWN
    task, (problem, data) = _images(case), marked
    c, share = _dataset(problem).n_classes, task.label_noise
    expected = share * (1 - 1 / c) if task.label_noise_kind == "uniform" else share
    rates = []
    for part, images, labels in (("training", data.x, data.y), ("validation", data.val_x, data.val_y)):
        wrong = labels != positions(images) % c
        n, rate = len(wrong), float(wrong.float().mean())
        slack = RATE_SIGMAS * math.sqrt(expected * (1 - expected) / n) + 0.5 / n if share else 0.0
        if abs(rate - expected) > slack:
            raise Broken(
                f"{rate:.3f} of the {part} labels are wrong, label_noise={share:g} "
                f"({task.label_noise_kind}) declares {expected:.3f}"
            )
        rates.append(f"{rate:.3f} of {part} labels")
    if not torch.equal(data.val_y_clean, positions(data.val_x) % c):
        raise Broken("the clean validation labels are not the true ones")
    return f"wrong: {' and '.join(rates)}" if share else "no label is wrong, none is declared to be"


def _images(case: TaskCase) -> ImageTask:
    assert isinstance(case.task, ImageTask)
    return case.task


def _marked(case: TaskCase) -> tuple[ImageClassification, TrainingData] | None:
    """Make the problem on marked images; None where the task has a problem of its own."""
    task = _images(case)
    n = 2 * task.n_drawn if task.n_drawn else 4 * task.n_validation
    dataset = stand_in(task.data[0], n + 20 * task.data[0].n_classes, marked=True)
    task = dataclasses.replace(task, data=(dataset,))
    problem = task.problem(Setting(task, dataset, Splits(dataset)))
    return (problem, problem.data) if isinstance(problem, ImageClassification) else None


def _dataset(problem: ImageClassification) -> Dataset:
    data = problem.setting.data
    assert isinstance(data, Dataset)
    return data
