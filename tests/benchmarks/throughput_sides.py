"""The sides of test_throughput.py, each of which trains an epoch when it is told to.

As a program, `python -m tests.benchmarks.throughput_sides SIDE PRECISION THREADS CACHE`, a side is told by
lines on stdin: so each has the process environment that belongs to it, and the cores to itself in its turn.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from suite.data.batches import eval_batches
from suite.data.choose import choose_data
from suite.data.dataset import Dataset
from suite.data.source import Arrays
from suite.entries.registry import Registry
from suite.objective import BatchObjective
from suite.parameters import Parameters
from suite.problem import Setting, Splits
from suite.problems.image_problem import ImageClassification
from suite.problems.image_task import ImageTask
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext
from tests import plain_loop

REGISTRY = Registry()
EPOCHS = 5
SCHEDULE = {"schedule": "cosine", "warmup": 0.05}


@dataclass(frozen=True)
class Noise:
    """Random images in place of a data set; ten of them validate."""

    n: int

    @property
    def checksum(self) -> str:
        return f"{self.n:064x}"

    def available(self, root: Path | None) -> bool:
        return True

    def verify(self, root: Path | None) -> None:
        """Nothing to check."""

    def prepare(self, root: Path) -> None:
        """Nothing to fetch."""

    def load(self, root: Path | None) -> Arrays:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (self.n + 10, 3, 32, 32), dtype=torch.uint8, generator=generator)
        y = torch.arange(len(x)) % 10
        return Arrays(x, y, x[:8], y[:8])


@dataclass(frozen=True)
class Work:
    """ResNet-20 on the small task's 4,500 training images, and 2,000 test images."""

    task: ImageTask
    data: Dataset
    splits: Splits

    def problem(self) -> ImageClassification:
        return ImageClassification(Setting(self.task, self.data, self.splits))


def load_work(cache: Path, n: int | None = None) -> Work:
    """Load cifar10-jpeg where STEPPE_DATA says so; noise in its place, also where n images are enough."""
    small = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet8-5k", {}))
    large = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet20", {}))
    assert isinstance(small, ImageTask)
    assert isinstance(large, ImageTask)
    task = replace(small, model=large.model)
    if n is None and os.environ.get("STEPPE_DATA"):
        root = Path(os.environ["STEPPE_DATA"])
        data = choose_data(task, root)
    else:
        root = None
        data = replace(task.data[0], name="noise", source=Noise(n or 4500), n_train=None)
        task = replace(task, data=(data,), n_drawn=None, n_validation=10)
    assert isinstance(data, Dataset)
    return Work(task, data, Splits(data, root, cache))


class Ordinary:
    """What people write: torchvision's transforms in two worker processes, NCHW, fp32."""

    def __init__(self, work: Work) -> None:
        torch.manual_seed(0)
        self.model = work.task.model()
        data = work.problem().data
        images = plain_loop.Images(data.x, data.y, plain_loop.AUGMENTED)
        self.loader = DataLoader(images, 128, shuffle=True, num_workers=2, persistent_workers=True)
        self.sgd = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        self.step, self.total = 0, EPOCHS * len(self.loader)

    def epoch(self) -> None:
        self.model.train()
        for x, y in self.loader:
            self.sgd.param_groups[0]["lr"] = 0.1 * lr_factor(SCHEDULE, self.step, self.total)
            self.sgd.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.sgd.step()
            self.step += 1


class Ours:
    """The suite's own path, as its training loop takes it."""

    def __init__(self, work: Work, precision: str, optimizer: str = "sgd") -> None:
        self.problem = work.problem()
        Streams(0).seed_global("init")
        self.model = self.problem.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.steps_per_epoch = self.problem.steps_per_epoch
        self.total = EPOCHS * self.steps_per_epoch
        reference = REGISTRY.reference("optimizer", optimizer, {"lr": "0.1"})
        entry = REGISTRY.resolve_optimizer(reference)
        context = BuildContext(self.total, NormalStream(0))
        self.optimizer = entry.build(Parameters.of(self.model), reference.params, context)
        autocast = torch.bfloat16 if precision == "bf16" else None
        self.objective = BatchObjective(self.model, self.problem, Streams(0), autocast=autocast)
        self.step = 0

    def epoch(self) -> None:
        self.model.train()
        for _ in range(self.steps_per_epoch):
            self.objective.load(self.step, self.problem.batch(self.step))
            self.optimizer.param_groups[0]["lr"] = 0.1 * lr_factor(SCHEDULE, self.step, self.total)
            self.optimizer.step(self.objective)  # type: ignore[arg-type]
            self.step += 1


class Bare(Ours):
    """The network alone: forward, backward and a fused step on one batch that lies ready."""

    def __init__(self, work: Work, precision: str) -> None:
        super().__init__(work, precision)
        self.sgd = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True)
        self.autocast = precision == "bf16"
        batch = self.problem.batch(0)
        self.batch = batch.inputs.clone(), batch.targets.clone()

    def epoch(self) -> None:
        self.model.train()
        x, y = self.batch
        for _ in range(self.steps_per_epoch):
            self.sgd.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
                outputs = self.model(x)
            F.cross_entropy(outputs.float(), y).backward()
            self.sgd.step()
            self.step += 1


def accuracy(model: nn.Module, work: Work) -> float:
    model.eval()
    hits = 0
    x, y = work.splits["test"]
    with torch.no_grad():
        for inputs, targets in eval_batches(x[:2000], y[:2000], work.data, torch.device("cpu")):
            hits += int((model(inputs).argmax(1) == targets).sum())
    return hits / len(y[:2000])


SIDES = ("ordinary", "ours", "bare")


def make(side: str, work: Work, precision: str) -> Ordinary | Ours:
    if side == "ordinary":
        return Ordinary(work)
    return Bare(work, precision) if side == "bare" else Ours(work, precision)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    work = load_work(Path(sys.argv[4]))
    trainer = make(sys.argv[1], work, sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        answer = accuracy(trainer.model, work) if line.strip() == "accuracy" else trainer.epoch()
        print(answer, flush=True)
