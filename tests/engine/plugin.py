"""Tasks of the battery: digits-cnn for few epochs, and a variant that takes what digits-cnn does not.

The variant has label noise, crops and flips, dropout, fewer training images, and measures along training.
"""

from __future__ import annotations

from torch import nn

from suite.data.catalog import DIGITS
from suite.models.small import digits_cnn
from suite.problems.image_task import ImageTask
from suite.task import TaskSpec


def _net() -> nn.Module:
    net = digits_cnn(width=8)
    assert isinstance(net, nn.Sequential)
    net.insert(3, nn.Dropout2d(0.1))
    net.insert(len(net) - 1, nn.Dropout(0.2))
    return net


def _plain() -> ImageTask:
    return ImageTask(
        name="battery-plain",
        version="1",
        tier="smoke",
        summary="digits-cnn for three epochs",
        data=(DIGITS,),
        model=digits_cnn,
        batch_size=64,
        epochs=3,
        n_validation=297,
        measure_examples=200,
    )


def _varied() -> ImageTask:
    return ImageTask(
        name="battery-varied",
        version="1",
        tier="smoke",
        summary="label noise, crops, flips, dropout and curves",
        data=(DIGITS,),
        model=_net,
        batch_size=48,
        epochs=2,
        n_validation=200,
        n_drawn=800,
        augment=("crop:1", "flip"),
        label_noise=0.2,
        measure_examples=200,
        measure_every=1,
        curve_measures=("lambda_max", "hessian_trace", "lpf"),
    )


TASKS = [
    TaskSpec(name=task.name, version=task.version, tier=task.tier, summary=task.summary, make=make)
    for make in (_plain, _varied)
    for task in (make(),)
]
