"""What W&B gets of a run: its config, its curve, its summary and its labels, all read from the store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from suite.metric import Description
from suite.records.schema import Record
from suite.sharpness import MEASURES
from suite.spec import RunSpec, canonical_json, sha256_text
from suite.store.folders import RunFolder
from suite.store.lease import attempt_numbers
from suite.store.lines import finite, read_lines

FORMAT = 2
"""Raise it when what a run is mirrored as changes: every run is then mirrored again.

Offline that is a new file. Online the summary is new and rows are added, but a server drops the steps that it
has: rows that changed show in another project only.
"""

NAME_CHARS, TAG_CHARS = 128, 64
"""How long W&B takes names (groups, job types) and tags."""

_COLUMNS = {
    "epoch": "epoch",
    "lr": "lr",
    "sample_gradients": "sample_gradients",
    "train_s": "seconds/train",
    "evaluate_s": "seconds/evaluate",
    "measure_s": "seconds/measure",
    "sharpness_train_loss": "sharpness/train_loss",
    **{
        f"{name}{error}": f"sharpness/{name}{error}"
        for name in MEASURES
        for error in ("", "_se_probes", "_se_examples")
    },
}
"""By the store's name of a column, W&B's; what stands before the slash is a section of its page.

Measures are named as in the summary.
"""


def column(name: str, task: Description | None) -> str:
    """Return W&B's name of a column: a metric under its split, a column of the task in the section `task`.

    Without what the task declares, only the loss of training is known to be a metric.
    """
    if name in _COLUMNS:
        return _COLUMNS[name]
    metrics = {"loss", *(metric.name for metric in task.metrics)} if task else {"loss"}
    for split in ("train", *([task.validation] if task and task.validation else [])):
        metric = name.removeprefix(f"{split}_")
        if metric != name and metric in metrics:
            return f"{split}/{metric}"
    return f"task/{name}"


@dataclass(frozen=True)
class Labels:
    """Labels of a run's task and optimizer, and the task's tier; as short as W&B takes them."""

    task: str
    optimizer: str
    tier: str = ""

    def __post_init__(self) -> None:
        for name, limit in (("task", NAME_CHARS), ("optimizer", NAME_CHARS), ("tier", TAG_CHARS)):
            object.__setattr__(self, name, shorten(getattr(self, name), limit))


def shorten(text: str, limit: int) -> str:
    """Put text on one line of at most `limit` characters; of longer ones a digest keeps two apart."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else f"{line[: limit - 10].rstrip()}… #{sha256_text(repr(text))[:7]}"


@dataclass(frozen=True)
class Content:
    """A run as it is in the store now."""

    spec: RunSpec
    status: str
    """completed, failed, or, while there is no record, interrupted."""
    rows: tuple[dict[str, Any], ...]
    """One an epoch under W&B's names, each with its `step`."""
    summary: Mapping[str, Any]
    digest: str
    """Of all that is mirrored."""


def read(folder: RunFolder) -> Content | None:
    """Read a run; None where nothing of it was ever made. SteppeError where spec or record is damaged."""
    spec, record = folder.spec(), folder.record()
    rows = _rows(folder, record.task if record else folder.description())
    if record is None and not rows:
        return None
    status = record.status if record else "interrupted"
    summary = {"status": status, **(_summary(record) if record else {})}
    digest = sha256_text(canonical_json([FORMAT, rows, summary]))
    return Content(spec, status, tuple(rows), summary, digest)


def _rows(folder: RunFolder, task: Description | None) -> list[dict[str, Any]]:
    """The curve of the attempt that counts; the seconds of steps before it are those of earlier attempts."""
    path = folder.attempt_path()
    if path is None:
        return []
    seconds: dict[int, dict[str, Any]] = {}
    for number in attempt_numbers(folder.path):
        if number <= int(path.name):
            timings = read_lines(path.parent / str(number) / "timings.jsonl")
            seconds |= {row["step"]: row for row in timings if "step" in row}
    rows = []
    for row in read_lines(path / "metrics.jsonl"):
        if isinstance(row.get("step"), int):
            merged = {**seconds.get(row["step"], {}), **row}
            known = {key: value for key, value in merged.items() if value is not None and key != "step"}
            rows.append({"step": row["step"], **{column(key, task): value for key, value in known.items()}})
    return rows


def _summary(record: Record) -> dict[str, Any]:
    """Results, facts, sharpness and cost, flat, errors next to the numbers they belong to."""
    out: dict[str, Any] = {}
    for split, result in record.results.items():
        out[f"{split}/n"] = result.n
        out |= {f"{split}/{name}": value for name, value in result.metrics.items()}
        out |= {f"{split}/{name}_as_trained": value for name, value in result.as_trained.items()}
        for name in result.right:
            share = result.metrics.get(name)
            if share is not None:
                out[f"{split}/{name}_se"] = math.sqrt(share * (1.0 - share) / result.n)  # binomial
    out |= {f"facts/{name}": value for name, value in record.facts.items()}
    if record.sharpness is not None:
        out["sharpness/n"] = record.sharpness.n
        out |= {f"sharpness/train_{name}": value for name, value in record.sharpness.metrics.items()}
        for name, estimate in record.sharpness.measures.items():
            out[f"sharpness/{name}"] = estimate.value
            out |= {f"sharpness/{name}_{key}": getattr(estimate, key) for key in ("se_probes", "se_examples")}
    out |= {f"cost/{key}": value for key, value in msgspec.structs.asdict(record.cost).items()}
    out |= {f"perturbation_cosine/{key}": value for key, value in record.perturbation_cosine.items()}
    if record.failure is not None:
        out["failure"] = record.failure.reason
    return {key: value for key, value in finite(out).items() if value is not None}


def settings_of(spec: RunSpec, labels: Labels | None) -> dict[str, Any]:
    """Return what `wandb.init` takes: id, group, job type, name, tags and config.

    Without labels, all parameters are shown.
    """
    labels = labels or Labels(spec.task.label(), spec.optimizer.label())
    tags = [labels.tier, spec.precision, spec.device, spec.data, spec.protocol]
    return {
        "id": spec.run_id,
        "group": labels.task,
        "job_type": labels.optimizer,
        "name": shorten(f"{labels.optimizer} seed {spec.seed}", NAME_CHARS),
        "tags": list(dict.fromkeys(shorten(tag, TAG_CHARS) for tag in tags if tag)),
        # Every text of it is such that UTF-8 can write it.
        "config": json.loads(json.dumps(spec.to_dict(), ensure_ascii=False).encode("utf-8", "replace")),
    }
