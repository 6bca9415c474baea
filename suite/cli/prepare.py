"""Download and verify the data sets of tasks; the only command that downloads."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.data.dataset import Data
from suite.entries.select import select
from suite.errors import SteppeError, unknown
from suite.task import Task


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("task", nargs="+", metavar="TASK", help="tasks: NAME, glob, NAME[key=value]")
    options.add_data(parser)
    options.add_plugins(parser)


def execute(args: Arguments) -> int:
    """Prepare a data set of each task: the named one, else one that exists, else the task's first."""
    registry = args.registry
    given = args.data or os.environ.get("STEPPE_DATA") or None
    root = Path(given) if given else None
    chosen: dict[str, tuple[Data, list[str]]] = {}
    for reference in select(registry, "task", args.task):
        task = registry.resolve_task(reference)
        dataset = _choose(task, root, args.data_set)
        chosen.setdefault(dataset.name, (dataset, []))[1].append(task.name)
    for dataset, tasks in chosen.values():
        folder = _folder(dataset, root)
        print(f"{dataset.name}: preparing {f'in {folder}' if root else '(built in)'} ...", flush=True)
        dataset.source.prepare(folder)
        print(f"{dataset.name}: ready, checksums agree; used by {', '.join(tasks)}")
    return 0


def _choose(task: Task, root: Path | None, name: str) -> Data:
    by_name = {dataset.name: dataset for dataset in task.data}
    if name:
        if name not in by_name:
            raise unknown(f"data set of task {task.name}", name, by_name)
        return by_name[name]
    there = (dataset for dataset in task.data if dataset.source.available(root))
    return next(there, task.data[0])


def _folder(dataset: Data, root: Path | None) -> Path:
    if root is None:
        if dataset.source.available(None):
            return Path()
        raise SteppeError(
            f"no data folder for {dataset.name}: give --data DIR, or set STEPPE_DATA for every command"
        )
    root.mkdir(parents=True, exist_ok=True)
    return root
