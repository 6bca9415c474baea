"""A small network with BatchNorm and dropout, and the entries built around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.entries.registry import Registry
from suite.parameters import Parameters
from suite.seeds import NormalStream
from suite.space import Value
from suite.spec import BuildContext, OptimizerSpec, resolve_params
from tests.plain_objective import objective_of

ENTRIES = ("adabelief", "adam", "lpf-sgd", "nso", "sam", "sgd")
WRAPPERS = ("lpf-sgd", "nso", "sam")
BASES = ("sgd", "adam", "adamw")
TOTAL_STEPS = 20

REGISTRY = Registry()


def entry(name: str) -> OptimizerSpec:
    found = REGISTRY.optimizer(name).entry
    assert isinstance(found, OptimizerSpec)
    return found


def resolve(name: str, overrides: Mapping[str, Value]) -> dict[str, Value]:
    return resolve_params(entry(name).params, overrides, name)


def network(seed: int = 0, channels_last: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(6 * 6 * 6, 5),
    )
    return model.to(memory_format=torch.channels_last) if channels_last else model


def batch(step: int, n: int = 20, channels_last: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(n, 3, 8, 8, generator=generator)
    y = torch.randint(5, (n,), generator=generator)
    return x.to(memory_format=torch.channels_last) if channels_last else x, y


def loaded(step: int, n: int = 20, channels_last: bool = False) -> Batch:
    inputs, targets = batch(step, n, channels_last)
    return Batch(inputs=inputs, targets=targets)


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def watch(optimizer: Any, see: Callable[[Tensor, Tensor], object]) -> None:
    """Call `see` with the clean and the perturbed weights, each (P,), before each perturbed evaluation."""
    evaluate_at = optimizer._evaluate_at

    def watched(*args: Any, **options: Any) -> Tensor:
        see(optimizer.flat.theta, optimizer._perturbed)
        return evaluate_at(*args, **options)

    optimizer._evaluate_at = watched


@dataclass
class Training:
    """One optimizer on one network: `run` takes steps, each a pure function of its number."""

    name: str
    overrides: Mapping[str, Value] = field(default_factory=dict)
    seed: int = 0
    channels_last: bool = False

    def __post_init__(self) -> None:
        self.model = network(self.seed, self.channels_last)
        self.objective = objective_of(self.model, self.seed)
        self.hyper = resolve(self.name, self.overrides)
        context = BuildContext(total_steps=TOTAL_STEPS, noise=NormalStream(self.seed))
        self.optimizer = entry(self.name).build(Parameters.of(self.model), self.hyper, context)

    def run(self, start: int, stop: int, n: Callable[[int], int] = lambda step: 20) -> "Training":
        for step in range(start, stop):
            self.objective.load(step, loaded(step, n(step), self.channels_last))
            self.optimizer.step(self.objective)  # type: ignore[arg-type]
        return self

    def state(self) -> dict[str, Tensor]:
        """Weights and BatchNorm's running statistics, copied."""
        return {key: value.clone() for key, value in self.model.state_dict().items()}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different, different
