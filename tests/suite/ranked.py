"""Steps of every optimizer in several processes at once, for test_group.py."""

from __future__ import annotations

import multiprocessing
import socket
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.engine.torch_process_group import coordinate, join
from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.objective import BatchObjective
from suite.parameters import Parameters
from suite.problem import Problem
from suite.process_group import ProcessGroup
from suite.seeds import NormalStream, Streams
from suite.spec import BuildContext

OPTIMIZERS = {
    "sgd": {},
    "adam": {},
    "sam": {},
    "lpf-sgd": {"M": "4", "scale": "tensor"},
    "nso": {"k": "2"},
    "adabelief": {},
}
SIZES = (16, 7, 2)
"""Examples of the mini-batches; the last one has fewer than there are processes."""

N = 3


def net() -> nn.Module:
    """Without BatchNorm, whose statistics are those of a slice; with dropout, whose mask is the batch's."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(384, 4)
    )
    return model.double().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Net(Problem):
    """Cross-entropy of a net, and how many examples are right."""

    score_names = ("accuracy",)

    def __init__(self) -> None:
        """Have no data: the tests hand batches out."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="none")

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"accuracy": outputs.argmax(1) == batch.targets}


def batch_of(inputs: Tensor) -> Batch:
    return Batch(inputs=inputs.to(memory_format=torch.channels_last), targets=torch.arange(len(inputs)) % 4)


def steps(ranks: ProcessGroup) -> dict[str, Any]:
    """Three steps of every optimizer: what a process knows afterwards."""
    registry = Registry()
    out: dict[str, Any] = {}
    for name, overrides in OPTIMIZERS.items():
        reference = registry.reference("optimizer", name, overrides)
        model = net()
        entry = registry.resolve_optimizer(reference)
        context = BuildContext(len(SIZES), NormalStream(3))
        optimizer = entry.build(Parameters.of(model), reference.params, context)
        objective = BatchObjective(model, Net(), Streams(3), ranks=ranks)
        told = []
        for step, n in enumerate(SIZES):
            generator = torch.Generator().manual_seed(step)
            inputs = torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)
            objective.load(step, batch_of(inputs))
            loss = optimizer.step(objective)  # type: ignore[arg-type]
            told += [float(loss), float(objective.scores["accuracy"])]  # type: ignore[arg-type]
        weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
        out[name] = {"weights": weights, "told": told, "meter": vars(objective.meter).copy()}
    return out


def _member(rank: int, n: int, pipe: Connection, what: str) -> None:
    torch.set_num_threads(1)
    group: AbstractContextManager[ProcessGroup | None]
    if rank == 0:
        group = coordinate(n, "cpu", "127.0.0.1", pipe.send, lambda: False)
    else:
        group = join(rank, n, "cpu", "127.0.0.1", pipe.recv())
    with group as ranks:
        assert ranks is not None
        pipe.send(globals()[what](ranks))


def shared(ranks: ProcessGroup) -> tuple[Any, list[bool], Any]:
    """What rank 0 says is what all know."""
    state = {"w": torch.arange(5.0), "n": 3, "name": "sgd"} if ranks.rank == 0 else None
    flags = [ranks.agreed(flag) for flag in ((True, False) if ranks.rank == 0 else (False, True))]
    told = ranks.share(state)
    assert told is not None
    return {**told, "w": told["w"].tolist()}, flags, ranks.share(None)


def parts(ranks: ProcessGroup) -> str:
    """The last one comes to other weights; all learn of it."""
    model = net()
    weights = [*model.parameters(), nn.Parameter(torch.zeros((), dtype=torch.float64))]
    ranks.check(weights)
    if ranks.rank == ranks.n - 1:
        with torch.no_grad():
            next(model.parameters())[0, 0, 0, 0].nextafter_(torch.tensor(9.0, dtype=torch.float64))
    try:
        ranks.check(weights)
    except SteppeError as error:
        return str(error)
    return "noticed nothing"


def leaves(ranks: ProcessGroup) -> str:
    """The last one goes away in the midst of things; the others notice."""
    if ranks.rank == ranks.n - 1:
        return "left"
    model = net()
    objective = BatchObjective(model, Net(), Streams(3), ranks=ranks)
    objective.load(0, batch_of(torch.zeros(16, 3, 8, 8, dtype=torch.float64)))
    try:
        objective()
    except Exception as error:  # noqa: BLE001 - what it is, is the question
        return f"{type(error).__name__}: {error}"
    return "noticed nothing"


def together(what: str, n: int = N) -> list[Any]:
    """What n fresh processes return from the function of that name; a tensor would need its sender alive."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["suite.engine.train", "suite.sharpness.lambda_max", "torch._dynamo"])
    pipes = [context.Pipe() for _ in range(n)]
    processes = [context.Process(target=_member, args=(r, n, pipes[r][1], what)) for r in range(n)]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that the end of a process that failed is the end of its pipe
    port = pipes[0][0].recv()
    for ours, _ in pipes[1:]:
        ours.send(port)
    out = [ours.recv() for ours, _ in pipes]
    for process in processes:
        process.join(60)
    return out


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
