"""Sites made from records that no training made: what the browser is let loose on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.report import leaderboard, site
from suite.report.runs import TaskInfo
from suite.spec import RunSpec
from suite.store import Store
from tests.suite.report.records import PARAMS, TASKS, record, seeds, wavy

HOSTILE = "<script>window.hacked=1</script>'\"><img src=x onerror=window.hacked=1>🦬"
LONG = "long-" + "name" * 74
INFOS = {**TASKS, HOSTILE: TaskInfo("small", lambda _: 40.0), LONG: TaskInfo("full", lambda _: 40.0)}
OPTIMIZERS = {"sgd": PARAMS, "sam": PARAMS, "nso": PARAMS, "adam": PARAMS}


def records() -> list[dict[str, Any]]:
    """Every word of a comparison, each view, a failure, a grid, and names chosen to do harm."""
    digits = {"task": "digits"}
    out = seeds("sgd", wavy(0.65, 0.004)) + seeds("nso", wavy(0.6502, 0.004, phase=1), train_loss=0.7)
    out += seeds("sam", wavy(0.655, 0.01, phase=3), curvature=8.0) + seeds("adam", wavy(0.60))
    out += seeds("nso", wavy(0.64), epochs=20.0)
    out.append(record("adabelief", 0, failed=True))
    out += seeds("sgd", [0.97, 0.96], **digits) + seeds("sam", [0.975, 0.97], rho=0.1, **digits)
    out += seeds("sam", [0.965, 0.962], rho=1e-05, **digits)
    out += seeds(HOSTILE, [0.7, 0.71], task=HOSTILE) + seeds(LONG, [0.7, 0.72], task=LONG)
    return out


def board(
    some: Sequence[Mapping[str, Any]], infos: Mapping[str, TaskInfo] = INFOS
) -> leaderboard.Leaderboard:
    return leaderboard.build(some, infos, OPTIMIZERS, "steppe leaderboard --format html")


def material(some: Sequence[Mapping[str, Any]], store: Store | None = None) -> site.Material:
    return site.Material(
        records={each["run_id"]: each for each in some},
        store=store,
        command=lambda spec: f"steppe run -t {spec.task.name} -o {spec.optimizer.name} -s {spec.seed}",
        commands=lambda specs: [f"steppe run -s 0-{len(specs) - 1}"],
    )


def stored(root: Path, some: Sequence[Mapping[str, Any]], epochs: int = 8) -> Store:
    """A store with these records and a curve for each but the failed: those failed at once."""
    store = Store(root)
    for each in some:
        folder = store.run(each["run_id"])
        folder.write_spec(RunSpec.from_dict(each["spec"]))
        noise = random.Random(each["run_id"])
        with folder.start() as attempt:
            for epoch in range(1, 1 if each["status"] == "failed" else epochs + 1):
                loss = 2 / epoch + 0.1 * noise.random()
                measured = {"lambda_max": 40 / epoch, "lambda_max_se_probes": 1 / epoch,
                            "sharpness_train_loss": 0.9 * loss}  # fmt: skip
                attempt.metrics({
                    "epoch": epoch, "step": 36 * epoch, "lr": 0.1 / epoch, "train_loss": loss,
                    "train_accuracy": 1 - 0.9 / epoch, "sample_gradients": 4500 * epoch,
                    "validation_loss": 1.1 * loss, "validation_accuracy": 1 - 0.95 / epoch,
                    **(measured if epoch % 4 == 0 else {}),
                })  # fmt: skip
            assert attempt.publish(dict(each))
    return store


def write(root: Path, *, curves: bool) -> Path:
    """Write the site of `records`, from a store with curves or as published records without."""
    some = records()
    store = stored(root / "store", some) if curves else None
    return site.write(root / "site", board(some), material(some, store)).parent
