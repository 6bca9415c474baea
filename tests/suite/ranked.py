"""Steps of every optimizer in a process group, for test_group.py."""

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
"""Sizes of the mini-batches; the last one is smaller than the number of processes."""

N = 3


def net() -> nn.Module:
    """Return a network with dropout, whose mask covers the batch, but no BatchNorm, which uses the slice."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(384, 4)
    )
    return model.double().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Net(Problem):
    """Cross-entropy and accuracy of a network."""

    score_names = ("accuracy",)

    def __init__(self) -> None:
        """Hold no data: the tests provide the batches."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets, reduction="none")

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"accuracy": outputs.argmax(1) == batch.targets}


def batch_of(inputs: Tensor) -> Batch:
    return Batch(inputs=inputs.to(memory_format=torch.channels_last), targets=torch.arange(len(inputs)) % 4)


def steps(ranks: ProcessGroup) -> dict[str, Any]:
    """Take a step of every optimizer on each mini-batch; return weights, losses, scores and meter."""
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
    """Share a state from rank 0 and agree on flags; return the results of this rank."""
    state = {"w": torch.arange(5.0), "n": 3, "name": "sgd"} if ranks.rank == 0 else None
    flags = [ranks.agreed(flag) for flag in ((True, False) if ranks.rank == 0 else (False, True))]
    told = ranks.share(state)
    assert told is not None
    return {**told, "w": told["w"].tolist()}, flags, ranks.share(None)


def parts(ranks: ProcessGroup) -> str:
    """Change a weight on the last rank; return the error that `check` raises on this rank."""
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
    """Leave the group on the last rank; return the error that the next gradient raises on the others."""
    if ranks.rank == ranks.n - 1:
        return "left"
    model = net()
    objective = BatchObjective(model, Net(), Streams(3), ranks=ranks)
    objective.load(0, batch_of(torch.zeros(16, 3, 8, 8, dtype=torch.float64)))
    try:
        objective()
    except Exception as error:  # noqa: BLE001 - the test checks its type
        return f"{type(error).__name__}: {error}"
    return "noticed nothing"


def together(what: str, n: int = N) -> list[Any]:
    """Return the results of function `what` in n new processes; tensors cannot be sent by ended ones."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["suite.engine.train", "suite.sharpness.lambda_max", "torch._dynamo"])
    pipes = [context.Pipe() for _ in range(n)]
    processes = [context.Process(target=_member, args=(r, n, pipes[r][1], what)) for r in range(n)]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that `recv` raises EOFError if the process fails
    port = pipes[0][0].recv()
    for ours, _ in pipes[1:]:
        ours.send(port)
    out = [ours.recv() for ours, _ in pipes]
    for process in processes:
        process.join(60)
    return out


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
