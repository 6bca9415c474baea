"""Training throughput on CIFAR ResNet-20 against an ordinary loop, both on the same cores in one run.

Ordinary: PIL transforms, DataLoader with two workers, NCHW, fp32, torch.optim.SGD (tests/plain_loop.py).
Ours: the suite's batches, objective and `sgd`, channels last, fp32 and bf16. The two train in turn, an epoch
of 4,500 images each, so that other load meets both; a row's figures stand in its extra_info:

    pytest tests/benchmarks/test_throughput.py --benchmark-enable --benchmark-json=throughput.json

`threads=1` is how the suite runs (one thread a process, several processes); there the ordinary loop's workers
have the other cores to themselves. Otherwise both use every core. With STEPPE_DATA set the images are
cifar10-jpeg and the accuracy of both after the last epoch is shown; without, they are noise.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from suite.data.batches import TrainingBatches, eval_batches
from suite.data.dataset import Dataset, choose_dataset
from suite.data.splits import TrainingData, test_data, training_data
from suite.objective import BatchObjective
from suite.precision import PerturbationProbe
from suite.registry import Registry
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext, Task
from tests import plain_loop

REGISTRY = Registry()
CORES = len(os.sched_getaffinity(0))
DATA = os.environ.get("STEPPE_DATA")
TARGET = {"fp32": 1.4, "bf16": 2.9}
EPOCHS = 5
SCHEDULE = {"schedule": "cosine", "warmup": 0.05}


@dataclass(frozen=True)
class Setting:
    """The images that both sides train on, and ResNet-20 under the small task's 5,000 images."""

    task: Task
    data: TrainingData
    test: tuple[Tensor, Tensor]

    @property
    def dataset(self) -> Dataset:
        return self.task.data[0]


def load_setting(tmp: Path, quick: bool) -> Setting:
    base = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet8-5k", {}))
    big = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet20", {}))
    task = replace(base, model=big.model)
    if DATA and not quick:
        root = Path(DATA)
        dataset = choose_dataset(task, root)
        task = replace(task, data=(dataset,))
        x, y = test_data(task, dataset, root, tmp)
        return Setting(task, training_data(task, dataset, root, tmp), (x[:2000], y[:2000]))
    n = 8 if quick else 4500
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.randint(10, (n,), generator=generator)
    return Setting(task, TrainingData(x, y, x[:8], y[:8], y[:8], "", ""), (x[:8], y[:8]))


class Ordinary:
    """What people write: torchvision's transforms in two worker processes, NCHW, fp32."""

    def __init__(self, setting: Setting) -> None:
        torch.manual_seed(0)
        self.model = setting.task.model()
        images = plain_loop.Images(setting.data.x, setting.data.y, plain_loop.AUGMENTED)
        self.loader = DataLoader(images, 128, shuffle=True, num_workers=2, persistent_workers=True)
        self.sgd = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        self.step, self.total = 0, EPOCHS * len(self.loader)
        self.seconds: list[float] = []

    def epoch(self) -> None:
        started = time.perf_counter()
        self.model.train()
        for x, y in self.loader:
            self.sgd.param_groups[0]["lr"] = 0.1 * lr_factor(SCHEDULE, self.step, self.total)
            self.sgd.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.sgd.step()
            self.step += 1
        self.seconds.append(time.perf_counter() - started)


class Ours:
    """The suite's own path, as its training loop takes it."""

    def __init__(self, setting: Setting, precision: str, optimizer: str = "sgd") -> None:
        self.autocast = torch.bfloat16 if precision == "bf16" else None
        self.batches = TrainingBatches(setting.data, setting.task, setting.dataset, 0, "cpu")
        Streams(0).seed_global("init")
        self.model = setting.task.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.total = EPOCHS * self.batches.steps_per_epoch
        reference = REGISTRY.reference("optimizer", optimizer, {"lr": "0.1"})
        entry = REGISTRY.resolve_optimizer(reference)
        context = BuildContext(self.total, NormalStream(0))
        self.optimizer = entry.build(list(self.model.parameters()), reference.params, context)
        self.objective = BatchObjective(self.model, F.cross_entropy, Streams(0), autocast=self.autocast)
        self.step = 0

    def epoch(self) -> None:
        self.model.train()
        for _ in range(self.batches.steps_per_epoch):
            self.objective.load(self.step, *self.batches.batch(self.step))
            self.optimizer.param_groups[0]["lr"] = 0.1 * lr_factor(SCHEDULE, self.step, self.total)
            self.optimizer.step(self.objective)  # type: ignore[arg-type]
            self.step += 1


def accuracy(model: nn.Module, setting: Setting) -> float:
    model.eval()
    x, y = setting.test
    with torch.no_grad():
        hits = sum(
            int((model(a).argmax(1) == b).sum()) for a, b in eval_batches(x, y, setting.dataset, "cpu")
        )
    return hits / len(y)


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("threads", sorted({1, CORES}), indirect=True, ids=lambda n: f"threads={n}")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_throughput(benchmark: BenchmarkFixture, cache: Path, precision: str, threads: int) -> None:
    setting = load_setting(cache, quick=not benchmark.enabled)
    ordinary, ours = Ordinary(setting), Ours(setting, precision)
    benchmark.pedantic(ours.epoch, setup=ordinary.epoch, rounds=EPOCHS)
    assert ours.step == ordinary.step > 0
    if benchmark.stats is None:
        return
    n = len(setting.data.y)
    best, theirs = benchmark.stats.stats.min, min(ordinary.seconds)
    benchmark.extra_info.update(
        threads=threads,
        images_per_s=n / best,
        ordinary_images_per_s=n / theirs,
        speed_up=theirs / best,
        speed_up_of_medians=sorted(ordinary.seconds)[EPOCHS // 2] / benchmark.stats.stats.median,
        target=TARGET[precision],
    )
    if DATA:
        benchmark.extra_info.update(
            data=setting.dataset.name,
            accuracy=accuracy(ours.model, setting),
            ordinary_accuracy=accuracy(ordinary.model, setting),
        )
    print(f"\n{precision}, {threads} threads:", benchmark.extra_info)


def test_perturbation_that_survives_bf16(benchmark: BenchmarkFixture, cache: Path) -> None:
    """Cosine of SAM's intended perturbation with the one that the bf16 weights see (protocol rule 6)."""
    setting = load_setting(cache, quick=not benchmark.enabled)
    sam = Ours(setting, "bf16", "sam")
    sam.model.train()
    sam.objective.load(0, *sam.batches.batch(0))
    probe = PerturbationProbe(sam.objective, sam.model, torch.bfloat16)
    benchmark.pedantic(sam.optimizer.step, args=(probe,), rounds=1)
    assert probe.cosine is not None
    assert 0 < probe.cosine < 1
    benchmark.extra_info["sam_bf16_cosine_at_init"] = probe.cosine
    print(f"\ncosine of SAM's perturbation in bf16: {probe.cosine:.3f}")
