"""The fixed split and the label noise of a task: the same for every run and seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from suite.errors import SteppeError, unknown
from suite.seeds import TASK_SEED, Streams

if TYPE_CHECKING:
    from suite.data.dataset import Draw

NOISE_KINDS = ("incorrect", "uniform")


@dataclass(frozen=True)
class TrainingData:
    """Data available to training and selection; images uint8 (n, C, H, W), labels int64 (n,), on the CPU.

    Under label noise `y` and `val_y` are noisy and `val_y_clean` is true; without noise the last two agree.
    """

    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor
    val_y_clean: Tensor
    split_checksum: str
    """SHA-256 over the source positions of the training and the validation examples."""
    noise_checksum: str
    """SHA-256 over the source positions and new labels of corrupted examples; "" without noise."""


def training_data(task: Draw, n_classes: int, images: Tensor, labels: Tensor) -> TrainingData:
    """Draw the task's examples, hold out its validation set, and corrupt labels if the task declares noise.

    `images` and `labels` are the training part of a data set, which may be memory-mapped.
    """
    streams = Streams(TASK_SEED)
    train, val = split(labels, task, n_classes)
    y, flipped = corrupt_labels(labels[train], task, n_classes, streams.generator("label-noise", 0))
    val_y, val_flipped = corrupt_labels(labels[val], task, n_classes, streams.generator("label-noise", 1))
    return TrainingData(
        x=_take(images, train),
        y=y,
        val_x=_take(images, val),
        val_y=val_y,
        val_y_clean=labels[val],
        split_checksum=checksum(train, val),
        noise_checksum=""
        if task.label_noise == 0.0
        else checksum(train[flipped], y[flipped], val[val_flipped], val_y[val_flipped]),
    )


def split(labels: Tensor, task: Draw, n_classes: int) -> tuple[Tensor, Tensor]:
    """Return the positions of the training and of the validation examples, stratified by class.

    The training examples are in a fixed random order, so that the first k are a fair sample even if the
    source is sorted by class; the validation examples are in ascending order.
    """
    streams = Streams(TASK_SEED)
    if task.n_drawn is None:
        drawn = torch.arange(len(labels))
    else:
        drawn = draw_balanced(labels, task.n_drawn, n_classes, streams.generator("split", 0))
    held_out = draw_stratified(labels[drawn], task.n_validation, n_classes, streams.generator("split", 1))
    is_train = torch.ones(len(drawn), dtype=torch.bool).index_fill_(0, held_out, False)
    train = drawn[is_train]
    order = torch.randperm(len(train), generator=streams.generator("split", 2))
    return train[order], drawn[held_out]


def draw_balanced(labels: Tensor, n: int, n_classes: int, generator: torch.Generator) -> Tensor:
    """Return ascending positions of n examples, n / n_classes of each class; SteppeError if impossible."""
    if n % n_classes:
        raise SteppeError(f"cannot draw {n} examples evenly from {n_classes} classes: choose a multiple")
    return _draw(labels, [n // n_classes] * n_classes, generator)


def draw_stratified(labels: Tensor, n: int, n_classes: int, generator: torch.Generator) -> Tensor:
    """Return ascending positions of n examples in the classes' proportions, rounded by largest remainder.

    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> labels[draw_stratified(labels, 4, n_classes=2, generator=torch.Generator())]
    tensor([0, 0, 0, 1])
    """
    counts = torch.bincount(labels, minlength=n_classes).tolist()
    shares = [count * n / len(labels) for count in counts]
    quota = [int(share) for share in shares]
    # Ties go to the smaller class number, so that the draw is the same everywhere.
    by_remainder = sorted(range(n_classes), key=lambda c: (quota[c] - shares[c], c))
    for c in by_remainder[: n - sum(quota)]:
        quota[c] += 1
    return _draw(labels, quota, generator)


def _draw(labels: Tensor, quota: list[int], generator: torch.Generator) -> Tensor:
    # One permutation of all examples, so that the draw of a class does not depend on other classes' quotas.
    order = torch.randperm(len(labels), generator=generator)
    chosen = []
    for c, n in enumerate(quota):
        members = order[labels[order] == c]
        if len(members) < n:
            raise SteppeError(f"class {c} has {len(members)} examples, but the task draws {n}: lower n_drawn")
        chosen.append(members[:n])
    return torch.cat(chosen).sort().values


def corrupt_labels(
    labels: Tensor, task: Draw, n_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Corrupt round(label_noise * n) labels; return all labels and the ascending positions of the corrupted.

    `incorrect` draws among the other classes, `uniform` among all classes, so that about 1 / n_classes of
    its draws return the true label. The positions at a lower rate are a subset of those at a higher rate.
    """
    if task.label_noise_kind not in NOISE_KINDS:
        raise unknown("label noise kind", task.label_noise_kind, NOISE_KINDS)
    n = len(labels)
    order = torch.randperm(n, generator=generator)
    # Both kinds of draws are made for all n labels, so that neither depends on the rate or the kind.
    shift = torch.randint(1, n_classes, (n,), generator=generator)
    anything = torch.randint(n_classes, (n,), generator=generator)
    flipped = order[: round(task.label_noise * n)].sort().values
    drawn = (labels + shift) % n_classes if task.label_noise_kind == "incorrect" else anything
    return labels.index_copy(0, flipped, drawn[flipped]), flipped


def checksum(*positions: Tensor) -> str:
    """Return the SHA-256 over int64 tensors with their lengths, little-endian."""
    total = hashlib.sha256()
    for tensor in positions:
        total.update(len(tensor).to_bytes(8, "little"))
        total.update(tensor.numpy().astype("<i8").tobytes())
    return total.hexdigest()


def _take(images: Tensor, positions: Tensor) -> Tensor:
    # index_select copies: the memory-mapped cache is read once and never written.
    return images.index_select(0, positions)
