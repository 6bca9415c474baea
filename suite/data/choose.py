"""Choice of an available data set among those of a task. Importing this loads no torch."""

from __future__ import annotations

from pathlib import Path

from suite.data.dataset import Data
from suite.errors import SteppeError, unknown
from suite.task import Task


def choose_data(task: Task, root: Path | None, name: str = "") -> Data:
    """Return the named data set, or the first of `task.data` that is available under `root`.

    Raises SteppeError if the task does not list the name, or if no data set is available.
    """
    by_name = {data.name: data for data in task.data}
    if name and name not in by_name:
        raise unknown(f"data set of task {task.name}", name, by_name)
    wanted = [by_name[name]] if name else list(task.data)
    for data in wanted:
        if data.source.available(root):
            return data
    names = " or ".join(data.name for data in wanted)
    where = f"under {root}" if root is not None else "as no data folder is given"
    raise SteppeError(
        f"task {task.name}: data set {names} not found {where}: run `steppe prepare {task.name}`, "
        f"or point STEPPE_DATA (or --data) at the folder that holds it"
    )
