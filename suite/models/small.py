"""Small networks that need neither timm nor torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def digits_cnn(width: int = 16, n_classes: int = 10) -> nn.Module:
    """Two 3 x 3 convolutions with BatchNorm on 8 x 8 grey images, the second of stride 2, then linear."""
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
