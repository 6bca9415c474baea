"""Sites made from records that no training made: what the browser is let loose on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite.entries.registry import Registry
from suite.metric import Metric
from suite.records.schema import Record
from suite.report import leaderboard, site
from suite.report.strata import once
from suite.store.folders import Store
from tests.suite.report import foreign
from tests.suite.report.fake_records import PARAMS, TASKS, record, seeds, wavy

HOSTILE = "<script>window.hacked=1</script>'\"><img src=x onerror=window.hacked=1>🦬"
LONG = "long-" + "name" * 74
OPTIMIZERS = dict.fromkeys(("sgd", "sam", "nso", "adam"), PARAMS)


def records() -> list[Record]:
    """Every word of a comparison, each view, a failure, a grid, and names chosen to do harm."""
    digits = {"task": "digits"}
    out = seeds("sgd", wavy(0.65, 0.004)) + seeds("nso", wavy(0.6502, 0.004, phase=1), train_loss=0.7)
    out += seeds("sam", wavy(0.655, 0.01, phase=3), curvature=8.0) + seeds("adam", wavy(0.60))
    out += seeds("nso", wavy(0.64), epochs=20.0)
    out.append(record("adabelief", 0, failed=True))
    out += seeds("sgd", [0.97, 0.96], **digits) + seeds("sam", [0.975, 0.97], rho=0.1, **digits)
    out += seeds("sam", [0.965, 0.962], rho=1e-05, **digits)
    out += seeds("hostile", [0.7, 0.71], task="hostile", noise=HOSTILE, rho=HOSTILE) + seeds(
        LONG, [0.7, 0.72], task=LONG
    )
    return out


def board(some: Iterable[Record]) -> leaderboard.Leaderboard:
    return leaderboard.build(some, TASKS, OPTIMIZERS, "steppe leaderboard --format html")


def material(some: Sequence[Record], store: Store | None = None) -> site.Material:
    return site.Material(once(some), store, Registry())


def stored(root: Path, some: Iterable[Record], epochs: int = 8) -> Store:
    """A store with these records and a curve for each but the failed: those failed at once."""
    store = Store(root)
    for each in some:
        folder = store.run(each.run_id)
        folder.write_spec(each.spec)
        noise = random.Random(each.run_id)
        with folder.start() as attempt:
            for epoch in range(1, 1 if each.failed else epochs + 1):
                attempt.metrics(row(each, epoch, noise.random()))
            assert attempt.publish(each)
    return store


def row(each: Record, epoch: int, noise: float) -> dict[str, Any]:
    """The row of an epoch: the columns of the record's task, along curves that fall or rise."""
    loss, task = 2 / epoch + 0.1 * noise, each.task
    out: dict[str, Any] = {"epoch": epoch, "step": 36 * epoch, "lr": 0.1 / epoch, "train_loss": loss}
    out["sample_gradients"] = 4500 * epoch
    for metric in task.metrics:
        out[f"train_{metric.name}"] = along(metric, epoch, loss)
        if task.validation:
            out[f"{task.validation}_{metric.name}"] = along(metric, epoch, 1.1 * loss)
    out |= {column.name: epoch / (1 + noise) for column in task.columns}
    if epoch % 4 == 0:
        measured = {"lambda_max": 40 / epoch, "lambda_max_se_probes": 1 / epoch}
        out |= {**measured, "sharpness_train_loss": 0.9 * loss}
    return out


def along(metric: Metric, epoch: int, loss: float) -> float:
    if metric.name == "loss":
        return loss
    if metric.unit == "%":
        return 1 - 0.45 * loss
    if metric.scale == "log":
        return 0.0 if epoch > 7 else 10.0 ** -(epoch + loss)
    return 100 * loss


def write(root: Path, *, curves: bool, some: Sequence[Record] | None = None) -> Path:
    """Write a site, of `records` if no others are given, from a store with curves or without."""
    some = records() if some is None else some
    store = stored(root / "store", once(some).values()) if curves else None
    return site.write(root / "site", board(some), material(some, store)).parent


def foreign_tasks() -> list[Record]:
    """Tasks that classify no images, and one that does."""
    return [*foreign.everything(), *seeds("sgd", wavy(0.6)), *seeds("sam", wavy(0.61, phase=2))]
