"""Content of a run on W&B: config, curve, summary and labels, read from the store."""

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
"""Version of the mirrored content. A new version makes `steppe wandb sync` mirror every run again.

Offline this writes a new file. Online the summary is replaced and rows are added, but a server ignores steps
that it already has, so changed rows appear only in another project.
"""

NAME_CHARS, TAG_CHARS = 128, 64
"""W&B's maximum length of names (groups, job types) and of tags."""

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
"""W&B's names of columns by the store's names. The part before the slash is a section of W&B's page.

Measures have the names of the summary.
"""


def column(name: str, task: Description | None) -> str:
    """Return W&B's name of a column: metrics in the section of their split, other columns in `task`.

    Without a task description, only the training loss is known to be a metric.
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
    """Labels of a run's task and optimizer, and the task's tier, shortened to W&B's limits."""

    task: str
    optimizer: str
    tier: str = ""

    def __post_init__(self) -> None:
        for name, limit in (("task", NAME_CHARS), ("optimizer", NAME_CHARS), ("tier", TAG_CHARS)):
            object.__setattr__(self, name, shorten(getattr(self, name), limit))


def shorten(text: str, limit: int) -> str:
    """Put text on one line of at most `limit` characters; longer texts end in a digest."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else f"{line[: limit - 10].rstrip()}… #{sha256_text(repr(text))[:7]}"


@dataclass(frozen=True)
class Content:
    """Current content of a run in the store."""

    spec: RunSpec
    status: str
    """completed or failed; interrupted without a record."""
    rows: tuple[dict[str, Any], ...]
    """One row per epoch under W&B's names, each with its `step`."""
    summary: Mapping[str, Any]
    digest: str
    """Digest of everything that is mirrored."""


def read(folder: RunFolder) -> Content | None:
    """Read a run; None if it has neither rows nor a record. SteppeError if spec or record is damaged."""
    spec, record = folder.spec(), folder.record()
    rows = _rows(folder, record.task if record else folder.description())
    if record is None and not rows:
        return None
    status = record.status if record else "interrupted"
    summary = {"status": status, **(_summary(record) if record else {})}
    digest = sha256_text(canonical_json([FORMAT, rows, summary]))
    return Content(spec, status, tuple(rows), summary, digest)


def _rows(folder: RunFolder, task: Description | None) -> list[dict[str, Any]]:
    """Return the curve of the attempt that counts, with the seconds of earlier attempts for earlier steps."""
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
    """Return results, facts, sharpness and cost with their errors as one flat mapping."""
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
    """Return the arguments of `wandb.init`: id, group, job type, name, tags and config.

    Without labels, names show all parameters.
    """
    labels = labels or Labels(spec.task.label(), spec.optimizer.label())
    tags = [labels.tier, spec.precision, spec.device, spec.data, spec.protocol]
    return {
        "id": spec.run_id,
        "group": labels.task,
        "job_type": labels.optimizer,
        "name": shorten(f"{labels.optimizer} seed {spec.seed}", NAME_CHARS),
        "tags": list(dict.fromkeys(shorten(tag, TAG_CHARS) for tag in tags if tag)),
        # Texts may hold lone surrogates, which UTF-8 cannot encode.
        "config": json.loads(json.dumps(spec.to_dict(), ensure_ascii=False).encode("utf-8", "replace")),
    }
