"""Training throughput on CIFAR ResNet-20 against an ordinary loop, both on the same cores in one run.

Ordinary: PIL transforms, DataLoader with two workers, NCHW, fp32, torch.optim.SGD.
Ours: the suite's batches, objective and `sgd`, channels last, fp32 or bf16, the environment of its workers.
Bare: what our model takes for forward, backward and a fused step on a batch that lies ready; what is
missing there to the target, no loop can give.
Each side is a process; they train in turn, an epoch of 4,500 images each. A row's figures are its extra_info:

    pytest tests/benchmarks/test_throughput.py --benchmark-enable -n0 -s --benchmark-json=throughput.json

One thread is how the suite runs (several processes); there the ordinary loop's workers
have the other cores to themselves. Otherwise both use every core. With STEPPE_DATA set the images are
cifar10-jpeg and the accuracy of both after five epochs is shown; without, they are noise.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from suite.engine.precision import PerturbationProbe
from suite.workers.process import HUGE_PAGES
from tests.benchmarks.throughput_sides import EPOCHS, SIDES, Ours, load_work, make

REPOSITORY = Path(__file__).parents[2]
CORES = len(os.sched_getaffinity(0))
TARGET = {"fp32": 1.4, "bf16": 2.9}
N_IMAGES = 4500


class Side:
    """A side in a process of its own."""

    def __init__(self, side: str, precision: str, threads: int, cache: Path) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            **({} if side == "ordinary" else HUGE_PAGES),
        }
        command = [sys.executable, "-m", "tests.benchmarks.throughput_sides", side, precision]
        self.process = subprocess.Popen(
            [*command, str(threads), str(cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.seconds: list[float] = []
        assert self._answer() == "ready"

    def epoch(self) -> None:
        started = time.perf_counter()
        self.tell("epoch")
        self.seconds.append(time.perf_counter() - started)

    def tell(self, order: str) -> str:
        assert self.process.stdin is not None
        print(order, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.process.args} died"
        return line.strip()

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("threads", sorted({1, CORES}), ids=lambda n: f"{n}-threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_throughput(benchmark: BenchmarkFixture, cache: Path, precision: str, threads: int) -> None:
    if not benchmark.enabled:  # all sides work; nothing is timed
        few = load_work(cache, n=8)
        sides = [make(side, few, precision) for side in SIDES]
        benchmark.pedantic(lambda: [side.epoch() for side in sides], rounds=1)
        assert [side.step for side in sides] == [1, 1, 1]
        return
    ordinary, ours, bare = (Side(side, precision, threads, cache) for side in SIDES)

    def others() -> None:
        ordinary.epoch()
        bare.epoch()

    benchmark.pedantic(ours.epoch, setup=others, rounds=EPOCHS)
    best, theirs = min(ours.seconds), min(ordinary.seconds)
    middle = sorted(ordinary.seconds)[EPOCHS // 2] / sorted(ours.seconds)[EPOCHS // 2]
    benchmark.extra_info.update(
        threads=threads,
        images_per_s=round(N_IMAGES / best),
        ordinary_images_per_s=round(N_IMAGES / theirs),
        speed_up=round(theirs / best, 2),
        speed_up_of_medians=round(middle, 2),
        bare_speed_up=round(theirs / min(bare.seconds), 2),
        target=TARGET[precision],
    )
    if os.environ.get("STEPPE_DATA"):
        benchmark.extra_info.update(
            accuracy=float(ours.tell("accuracy")), ordinary_accuracy=float(ordinary.tell("accuracy"))
        )
    for side in (ordinary, ours, bare):
        side.close()
    print(f"\n{precision}:", benchmark.extra_info)


def test_perturbation_that_survives_bf16(benchmark: BenchmarkFixture, cache: Path) -> None:
    """Cosine of SAM's intended perturbation with the one that the bf16 weights see (protocol rule 6)."""
    sam = Ours(load_work(cache, n=None if benchmark.enabled else 8), "bf16", "sam")
    sam.model.train()
    sam.objective.load(0, sam.problem.batch(0))
    probe = PerturbationProbe(sam.objective, sam.model, lambda w: w.to(torch.bfloat16).float())
    benchmark.pedantic(sam.optimizer.step, args=(probe,), rounds=1)
    assert probe.cosine is not None
    assert 0 < probe.cosine < 1
    benchmark.extra_info["sam_bf16_cosine_at_init"] = round(probe.cosine, 3)
    print("\ncosine of SAM's perturbation at the first step in bf16:", benchmark.extra_info)
