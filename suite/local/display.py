"""What a person sees of a running sweep: one live table on a terminal, plain lines anywhere else.

Everything shown comes from the pool's events. On a terminal the table holds the runs in work and a line for
the sweep, and a run that ends leaves a line above it. Elsewhere there is one line an epoch and run, and
no control characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_REFRESH_S = 0.25
_WIDE = 100
"""Columns from which the table also shows task and cost."""


@dataclass
class _Row:
    """A run in work: its newest progress, and where and when this process first saw it move."""

    name: dict[str, Any]
    started: float
    progress: dict[str, Any] | None = None
    first_step: int = 0
    first_time: float = 0.0
    told_epoch: int = 0


class Display:
    """Shows the events of `suite.local.pool.run_pool`; use as a context manager, call with each event.

    Args:
        n_runs: how many runs the pool was given.
        console: where to write; standard error by default, so that standard output stays for programs.
        clock: seconds from any start.

    """

    def __init__(
        self, n_runs: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._n_runs = n_runs
        self._rows: dict[str, _Row] = {}
        self._ended = dict.fromkeys(("done", "failed", "interrupted", "error"), 0)
        self._note = ""
        self._shown = clock()
        self._started: float | None = None  # when the first run moved: imports are no pace
        self._before = 0.0
        rich = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False) if rich else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._rows.clear()
            self._note = ""
            self._live.update(self._page())
            self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take up one event of the pool."""
        kind = event["event"]
        if kind == "started":
            self._rows[event["run_id"]] = _Row(event, self._clock())
        elif kind == "progress":
            self._move(event)
        elif kind == "ended":
            self._end(event)
        elif kind == "stopping":
            self._note = event["message"]
            if not self._live:
                self._print(event["message"])
        if self._live and (kind != "progress" or self._clock() - self._shown >= _REFRESH_S):
            self._shown = self._clock()
            self._live.update(self._page(), refresh=True)

    def _move(self, progress: dict[str, Any]) -> None:
        row = self._rows.setdefault(progress["run_id"], _Row(progress, self._clock()))
        if row.progress is None:
            self._meet(row, progress)
        row.progress = row.name = progress
        if not self._live and progress["epoch"] > row.told_epoch:
            row.told_epoch = progress["epoch"]
            self._print(f"{_label(progress)}  {_state_of(progress)}  {self._overall()}")

    def _meet(self, row: _Row, progress: dict[str, Any]) -> None:
        """Note where a run is when it first moves: what it did before tells nothing of the pace."""
        resuming = progress["state"] == "resuming"
        row.first_step, row.first_time = progress["step"], self._clock()
        if resuming or self._started is None:
            self._before += _fraction(progress)
        if self._started is None:
            self._started = self._clock()
        if resuming:
            row.told_epoch = progress["epoch"]
            if not self._live:
                self._print(f"{_label(progress)}  resuming at step {progress['step']} of {progress['steps']}")

    def _end(self, event: dict[str, Any]) -> None:
        row = self._rows.pop(event["run_id"], None)
        outcome = event["outcome"]
        self._ended[outcome if outcome in self._ended else "error"] += 1
        name = _label(row.name) if row else event["run_id"]
        line = f"{name}  {outcome}"
        if row and row.progress:
            line += f"  {_state_of(row.progress)}"
        if row:
            line += f"  in {duration(self._clock() - row.started)}"
        if event["message"]:
            line += f": {event['message']}"
        if event["log"] and outcome == "error":
            line += f" (log: {event['log']})"
        self._print(line)

    def _print(self, line: str) -> None:
        text = "".join(c if c.isprintable() else " " for c in line)
        if self._live:
            self._console.print(Text(text), soft_wrap=True)
        else:  # no wrapping, colour or markup, whatever the text holds
            print(text, file=self._console.file, flush=True)

    # -- the table -------------------------------------------------------------------------------

    def _page(self) -> Group:
        summary = Text(self._overall(), no_wrap=True, overflow="ellipsis")
        return Group(self._table(), summary) if self._rows else Group(summary)

    def _table(self) -> Table:
        """Lay the runs in work out; the columns keep their widths, so that nothing jumps."""
        wide = self._console.width >= _WIDE
        table = Table(box=None, pad_edge=False)
        if wide:
            table.add_column("task", no_wrap=True, min_width=20, max_width=32)
        table.add_column("optimizer", no_wrap=True, min_width=14, max_width=40 if wide else 18)
        table.add_column("seed", justify="right", no_wrap=True)
        table.add_column("epoch", justify="right", no_wrap=True, min_width=7)
        table.add_column("loss", justify="right", no_wrap=True, min_width=7)
        table.add_column("val acc", justify="right", no_wrap=True, min_width=8)
        if wide:
            table.add_column("gradients", justify="right", no_wrap=True, min_width=11)
        table.add_column("left", justify="right", no_wrap=True, min_width=12)
        table.add_column("state", no_wrap=True, min_width=11, max_width=11)
        for row in self._rows.values():
            table.add_row(*self._cells(row, wide))
        return table

    def _cells(self, row: _Row, wide: bool) -> list[str]:
        progress = row.progress or {}
        name = row.name
        cells = [str(name["task"])] if wide else []
        cells += [str(name["optimizer"]), str(name["seed"])]
        if not progress:
            return [*cells, *[""] * (5 if wide else 4), "loading"]
        cells += [_epoch(progress), _loss(progress), _accuracy(progress)]
        if wide:
            cells.append(f"{progress['sample_gradients']:,}")
        return [*cells, duration(self._left(row)), progress["state"]]

    def _left(self, row: _Row) -> float | None:
        """Return the seconds that a run still trains at the pace seen so far, None before there is one."""
        progress = row.progress
        if progress is None or progress["step"] <= row.first_step:
            return None
        pace: float = (self._clock() - row.first_time) / (progress["step"] - row.first_step)
        left: int = progress["steps"] - progress["step"]
        return pace * left

    def _overall(self) -> str:
        n_ended = sum(self._ended.values())
        parts = [f"{self._ended['done']} of {self._n_runs} done"]
        parts += [f"{n} {word}" for word, n in self._ended.items() if n and word != "done"]
        if self._rows:
            parts.append(f"{len(self._rows)} running")
        worked = n_ended + sum(_fraction(row.progress) for row in self._rows.values())
        gained = worked - self._before
        if self._rows and self._started is not None and gained > 0.0 and not self._note:
            pace = (self._clock() - self._started) / gained
            parts.append(f"{duration(pace * (self._n_runs - worked))} left")
        if self._note:
            parts.append(self._note)
        return ", ".join(parts)


def _label(names: dict[str, Any]) -> str:
    return f"{names['task']} {names['optimizer']} seed {names['seed']}"


def _state_of(progress: dict[str, Any]) -> str:
    parts = [f"epoch {_epoch(progress)}", f"loss {_loss(progress)}"]
    if progress["validation_accuracy"] is not None:
        parts.append(f"val {_accuracy(progress)}")
    return "  ".join(parts)


def _epoch(progress: dict[str, Any]) -> str:
    return f"{progress['epoch']}/{progress['epochs']:g}"


def _loss(progress: dict[str, Any]) -> str:
    return "-" if progress["loss"] is None else f"{progress['loss']:.4f}"


def _accuracy(progress: dict[str, Any]) -> str:
    value = progress["validation_accuracy"]
    return "-" if value is None else f"{100 * value:.2f} %"


def _fraction(progress: dict[str, Any] | None) -> float:
    return progress["step"] / progress["steps"] if progress else 0.0


def duration(seconds: float | None) -> str:
    """Write a time in its two largest units: 7 s, 3 min 20 s, 2 h 05 min; a dash where it is unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
