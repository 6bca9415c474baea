"""The built-in source: the handwritten digits of scikit-learn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.data.source import Arrays
from suite.errors import SteppeError


@dataclass(frozen=True)
class DigitsSource:
    """The 1,797 handwritten digits of scikit-learn (UCI optdigits), grey 8 x 8, offline.

    Values 0..16 are stored as multiples of 15. `n_test_per_class` of each class are the test set, a fixed
    draw from the task stream `split`; the rest is for training and validation.
    """

    checksum: str
    n_test_per_class: int = 50

    def available(self, root: Path | None) -> bool:
        """Return True: the images come with scikit-learn."""
        return True

    def load(self, root: Path | None) -> Arrays:
        """Read, verify and split; SteppeError if scikit-learn's digits do not match the checksum."""
        import torch
        from sklearn.datasets import load_digits

        from suite.data.splits import draw_balanced
        from suite.seeds import TASK_SEED, Streams

        bunch = load_digits()
        images = (bunch.images * 15).astype(np.uint8)[:, None]
        labels = bunch.target.astype(np.int64)
        found = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
        if found != self.checksum:
            raise SteppeError(
                f"scikit-learn's digits have checksum {found[:12]}, declared is {self.checksum[:12]}: "
                "install the scikit-learn of requirements.lock"
            )
        x, y = torch.from_numpy(images), torch.from_numpy(labels)
        generator = Streams(TASK_SEED).generator("split", len(y))
        test = draw_balanced(y, 10 * self.n_test_per_class, 10, generator)
        train = torch.ones(len(y), dtype=torch.bool).index_fill_(0, test, False)
        return Arrays(x[train], y[train], x[test], y[test])

    def verify(self, root: Path | None) -> None:
        """Check the digits that scikit-learn ships."""
        self.load(root)

    def prepare(self, root: Path) -> None:
        """Verify; there is nothing to download."""
        self.load(root)
