"""Stores of many finished runs that nobody trained; their records are as big as real ones.

Tasks and optimizers are built-in ones, so that a leaderboard knows them.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.registry import Registry
from suite.select import select
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
_CORRECT = base64.b64encode(random.Random(0).randbytes(1060)).decode()


def make(root: Path, n: int) -> None:
    """Write `n` finished runs: 10 seeds of each setting below 1,000 runs, then 100."""
    registry = Registry()
    tasks = [(ref, registry.resolve_task(ref).epochs) for ref in select(registry, "task", TASKS)]
    optimizers = [
        (ref, float(registry.resolve_optimizer(ref).cost(ref.params)))
        for rate in RATES.split("|")
        for ref in select(registry, "optimizer", [_at_rate(text, rate) for text in OPTIMIZERS])
    ]
    n_seeds = 10 if n < 1000 else 100
    settings = _settings(tasks, optimizers)
    for number, ((task, epochs), (optimizer, cost)) in enumerate(itertools.islice(settings, n // n_seeds)):
        for seed in range(n_seeds):
            spec = RunSpec(task, optimizer, seed, "fake-set", "c" * 64, float(epochs))
            write(root, spec, record(spec, number, cost))


def _settings(
    tasks: list[tuple[EntryRef, int]], optimizers: list[tuple[EntryRef, float]]
) -> Iterator[tuple[tuple[EntryRef, int], tuple[EntryRef, float]]]:
    """Yield ten optimizers of each task, then ten more of each, and so on."""
    step = len(OPTIMIZERS)
    for start in range(0, len(optimizers), step):
        yield from itertools.product(tasks, optimizers[start : start + step])


def _at_rate(selector: str, rate: str) -> str:
    name, _, inside = selector.rstrip("]").partition("[")
    return f"{name}[{','.join(filter(None, (f'lr={rate}', inside)))}]" if "lr=" not in inside else (
        f"{name}[lr={float(rate) / 7}]"
    )  # fmt: skip


def write(root: Path, spec: RunSpec, content: dict[str, Any]) -> None:
    """Write what a finished run leaves, less its attempts."""
    folder = root / "runs" / content["run_id"]
    os.makedirs(folder)
    for name, value in (("spec.json", spec.to_dict()), ("result.json", content)):
        (folder / name).write_bytes(json.dumps(value, sort_keys=True).encode())


def record(spec: RunSpec, setting: int, cost: float) -> dict[str, Any]:
    """Make up a record; optimizers differ, seeds have something in common, a few in a thousand failed."""
    draw = random.Random(f"{setting} {spec.seed}")
    common = random.Random(spec.seed).gauss(0.0, 0.01)
    accuracy = round((0.6 + 0.002 * (setting % 37) + common + draw.gauss(0.0, 0.01)) * N_TEST) / N_TEST
    failed = draw.random() < 0.002 and setting % 5 == 0
    iterations = draw.choice((3, 4, 5))
    seconds = 100.0 * cost * (1 + setting % 3 / 20)
    estimates: dict[str, dict[str, Any]] = {
        name: {"value": 100.0 * draw.random(), "se_probes": draw.random(), "se_examples": draw.random(),
               "n": 1000, "probes": 80, "estimator": "monte carlo: sigma 0.01, 4 antithetic pairs"}
        for name in _MEASURES
    }  # fmt: skip
    estimates["lambda_max"] |= {"probes": iterations, "estimator": f"lanczos: {iterations} iterations"}
    steps = round(spec.epochs * 36)
    return {
        "record_version": 1,
        "protocol": spec.protocol,
        "run_id": spec.run_id,
        "spec": spec.to_dict(),
        "status": "failed" if failed else "completed",
        "failure": {"kind": "diverged", "step": 36 * spec.seed, "reason": "not finite"} if failed else None,
        "results": {} if failed else {
            "n_test": N_TEST, "test_accuracy": accuracy, "test_accuracy_as_trained": accuracy - 0.001,
            "test_loss": 1.0 - draw.random() / 10, "validation_accuracy": accuracy + draw.gauss(0.0, 0.01),
            "validation_loss": 1.0 - draw.random() / 10,
        },
        "sharpness": {} if failed else {
            "n": 1000, "train_accuracy": 0.75, "train_loss": 0.7 - draw.random() / 10, "measures": estimates
        },
        "correct": "" if failed else _CORRECT,
        "cost": {
            "sample_gradients": round(steps * N_TRAIN / 36 * cost), "forward_only": 44_980, "steps": steps,
            "n_train": N_TRAIN, "declared": cost, "train_s": round(seconds + draw.gauss(0.0, 3.0), 3),
            "evaluate_s": round(10 + draw.random(), 3), "measure_s": round(30 + draw.random(), 3),
        },
        "entries": {"task": "a" * 64, "optimizer": "b" * 64},
        "data": {"split_checksum": "d" * 64, "noise_checksum": ""},
        "provenance": {
            "fingerprint": "cpu: a processor, 1 of 2 threads, torch 2.15.0, python 3.11.7",
            "source_tree": "e" * 64, "git_commit": "f" * 40, "bit_exact": True, "attempts": 1,
            "versions": {f"package-{i}": "1.2.3" for i in range(10)},
            "hardware": {"cores": 2, "cpu": "a processor", "gpu": None, "system": "Linux x86_64"},
        },
    }  # fmt: skip
