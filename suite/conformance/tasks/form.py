"""Promises of a task about its declaration and its data, and of an `ImageTask` about images and labels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from suite import sharpness
from suite.conformance.promise import Faults, faults_in_help, faults_in_texts
from suite.conformance.tasks.case import TaskCase
from suite.conformance.tasks.fake_data import positions, with_fake_images
from suite.data.batches import Augmentation
from suite.data.choose import choose_data
from suite.data.splits import NOISE_KINDS
from suite.errors import unknown
from suite.metric import Metric
from suite.problem import Setting, Splits
from suite.problems.image_problem import ImageClassification
from suite.problems.image_task import ImageTask
from suite.spec import TIERS

FIRST = 16
"""Images in the mini-batch of the initial loss."""

LOSS_MARGIN = 0.5
"""Relative tolerance of the initial loss around ln(n_classes), the loss of a uniform guess."""

RATE_SIGMAS = 4.0
"""Tolerance of a label-noise rate in standard deviations: a correct task fails with probability 1 in 16,000,
and since the noise is fixed, it fails always or never."""

_OWN = "not judged: the problem is the task's own"


def well_formed(case: TaskCase) -> Faults:
    """Name, descriptions, metrics and measures are valid, and entry and task agree."""
    entry = case.entry
    yield from faults_in_texts(entry, summary=entry.summary)
    if entry.tier not in TIERS:
        raise unknown("tier", entry.tier, TIERS)
    yield from faults_in_help(entry)
    task = case.task
    for what in ("name", "version", "tier"):
        yield getattr(entry, what) != getattr(task, what) and (
            f"the entry has the {what} {getattr(entry, what)!r}, the task that it makes "
            f"{getattr(task, what)!r}: give both the same"
        )
    metrics: tuple[object, ...] = (*task.metrics, *task.facts, *task.columns)
    for metric in metrics:  # a plugin's file is not type-checked
        yield not isinstance(metric, Metric) and f"{metric!r} is not a Metric: suite.metric has its fields"
    sharpness.check_names((*task.measures, *task.curve_measures))
    if isinstance(task, ImageTask):
        if len({(data.n_classes, data.shape) for data in task.data}) != 1:
            yield "the data sets of one task differ in n_classes or shape: only their files may"
        for data in task.data:
            if len(data.mean) != data.shape[0] or len(data.std) != data.shape[0]:
                yield f"mean and std of {data.name} need one value for each of its channels"
        Augmentation.parse(task.augment)
        if task.label_noise_kind not in NOISE_KINDS:
            raise unknown("label noise kind", task.label_noise_kind, NOISE_KINDS)
    size = f"batches of {task.batch_size}" if task.batch_size else "all examples in every step"
    primary = task.metrics[0]
    return f"{task.epochs:g} epochs, {size}; compared by {primary.name}, {primary.better} is better"


def finds_data(case: TaskCase) -> Faults:
    """The data set is present, has its checksum and yields the task's problem; images are as declared."""
    task = case.task
    data = choose_data(task, case.data_root, case.data_name)
    data.source.verify(case.data_root)
    problem = task.problem(Setting(task, data, Splits(data, case.data_root, case.cache)))
    n = problem.n_train
    if isinstance(task, ImageTask):
        declared = task.training_examples(data.name)
        yield declared not in (None, n) and (
            f"{n} training images on {data.name}, declared are {declared}: correct n_train of the data set"
        )
        if declared is None and n < task.measure_examples:
            yield f"measure_examples is {task.measure_examples}, but there are {n} training images: lower it"
    if isinstance(problem, ImageClassification):
        labels = torch.cat([problem.data.y, problem.data.val_y, problem.data.val_y_clean])
        n_classes = data.n_classes  # type: ignore[attr-defined]
        if labels.min() < 0 or labels.max() >= n_classes:
            yield f"labels of {data.name} lie outside [0, {n_classes})"
    return f"{data.name}: {n} training examples"


