"""What the doors of an objective cost next to a gradient: operations counted, and seconds, on ResNet-20.

pytest tests/benchmarks/test_doors.py --benchmark-enable -n0 -s

The protocol charges operations (rule 1). Seconds stand beside them: convolutions are slower to differentiate
twice.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, jvp

from suite.batch import Batch
from suite.flat_params import FlatParams
from suite.models.resnet import cifar_resnet
from suite.objective import BatchObjective
from suite.problem import ClassificationLoss
from suite.seeds import Streams

N = 32


class Doors:
    """One mini-batch of random images, and what may be asked of its objective."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = cifar_resnet(20).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.flat = FlatParams(model.parameters())
        self.objective = BatchObjective(model, ClassificationLoss(), Streams(0))
        images = torch.randn(N, 3, 32, 32).to(memory_format=torch.channels_last)
        self.objective.load(0, Batch(inputs=images, targets=torch.arange(N) % 10))
        self.u = torch.randn_like(self.flat.theta)

    def gradient(self) -> Any:
        return self.objective()

    def loss(self) -> Any:
        return self.objective.loss()

    def product(self) -> Any:
        """H u, which the gradient comes with."""
        return jvp(grad(self.objective.function()), (self.flat.theta,), (self.u,))

    def third(self) -> Any:
        """The gradient of u' H u."""
        function = self.objective.function()

        def curvature(w: torch.Tensor) -> torch.Tensor:
            return self.u @ jvp(grad(function), (w,), (self.u,))[1]

        return grad(curvature)(self.flat.theta)


def seconds(work: Callable[[], Any], doors: Doors) -> float:
    started = time.perf_counter()
    with doors.objective.metered():
        work()
    return time.perf_counter() - started


@pytest.mark.parametrize("door", ["loss", "product", "third"])
def test_cost_next_to_a_gradient(benchmark: Any, door: str) -> None:
    torch.set_num_threads(1)
    doors = Doors()
    work, base = getattr(doors, door), doors.gradient
    for each in (work, base):
        seconds(each, doors)
    before = doors.objective.meter.sample_gradients
    ratios = []
    rounds = 7 if benchmark.enabled else 1
    for _ in range(rounds):  # side by side: the machine's speed drifts
        ratios.append(seconds(work, doors) / seconds(base, doors))
    charged = (doors.objective.meter.sample_gradients - before) / (rounds * N) - 1
    took = statistics.median(ratios)
    benchmark.extra_info |= {"charged": charged, "seconds": took}
    print(f"\n{door}: charged {charged:.3f} sample-gradients, takes {took:.2f} gradients")
    benchmark.pedantic(lambda: seconds(work, doors), rounds=1)
