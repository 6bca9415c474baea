"""Stores of many made-up finished runs, with records as large as real ones.

Tasks and optimizers are built in, so a leaderboard can load them.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from suite.entries.registry import Registry
from suite.entries.select import select
from suite.metric import Description
from suite.records.schema import (
    Cost,
    Estimate,
    Failure,
    Origin,
    Provenance,
    Record,
    Sharpness,
    Sources,
    SplitResult,
    pack_right,
    to_document,
)
from suite.spec import EntryRef, RunSpec

TASKS = (
    "cifar10-resnet8-5k",
    "digits-cnn",
    "cifar10-resnet8-5k-label-noise[noise=0.1|0.2|0.3|0.4]",
    "cifar10-resnet8-5k-width[width=4|8|16|32]",
)
OPTIMIZERS = ("sgd", "sam", "lpf-sgd", "nso", "adam", "adabelief", "sgd[momentum=0]", "sam[rho=0.1]",
              "sam[rho=0.2]", "adam[lr=0.003]")  # fmt: skip
RATES = "0.1|0.001|0.002|0.005|0.01|0.02|0.03|0.04|0.06|0.08"
N_TRAIN, N_TEST = 4500, 10_000
_MEASURES = ("lambda_max", "hessian_trace", "lpf", "lpf_difference")


@cache
def _right(n: int) -> str:
    """Return evidence of n correct examples, as long as that of a real run."""
    bits = sum(1 << position for position in random.Random(n).sample(range(N_TEST), n))
    return pack_right(bits.to_bytes(N_TEST // 8, "big"))


def make(root: Path, n: int) -> None:
    """Write `n` finished runs: 10 seeds per setting if n < 1,000, else 100."""
    registry = Registry()
    tasks = [(ref, registry.resolve_task(ref).description) for ref in select(registry, "task", TASKS)]
    optimizers = [
        (ref, float(registry.resolve_optimizer(ref).cost(ref.params)))
        for rate in RATES.split("|")
        for ref in select(registry, "optimizer", [_at_rate(text, rate) for text in OPTIMIZERS])
    ]
    n_seeds = 10 if n < 1000 else 100
    settings = _settings(tasks, optimizers)
    for number, ((ref, task), (optimizer, cost)) in enumerate(itertools.islice(settings, n // n_seeds)):
        for seed in range(n_seeds):
            spec = RunSpec(ref, optimizer, seed, "fake-set", "c" * 64, task.epochs)
            write(root, record(spec, task, number, cost))


def _settings(
    tasks: list[tuple[EntryRef, Description]], optimizers: list[tuple[EntryRef, float]]
) -> Iterator[tuple[tuple[EntryRef, Description], tuple[EntryRef, float]]]:
    """Yield the first ten optimizers with each task, then the next ten with each, and so on."""
    step = len(OPTIMIZERS)
    for start in range(0, len(optimizers), step):
        yield from itertools.product(tasks, optimizers[start : start + step])


def _at_rate(selector: str, rate: str) -> str:
    name, _, inside = selector.rstrip("]").partition("[")
    return f"{name}[{','.join(filter(None, (f'lr={rate}', inside)))}]" if "lr=" not in inside else (
        f"{name}[lr={float(rate) / 7}]"
    )  # fmt: skip


def write(root: Path, content: Record) -> None:
    """Write the files of a finished run, without its attempts."""
    folder = root / "runs" / content.run_id
    os.makedirs(folder)
    (folder / "spec.json").write_bytes(msgspec.json.encode(content.spec, order="sorted"))
    (folder / "result.json").write_bytes(to_document(content))


def record(spec: RunSpec, task: Description, setting: int, cost: float) -> Record:
    """Make up a record; settings differ in accuracy, runs with the same seed correlate, a few failed."""
    draw = random.Random(f"{setting} {spec.seed}")
    common = random.Random(spec.seed).gauss(0.0, 0.01)
    accuracy = round((0.6 + 0.002 * (setting % 37) + common + draw.gauss(0.0, 0.01)) * N_TEST) / N_TEST
    failed = draw.random() < 0.002 and setting % 5 == 0
    iterations = draw.choice((3, 4, 5))
    seconds = 100.0 * cost * (1 + setting % 3 / 20)
    monte_carlo = "monte carlo: sigma 0.01, 4 antithetic pairs"
    measures = {
        name: Estimate(100.0 * draw.random(), draw.random(), draw.random(), 1000, 80, monte_carlo, version=1)
        for name in _MEASURES
    }
    measures["lambda_max"] = replace(
        measures["lambda_max"], probes=iterations, estimator=f"lanczos: {iterations} iterations", version=2
    )
    results = {}
    for split in task.evaluated:
        test = split in task.tests
        shown = accuracy if test else round((accuracy + draw.gauss(0.0, 0.01)) * N_TEST) / N_TEST
        results[split] = SplitResult(
            N_TEST,
            {"accuracy": shown, "loss": 1.0 - draw.random() / 10},
            {"accuracy": round(accuracy * N_TEST - 10) / N_TEST, "loss": 1.0} if test else {},
            {"accuracy": _right(round(shown * N_TEST))} if test else {},
        )
    loss = 0.7 - draw.random() / 10
    on_subset: dict[str, float | None] = {"accuracy": 0.75, "loss": loss}
    rise = measures["lpf_difference"].value
    assert rise is not None
    measures["lpf"] = replace(measures["lpf"], value=loss + rise)
    steps = round(spec.epochs * 36)
    gradients = round(steps * N_TRAIN / 36 * cost)
    return Record(
        protocol=spec.protocol,
        engine=spec.engine,
        run_id=spec.run_id,
        spec=spec,
        task=task,
        status="failed" if failed else "completed",
        failure=Failure("diverged", 36 * spec.seed, "not finite") if failed else None,
        results={} if failed else results,
        sharpness=None if failed else Sharpness(1000, on_subset, measures),
        cost=Cost(
            sample_gradients=float(gradients),
            gradients=gradients,
            losses=0,
            function=0.0,
            forward_only=44_980,
            steps=steps,
            n_train=N_TRAIN,
            declared=cost,
            train_s=round(seconds + draw.gauss(0.0, 3.0), 3),
            evaluate_s=round(10 + draw.random(), 3),
            measure_s=round(30 + draw.random(), 3),
        ),
        sources=Sources("a" * 64, "b" * 64),
        data={"split_checksum": "d" * 64},
        provenance=Provenance(
            origin=Origin("e" * 64, "f" * 40, "cpu: a processor, torch 2.15.0, python 3.11.7"),
            versions={f"package-{i}": "1.2.3" for i in range(10)},
            hardware={"cores": 2, "cpu": "a processor", "gpu": None, "system": "Linux x86_64"},
            bit_exact=True,
            attempts=1,
        ),
    )
