"""Where things are in a site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def known(root: Path) -> dict[str, Any]:
    """What data/runs.js holds."""
    text = (root / "data" / "runs.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(re.sub(r"^[^=]*=[^=]*= ", "", text).removesuffix(";\n"))
    return found


def page_of(root: Path, task: str) -> str:
    """The page of the task whose title starts so."""
    return next(href for title, href in known(root)["pages"] if title.startswith(task))


def runs_of(root: Path, task: str, optimizer: str) -> list[str]:
    """Ids of the runs of an optimizer on a task, by seed."""
    data = known(root)
    found = [run for run in data["runs"] if run[1] >= 0 and data["pages"][run[1]][0].startswith(task)
             and data["optimizers"][run[2]].startswith(optimizer)]  # fmt: skip
    return [run[0] for run in sorted(found, key=lambda run: (run[4], run[3]))]
