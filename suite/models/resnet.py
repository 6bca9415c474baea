"""ResNets for 32 x 32 images from the blocks of timm and torchvision, which are imported inside functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def cifar_resnet(depth: int, width: int = 16, n_classes: int = 10) -> nn.Module:
    """Build a ResNet of depth 6n + 2: three stages of n basic blocks with `width`, 2 and 4 `width` channels.

    He et al. 2016 (arXiv:1512.03385), section 4.2, except that the shortcuts that change shape are
    1 x 1 convolutions with BatchNorm (their option B) where the paper pads with zeros (option A): ResNet-20
    has 272,474 parameters instead of 269,722. Initialised as in the paper: normal, fan out.
    """
    import torch
    from timm.models.resnet import BasicBlock
    from torch import nn

    n_blocks, rest = divmod(depth - 2, 6)
    if rest or n_blocks < 1:
        raise ValueError(f"depth must be 6n + 2, not {depth}")
    stages: list[nn.Module] = []
    before = width
    for stage, channels in enumerate((width, 2 * width, 4 * width)):
        for block in range(n_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = None
            if stride != 1 or before != channels:
                shortcut = nn.Sequential(
                    nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )
            stages.append(BasicBlock(before, channels, stride, downsample=shortcut))
            before = channels
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(before, n_classes),
    )
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model


def resnet18(n_classes: int = 10) -> nn.Module:
    """Build torchvision's ResNet-18 for small images: a 3 x 3 first convolution of stride 1, no max-pooling.

    It has 11,173,962 parameters for ten classes. Initialised as in torchvision.
    """
    import torchvision
    from torch import nn

    model: nn.Module = torchvision.models.resnet18(num_classes=n_classes)
    stem = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = stem, nn.Identity()
    return model
