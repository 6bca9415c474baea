"""digits-cnn: a small convolutional network on scikit-learn's handwritten digits, offline and in seconds.

steppe run -t digits-cnn -o '*' -s 0-9
"""

from __future__ import annotations

from suite.data.catalog import DIGITS
from suite.models.small import digits_cnn
from suite.spec import Task, TaskSpec

TASK = Task(
    name="digits-cnn",
    version="1",
    tier="smoke",
    summary="handwritten digits (8 x 8, grey), two convolutions with BatchNorm",
    data=(DIGITS,),
    model=digits_cnn,
    batch_size=64,
    epochs=20,
    n_validation=297,
    measure_examples=500,
    expected=(
        "SGD at lr 0.1: 97 to 98 % test accuracy (5 seeds) in 1 s of training, fp32 on one core of a Xeon "
        "with AVX-512"
    ),
)


def digits() -> Task:
    """1,000 training, 297 validation and 500 test images; 20 epochs of batches of 64."""
    return TASK


TASKS = [TaskSpec(name=TASK.name, version=TASK.version, tier=TASK.tier, summary=TASK.summary, make=digits)]
