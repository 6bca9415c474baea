"""CIFAR-10: a small tier on 5,000 images with two families (label noise, width), and the full tier.

    steppe run -t cifar10-resnet8-5k -o '*' -s 0-9
    steppe run -t 'cifar10-resnet8-5k-label-noise[noise=0.4]' -o sgd,sam -s 0-9
    steppe run -t 'cifar10-resnet8-5k-width[width=4|8|16|32|64]' -o sgd -s 0-9
    steppe run -t cifar10-resnet20 -o '*' -s 0-4

Each task's `expected` states the test accuracy and the cost of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from suite.data.catalog import CIFAR10, CIFAR10_JPEG
from suite.models.resnet import cifar_resnet, resnet18
from suite.problems.image_task import ImageTask
from suite.spec import Param
from suite.task import TaskSpec

if TYPE_CHECKING:
    from torch import nn

DATA = (CIFAR10, CIFAR10_JPEG)
AUGMENT = ("crop:4", "flip")
BASE = "cifar10-resnet8-5k"

SMALL = ImageTask(
    name=BASE,
    version="2",
    tier="small",
    summary="CIFAR-10 with 5,000 training images, ResNet-8",
    data=DATA,
    model=partial(cifar_resnet, depth=8),
    batch_size=128,
    epochs=40,
    n_drawn=5000,
    n_validation=500,
    augment=AUGMENT,
    measure_examples=1000,
    expected=(
        "SGD at lr 0.1: 65 to 66 % test accuracy on cifar10-jpeg in about 4 minutes of training, "
        "fp32 on one core of a Xeon with AVX-512"
    ),
)


def small() -> ImageTask:
    """4,500 training and 500 validation images, balanced by class; the full test set; 40 epochs."""
    return SMALL


def label_noise(noise: float, kind: str) -> ImageTask:
    """Corrupt round(noise * n) labels of the small task, the same labels for every run."""
    return replace(
        SMALL,
        name=NOISY.name,
        summary=NOISY.summary,
        label_noise=noise,
        label_noise_kind=kind,
        expected="costs what the small task costs",
    )


def width(width: int) -> ImageTask:
    """Give the small task's network stages of width, 2 width and 4 width channels; the small task has 16."""
    return replace(
        SMALL,
        name=WIDE.name,
        summary=WIDE.summary,
        model=partial(cifar_resnet, depth=8, width=width),
        expected="at width 16 the small task itself; the arithmetic grows with the square of the width",
    )


def full(
    entry: TaskSpec, model: Callable[[], nn.Module], augment: bool, epochs: int, expected: str
) -> ImageTask:
    """45,000 training and 5,000 validation images, the full test set, batches of 128."""
    return ImageTask(
        name=entry.name,
        version=entry.version,
        tier=entry.tier,
        summary=entry.summary,
        data=DATA,
        model=model,
        batch_size=128,
        epochs=epochs,
        n_validation=5000,
        augment=AUGMENT if augment else (),
        measure_examples=2000,
        expected=expected,
    )


def resnet20(augment: bool, epochs: int) -> ImageTask:
    """ResNet-20; 160 epochs correspond to about the 64,000 steps of He et al. 2016."""
    expected = (
        "He et al. 2016 report 91.25 % for SGD on CIFAR-10; 160 epochs of SGD are about 6 hours, "
        "fp32 on one core of a Xeon with AVX-512"
    )
    return full(RESNET20, partial(cifar_resnet, depth=20), augment, epochs, expected)


def resnet18_task(augment: bool, epochs: int) -> ImageTask:
    """ResNet-18 for 200 epochs, the usual budget of the papers on flat minima."""
    expected = (
        "DeVries & Taylor 2017 report 95.3 % for SGD with and 89.4 % without augmentation on CIFAR-10 in "
        "200 epochs; wants a GPU: a step is about 0.45 TFLOP, seconds on a CPU core"
    )
    return full(RESNET18, resnet18, augment, epochs, expected)


def _full_params(epochs: int) -> dict[str, Param]:
    return {
        "augment": Param(True, "random crop with 4 pixels of padding, and flip"),
        "epochs": Param(epochs, "passes over the training set", low=1),
    }


NOISY = TaskSpec(
    name=f"{BASE}-label-noise",
    version="2",
    tier="small",
    summary=f"{BASE} with a share of the training and validation labels flipped",
    make=label_noise,
    params={
        "noise": Param(0.4, "share of the labels that are flipped", low=0.0, high=1.0),
        "kind": Param(
            "incorrect",
            "whether a flip may return the true label (uniform) or not (incorrect)",
            choices=("incorrect", "uniform"),
        ),
    },
)
WIDE = TaskSpec(
    name=f"{BASE}-width",
    version="2",
    tier="small",
    summary=f"{BASE} with a ResNet-8 of another width",
    make=width,
    params={"width": Param(16, "channels of the first stage", low=4, high=64)},
)
RESNET20 = TaskSpec(
    name="cifar10-resnet20",
    version="2",
    tier="full",
    summary="CIFAR-10, ResNet-20",
    make=resnet20,
    params=_full_params(160),
)
RESNET18 = TaskSpec(
    name="cifar10-resnet18",
    version="2",
    tier="full",
    summary="CIFAR-10, ResNet-18",
    make=resnet18_task,
    params=_full_params(200),
)

TASKS = [
    TaskSpec(name=BASE, version=SMALL.version, tier=SMALL.tier, summary=SMALL.summary, make=small),
    NOISY,
    WIDE,
    RESNET20,
    RESNET18,
]
