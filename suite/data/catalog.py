"""Data sets shared by the suite's own tasks and its users' tasks. Importing this loads no torch."""

from __future__ import annotations

from suite.data.dataset import Dataset
from suite.data.sources import DeclaredFile, DigitsSource, ParquetSource, TorchvisionSource

DIGITS = Dataset(
    name="digits",
    source=DigitsSource(checksum="631cb83de3a2ab62bb6a6377fd0959c2622ce06102218671940106ad649966d0"),
    n_classes=10,
    shape=(1, 8, 8),
    mean=(0.2873,),
    std=(0.3539,),
    n_train=1297,
)
"""scikit-learn's 1,797 handwritten digits: 1,297 for training and validation, 500 for testing."""

_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR10_STD = (0.2470, 0.2435, 0.2616)

CIFAR10 = Dataset(
    name="cifar10",
    source=TorchvisionSource(
        dataset="CIFAR10",
        folder="cifar10",
        base_folder="cifar-10-batches-py",
        checksum="c58f30108f718f92721af3b95e74349a",
    ),
    n_classes=10,
    shape=(3, 32, 32),
    mean=_CIFAR10_MEAN,
    std=_CIFAR10_STD,
    n_train=50_000,
)
"""The official CIFAR-10 batches."""

CIFAR10_JPEG = Dataset(
    name="cifar10-jpeg",
    source=ParquetSource(
        folder="cifar10-jpeg",
        train=DeclaredFile(
            "train-00000-of-00001.parquet",
            "8b3d7cd4c089cd4b9b744fd74a573c560e0ab3b6f83590b4851a74f6c498608b",
        ),
        test=DeclaredFile(
            "test-00000-of-00001.parquet",
            "476aac9042bb7fb3f7551226b881288ee0544af26cd4d817fdbf0915aa9df59c",
        ),
        shape=(3, 32, 32),
    ),
    n_classes=10,
    shape=(3, 32, 32),
    mean=_CIFAR10_MEAN,
    std=_CIFAR10_STD,
    n_train=50_000,
)
"""All of CIFAR-10 re-encoded as JPEG of quality 75: real images and exact labels, but different pixels."""
