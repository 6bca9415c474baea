"""digits-cnn: a small convolutional network on scikit-learn's handwritten digits, offline and in seconds.

steppe run -t digits-cnn -o '*' -s 0-9
"""

from __future__ import annotations

from suite.data.catalog import DIGITS
from suite.models.small import digits_cnn
from suite.problems.image_task import ImageTask
from suite.spec import Param
from suite.task import TaskSpec

NAME, VERSION, TIER = "digits-cnn", "3", "smoke"
SUMMARY = "handwritten digits (8 x 8, grey), two convolutions with BatchNorm"


def digits(measure_every: int) -> ImageTask:
    """1,000 training, 297 validation and 500 test images; 20 epochs of batches of 64."""
    return ImageTask(
        name=NAME,
        version=VERSION,
        tier=TIER,
        summary=SUMMARY,
        data=(DIGITS,),
        model=digits_cnn,
        batch_size=64,
        epochs=20,
        n_validation=297,
        measure_examples=500,
        measure_every=measure_every,
        expected=(
            "SGD at lr 0.1: 97 to 98 % test accuracy (5 seeds) in 1 s of training, fp32 on one core of a "
            "Xeon with AVX-512; each look at lambda_max takes a quarter of a second"
        ),
    )


TASKS = [
    TaskSpec(
        name=NAME,
        version=VERSION,
        tier=TIER,
        summary=SUMMARY,
        make=digits,
        params={
            "measure_every": Param(
                10, "epochs from one look at lambda_max to the next; 0: at the end only", low=0
            )
        },
    )
]
