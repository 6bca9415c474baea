"""All that an offline file of wandb's holds, for tests to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.track.reader import records, values


@dataclass
class OfflineRun:
    """What an offline file holds."""

    run: dict[str, Any] = field(default_factory=dict)
    """id, group, job_type, name, project, tags."""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None
    """None where the run was not ended."""


def read(path: Path) -> OfflineRun:
    """Read a .wandb file up to its end or to where it is torn."""
    found = OfflineRun()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.run = {
                "id": run.run_id,
                "group": run.run_group,
                "job_type": run.job_type,
                "name": run.display_name,
                "project": run.project,
                "tags": list(run.tags),
            }
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "history":
            found.rows.append(values(record.history.item))
        elif kind == "summary":
            found.summary |= values(record.summary.update)
        elif kind == "artifact":
            found.artifacts.append(record.artifact.name)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found
