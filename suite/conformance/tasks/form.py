"""Promises of a task about its form and its data: without them nothing else can be judged."""

from __future__ import annotations

from suite import sharpness
from suite.conformance.check import Broken, name_and_text
from suite.conformance.tasks import images
from suite.conformance.tasks.case import TaskCase
from suite.data.choose import choose_data
from suite.errors import unknown
from suite.metric import Metric
from suite.problem import Setting, Splits
from suite.problems.image_task import ImageTask
from suite.spec import TIERS


def well_formed(case: TaskCase) -> str:
    """Named, described, with metrics and measures that there are; entry and task say the same."""
    entry = case.entry
    name_and_text(entry.name, entry.version, {"summary": entry.summary})
    if entry.tier not in TIERS:
        raise unknown("tier", entry.tier, TIERS)
    silent = [name for name, param in entry.params.items() if not param.help]
    if silent:
        raise Broken(f"no help text for {', '.join(silent)}: say what each parameter is")
    task = case.task
    for what in ("name", "version", "tier"):
        if getattr(entry, what) != getattr(task, what):
            raise Broken(
                f"the entry has the {what} {getattr(entry, what)!r}, the task that it makes "
                f"{getattr(task, what)!r}: give both the same"
            )
    for metric in (*task.metrics, *task.facts, *task.columns):
        if not isinstance(metric, Metric):  # a plugin's file is not type-checked
            raise Broken(f"{metric!r} is not a Metric: suite.metric has its fields")
    sharpness.check_names((*task.measures, *task.curve_measures))
    if isinstance(task, ImageTask):
        images.declared(task)
    size = f"batches of {task.batch_size}" if task.batch_size else "all examples in every step"
    primary = task.metrics[0]
    return f"{task.epochs:g} epochs, {size}; compared by {primary.name}, {primary.better} is better"


def finds_data(case: TaskCase) -> str:
    """The data set is there and whole, and the task's problem can be made of it."""
    task = case.task
    data = choose_data(task, case.data_root, case.data_name)
    data.source.verify(case.data_root)
    problem = task.problem(Setting(task, data, Splits(data, case.data_root, case.cache)))
    if isinstance(task, ImageTask):
        images.check_arrays(task, problem)
    return f"{data.name}: {problem.n_train} training examples"
