"""The promises of a task entry, at its defaults or with some parameters overridden."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from suite.conformance.check import Broken, Check, Promise, judge_all, name_and_text
from suite.conformance.standin import positions, stand_in
from suite.conformance.trial import difference
from suite.context import LOSSES
from suite.data.batches import TrainingBatches
from suite.data.choose import choose_dataset
from suite.data.dataset import Dataset
from suite.data.splits import TrainingData, test_data, training_data
from suite.errors import unknown
from suite.record import curve_measures
from suite.registry import Found
from suite.seeds import Streams
from suite.space import Value
from suite.spec import TIERS, Task, TaskSpec, resolve_params

MODEL_BATCH = 16
"""Images on which the model is tried; enough for BatchNorm, few enough for a second on a CPU."""

LOSS_MARGIN = 0.5
"""The loss at the start may be off ln(n_classes), that of a blind guess, by this part of it."""

RATE_SIGMAS = 4.0
"""Standard deviations that a label-noise rate may be off: 1 in 16,000 for a right one, and it is fixed."""


def check_task(
    found: Found,
    data_root: Path | None,
    overrides: Mapping[str, Value | str] | None = None,
    cache: Path | None = None,
    data_name: str = "",
) -> list[Check]:
    """Put a task entry through the battery.

    The data (the set named, or the first available) are read to see that they are whole; `cache`, a folder,
    keeps them decoded. Splits, label noise and batches are judged on a stand-in whose images carry their
    position.
    """
    assert isinstance(found.entry, TaskSpec)
    case = _Case(found.entry, dict(overrides or {}), data_root, cache, data_name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return judge_all(case.promises(), needed=2)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Case:
    entry: TaskSpec
    overrides: dict[str, Value | str]
    data_root: Path | None
    cache: Path | None
    data_name: str

    def promises(self) -> list[Promise]:
        return [
            ("is well formed", self.well_formed),
            ("initialises from the init stream only", self.init),
            ("gives logits of the right shape", self.logits),
            ("starts at the loss of a blind guess", self.first_loss),
            ("splits without overlap", self.split),
            ("leaves the test set alone", self.test_untouched),
            ("spoils labels as declared", self.label_noise),
            ("gives deterministic batches", self.batches),
            ("finds its data whole", self.data),
        ]

    @cached_property
    def task(self) -> Task:
        params = resolve_params(self.entry.params, self.overrides, f"task {self.entry.name}")
        task = self.entry.make(**params)
        if not isinstance(task, Task):
            raise Broken(f"make returns a {type(task).__name__}, not a Task")
        return task

    @cached_property
    def dataset(self) -> Dataset:
        return self.task.data[0]

    # -- form --------------------------------------------------------------------------------------

    def well_formed(self) -> str:
        entry, task = self.entry, self.task
        name_and_text(entry.name, entry.version, {"summary": entry.summary})
        if entry.tier not in TIERS:
            raise unknown("tier", entry.tier, TIERS)
        if task.loss not in LOSSES:
            raise unknown("loss", task.loss, LOSSES)
        if not task.data:
            raise Broken("data is empty: list at least one Dataset")
        if len({(d.n_classes, d.shape) for d in task.data}) != 1:
            raise Broken("the data sets of one task differ in n_classes or shape: only their files may")
        for what, value in (("batch_size", task.batch_size), ("epochs", task.epochs),
                            ("n_validation", task.n_validation)):  # fmt: skip
            if value < 1:
                raise Broken(f"{what} is {value}: it must be at least 1")
        curve_measures(task)
        if len(self.dataset.mean) != self.dataset.shape[0] or len(self.dataset.std) != self.dataset.shape[0]:
            raise Broken(f"mean and std of {self.dataset.name} need one value for each of its channels")
        return f"{task.epochs} epochs of batches of {task.batch_size}, {self.dataset.n_classes} classes"

    # -- model -------------------------------------------------------------------------------------

    def _model(self, seed: int) -> nn.Module:
        Streams(seed).seed_global("init")
        return self.task.model()

    def init(self) -> str:
        states = []
        for seed, other in ((0, 1), (0, 2), (1, 1)):
            kept = random.getstate(), np.random.get_state()
            random.seed(other)
            np.random.seed(other)
            try:
                states.append(self._model(seed).state_dict())
            finally:
                random.setstate(kept[0])
                np.random.set_state(kept[1])
        gap = difference(states[0], states[1])
        if gap:
            raise Broken(f"two models of one seed differ: {gap}; a draw from another generator than torch's")
        if not difference(states[0], states[2]):
            raise Broken("models of two seeds are equal: the model seeds its own initialisation")
        n = sum(p.numel() for p in self._model(0).parameters())
        return f"{n:,} parameters, fixed by the seed"

    def _data_and_batches(self, seed: int) -> TrainingBatches:
        n = self.task.batch_size * 2 + self.task.batch_size // 2 + self.dataset.n_classes
        task = dataclasses.replace(self.task, n_train=None, n_validation=self.dataset.n_classes)
        dataset = stand_in(self.dataset, n, marked=False)
        data = training_data(task, dataset, None, None)
        return TrainingBatches(data, task, dataset, seed, torch.device("cpu"))

    def _outputs(self) -> tuple[Tensor, Tensor]:
        inputs, targets = self._data_and_batches(0).batch(0)
        inputs, targets = inputs[:MODEL_BATCH], targets[:MODEL_BATCH]
        model = self._model(0).to(memory_format=torch.channels_last)
        with torch.no_grad():
            return model.train()(inputs), targets

    def logits(self) -> str:
        outputs, targets = self._outputs()
        wanted = (len(targets), self.dataset.n_classes)
        if tuple(outputs.shape) != wanted:
            raise Broken(f"the model returns shape {tuple(outputs.shape)}, not (n, classes) = {wanted}")
        return f"logits (n, {wanted[1]}) for images {self.dataset.shape}"

    def first_loss(self) -> str:
        outputs, targets = self._outputs()
        loss, blind = float(LOSSES[self.task.loss](outputs, targets)), math.log(self.dataset.n_classes)
        if not abs(loss - blind) <= LOSS_MARGIN * blind:
            raise Broken(
                f"the loss before training is {loss:.3f}, that of a blind guess is "
                f"ln({self.dataset.n_classes}) = {blind:.3f}: weights or inputs of the wrong size?"
            )
        return f"loss {loss:.3f}, ln({self.dataset.n_classes}) = {blind:.3f}"

    # -- data --------------------------------------------------------------------------------------

    def _marked(self, seed: int = 0) -> tuple[Dataset, TrainingData]:
        n = 2 * self.task.n_train if self.task.n_train else 4 * self.task.n_validation
        dataset = stand_in(self.dataset, n + 20 * self.dataset.n_classes, marked=True, seed=seed)
        return dataset, training_data(self.task, dataset, None, None)

    def split(self) -> str:
        _, data = self._marked()
        train, val = positions(data.x).tolist(), positions(data.val_x).tolist()
        shared = set(train) & set(val)
        if shared:
            raise Broken(f"{len(shared)} examples are both in training and validation: draw without overlap")
        if len(set(train)) != len(train) or len(set(val)) != len(val):
            raise Broken("an example appears twice in training or in validation: draw without replacement")
        if len(val) != self.task.n_validation:
            raise Broken(f"{len(val)} validation examples, declared are {self.task.n_validation}")
        if self.task.n_train and len(train) + len(val) != self.task.n_train:
            raise Broken(f"{len(train) + len(val)} examples are drawn, n_train declares {self.task.n_train}")
        again = self._marked()[1]
        if again.split_checksum != data.split_checksum:
            raise Broken("two draws of the split differ: it must come from the task's own stream")
        return f"{len(val)} validation examples, none of them trained on"

    def test_untouched(self) -> str:
        (dataset, data), (_, other) = self._marked(seed=0), self._marked(seed=1)
        if bool((torch.cat([positions(data.x), positions(data.val_x)]) < 0).any()):
            raise Broken("images of the test set are in training or validation: draw from the training set")
        same = all(
            torch.equal(getattr(data, name), getattr(other, name)) for name in ("x", "y", "val_x", "val_y")
        )
        if not same:
            raise Broken("another test set changes the training data: it must not be read before the end")
        _, labels = test_data(self.task, dataset, None, None)
        if not torch.equal(labels, dataset.source.load(None).test_y):
            raise Broken("the labels of the test set are changed: label noise never touches them")
        return "no test image is trained or selected on, and no test label is changed"

    def label_noise(self) -> str:
        dataset, data = self._marked()
        c, declared = dataset.n_classes, self.task.label_noise
        expected = declared * (1 - 1 / c) if self.task.label_noise_kind == "uniform" else declared
        rates = []
        for part, images, labels in (("training", data.x, data.y), ("validation", data.val_x, data.val_y)):
            wrong = labels != positions(images) % c
            n, rate = len(wrong), float(wrong.float().mean())
            slack = RATE_SIGMAS * math.sqrt(expected * (1 - expected) / n) + 0.5 / n if declared else 0.0
            if abs(rate - expected) > slack:
                raise Broken(
                    f"{rate:.3f} of the {part} labels are wrong, label_noise={declared:g} "
                    f"({self.task.label_noise_kind}) declares {expected:.3f}"
                )
            rates.append(f"{rate:.3f} of {part} labels")
        if not torch.equal(data.val_y_clean, positions(data.val_x) % c):
            raise Broken("the clean validation labels are not the true ones")
        return f"wrong: {' and '.join(rates)}" if declared else "no label is wrong, none is declared to be"

    def batches(self) -> str:
        one, same, other = (self._data_and_batches(seed) for seed in (0, 0, 1))
        last = one.steps_per_epoch - 1
        for step in (
            0,
            last,
            one.steps_per_epoch,
        ):  # asked in another order than below
            one.batch(step)
        for step in (one.steps_per_epoch, last, 0):
            for what, a, b in zip(("images", "labels"), one.batch(step), same.batch(step), strict=True):
                if not torch.equal(a, b):
                    raise Broken(f"two batches of one seed and step differ in {what}: a draw from no stream")
        if torch.equal(one.batch(0)[0], other.batch(0)[0]):
            raise Broken("two seeds give the same first batch: order and augmentation must follow the seed")
        inputs = one.batch(0)[0]
        if inputs.dtype != torch.float32 or tuple(inputs.shape[1:]) != self.dataset.shape:
            raise Broken(f"a batch is {inputs.dtype} {tuple(inputs.shape)}, not float32 (n, C, H, W)")
        return f"batches {tuple(inputs.shape)}, the last of an epoch {len(one.batch(last)[1])} images"

    def data(self) -> str:
        dataset = choose_dataset(self.task, self.data_root, self.data_name)
        data = training_data(self.task, dataset, self.data_root, self.cache)
        labels = torch.cat([data.y, data.val_y, data.val_y_clean])
        if labels.min() < 0 or labels.max() >= dataset.n_classes:
            raise Broken(f"labels of {dataset.name} lie outside [0, {dataset.n_classes})")
        if data.x.dtype != torch.uint8 or tuple(data.x.shape[1:]) != dataset.shape:
            raise Broken(f"images of {dataset.name} are {data.x.dtype} {tuple(data.x.shape[1:])}")
        return f"{dataset.name}: {len(data.y)} training and {len(data.val_y)} validation images"
