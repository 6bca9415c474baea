"""What a task's own code must leave as it is: the model that it is given, and the examples of training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.conformance.check import Broken
from suite.problem import Problem

MEASURED = 64
"""About how many training examples are looked at besides the mini-batch."""


@contextmanager
def unchanged(who: str, problem: Problem, model: nn.Module, batch: Batch) -> Iterator[None]:
    """Raise `Broken` where the code in the block, that of `who`, changes the model or the examples."""
    before = _state(problem, model, batch)
    yield
    after = _state(problem, model, batch)
    for what, found in before.items():
        if after[what] != found:
            raise Broken(
                f"{who}() changes {what}: it may look at the model and at examples, and must leave them as "
                "they are; work on a copy"
            )


def _state(problem: Problem, model: nn.Module, batch: Batch) -> dict[str, object]:
    weights = dict(model.named_parameters())
    kept = [value for name, value in model.state_dict().items() if name not in weights]
    return {
        "the weights": _digest(weights.values()),
        "the buffers of the model": _digest(one for one in kept if isinstance(one, Tensor)),  # no caches
        "which parameters are trained": [p.requires_grad for p in model.parameters()],
        "the mode of a module": [
            (module.training, getattr(module, "track_running_stats", None)) for module in model.modules()
        ],
        "the mini-batch": batch.digest(),
        "the training examples": _measured(problem).digest(),
    }


def _measured(problem: Problem) -> Batch:
    with torch.random.fork_rng(devices=[]):  # draws from no stream break another promise
        torch.manual_seed(0)
        return problem.measured(min(MEASURED, problem.task.measure_examples))


def _digest(tensors: Iterable[Tensor]) -> str:
    total = hashlib.sha256()
    for one in tensors:
        total.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
