"""The sides of test_throughput.py, each of which trains an epoch when it is told to.

As a program, `python -m tests.benchmarks.throughput_sides SIDE PRECISION THREADS CACHE`, a side is told by
lines on stdin: so each has the process environment that belongs to it, and the cores to itself in its turn.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from suite.data.batches import TrainingBatches, eval_batches
from suite.data.choose import choose_dataset
from suite.data.dataset import Dataset
from suite.data.splits import TrainingData, test_data, training_data
from suite.objective import BatchObjective
from suite.registry import Registry
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext, Task
from tests import plain_loop

REGISTRY = Registry()
EPOCHS = 5
SCHEDULE = {"schedule": "cosine", "warmup": 0.05}


@dataclass(frozen=True)
class Setting:
    """ResNet-20 on the small task's 4,500 training images, and 2,000 test images."""

    task: Task
    data: TrainingData
    test: tuple[Tensor, Tensor]

    @property
    def dataset(self) -> Dataset:
        return self.task.data[0]


def load_setting(cache: Path, n: int | None = None) -> Setting:
    """Load cifar10-jpeg where STEPPE_DATA says so; noise in its place, also where n images are enough."""
    base = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet8-5k", {}))
    big = REGISTRY.resolve_task(REGISTRY.reference("task", "cifar10-resnet20", {}))
    task = replace(base, model=big.model)
    if n is None and os.environ.get("STEPPE_DATA"):
        root = Path(os.environ["STEPPE_DATA"])
        dataset = choose_dataset(task, root)
        x, y = test_data(task, dataset, root, cache)
        task = replace(task, data=(dataset,))
        return Setting(task, training_data(task, dataset, root, cache), (x[:2000], y[:2000]))
    n = n or 4500
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

    def __init__(self, setting: Setting, precision: str, optimizer: str = "sgd") -> None:
        self.batches = TrainingBatches(setting.data, setting.task, setting.dataset, 0, "cpu")
        Streams(0).seed_global("init")
        self.model = setting.task.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.total = EPOCHS * self.batches.steps_per_epoch
        reference = REGISTRY.reference("optimizer", optimizer, {"lr": "0.1"})
        entry = REGISTRY.resolve_optimizer(reference)
        context = BuildContext(self.total, NormalStream(0))
        self.optimizer = entry.build(list(self.model.parameters()), reference.params, context)
        autocast = torch.bfloat16 if precision == "bf16" else None
        self.objective = BatchObjective(self.model, F.cross_entropy, Streams(0), autocast=autocast)
        self.step = 0

    def epoch(self) -> None:
        self.model.train()
        for _ in range(self.batches.steps_per_epoch):
            self.objective.load(self.step, *self.batches.batch(self.step))
            self.optimizer.param_groups[0]["lr"] = 0.1 * lr_factor(SCHEDULE, self.step, self.total)
            self.optimizer.step(self.objective)  # type: ignore[arg-type]
            self.step += 1


class Bare(Ours):
    """The network alone: forward, backward and a fused step on one batch that lies ready."""

    def __init__(self, setting: Setting, precision: str) -> None:
        super().__init__(setting, precision)
        self.sgd = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True)
        self.autocast = precision == "bf16"
        self.batch = [tensor.clone() for tensor in self.batches.batch(0)]

    def epoch(self) -> None:
        self.model.train()
        x, y = self.batch
        for _ in range(self.batches.steps_per_epoch):
            self.sgd.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
                outputs = self.model(x)
            F.cross_entropy(outputs.float(), y).backward()
            self.sgd.step()
            self.step += 1


def accuracy(model: nn.Module, setting: Setting) -> float:
    model.eval()
    hits = 0
    with torch.no_grad():
        for x, y in eval_batches(*setting.test, setting.dataset, "cpu"):
            hits += int((model(x).argmax(1) == y).sum())
    return hits / len(setting.test[1])


SIDES = ("ordinary", "ours", "bare")


def make(side: str, setting: Setting, precision: str) -> Ordinary | Ours:
    if side == "ordinary":
        return Ordinary(setting)
    return Bare(setting, precision) if side == "bare" else Ours(setting, precision)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    images = load_setting(Path(sys.argv[4]))
    trainer = make(sys.argv[1], images, sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        answer = accuracy(trainer.model, images) if line.strip() == "accuracy" else trainer.epoch()
        print(answer, flush=True)
