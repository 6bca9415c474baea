"""Small networks that need neither timm nor torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def digits_cnn(width: int = 16, n_classes: int = 10) -> nn.Module:
    """Build two 3 x 3 convolutions with BatchNorm for 8 x 8 grey images, and a linear layer.

    The second convolution has stride 2.
    """
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(2 * width * 4 * 4, n_classes),
    )