def first_loss(case: TaskCase) -> Faults:
    """The initial loss is about that of a uniform guess."""
    problem = case.problem()
    if not isinstance(problem, ImageClassification):
        return _OWN
    model, batch = case.model(problem).train(), problem.batch(0)[:FIRST]
    with torch.no_grad():
        loss = float(problem.loss(problem.forward(model, batch), batch))
    n = case.judged.data[0].n_classes  # type: ignore[attr-defined]
    blind = math.log(n)
    yield not abs(loss - blind) <= LOSS_MARGIN * blind and (
        f"the loss before training is {loss:.3f}, that of a blind guess is ln({n}) = {blind:.3f}: "
        "weights or inputs of the wrong size?"
    )
    return f"loss {loss:.3f}, ln({n}) = {blind:.3f}"


def split(case: TaskCase) -> Faults:
    """Training and validation are disjoint, contain no test image and have the declared sizes."""
    task, problem = _marked(case)
    if not isinstance(problem, ImageClassification):
        return _OWN
    places = [positions(images) for images in (problem.data.x, problem.data.val_x)]
    if bool((torch.cat(places) < 0).any()):
        yield "images of the test set are in training or validation: draw from the training set"
    train, val = (place.tolist() for place in places)
    shared = set(train) & set(val)
    yield shared and f"{len(shared)} examples are both in training and validation: draw without overlap"
    if len(set(train)) != len(train) or len(set(val)) != len(val):
        yield "an example appears twice in training or in validation: draw without replacement"
    if len(val) != task.n_validation:
        yield f"{len(val)} validation examples, declared are {task.n_validation}"
    if task.n_drawn and len(train) + len(val) != task.n_drawn:
        yield f"{len(train) + len(val)} examples are drawn, n_drawn declares {task.n_drawn}"
    if _marked(case)[1].data.split_checksum != problem.data.split_checksum:
        yield "two draws of the split differ: it must come from the task's own stream"
    return f"{len(val)} validation examples, none of them trained on"


def test_labels(case: TaskCase) -> Faults:
    """Label noise changes no test label."""
    task, problem = _marked(case)
    if not isinstance(problem, ImageClassification):
        return _OWN
    found = torch.cat([batch.targets for batch in problem.batches("test")])
    if not torch.equal(found.cpu(), task.data[0].source.load(None).test_y):
        yield "the labels of the test set are changed: label noise never touches them"
    return "no test label is changed"


def label_noise(case: TaskCase) -> Faults:
    """The rates of wrong training and validation labels are as declared, and clean labels are kept."""
    task, problem = _marked(case)
    if not isinstance(problem, ImageClassification):
        return _OWN
    data, c, share = problem.data, task.data[0].n_classes, task.label_noise
    expected = share * (1 - 1 / c) if task.label_noise_kind == "uniform" else share
    rates = []
    for part, images, labels in (("training", data.x, data.y), ("validation", data.val_x, data.val_y)):
        wrong = labels != positions(images) % c
        n, rate = len(wrong), float(wrong.float().mean())
        slack = RATE_SIGMAS * math.sqrt(expected * (1 - expected) / n) + 0.5 / n if share else 0.0
        yield abs(rate - expected) > slack and (
            f"{rate:.3f} of the {part} labels are wrong, label_noise={share:g} "
            f"({task.label_noise_kind}) declares {expected:.3f}"
        )
        rates.append(f"{rate:.3f} of {part} labels")
    if not torch.equal(data.val_y_clean, positions(data.val_x) % c):
        yield "the clean validation labels are not the true ones"
    return f"wrong: {' and '.join(rates)}" if share else "no label is wrong, none is declared to be"


def _marked(case: TaskCase) -> tuple[ImageTask, Any]:
    """Return the task on marked images, and its problem."""
    task = case.task
    assert isinstance(task, ImageTask)
    n = 2 * task.n_drawn if task.n_drawn else 4 * task.n_validation
    dataset = with_fake_images(task.data[0], n + 20 * task.data[0].n_classes, marked=True)
    task = dataclasses.replace(task, data=(dataset,))
    return task, task.problem(Setting(task, dataset, Splits(dataset)))
