"""The display: a calm table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from suite.local.display import Display, duration


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary terminal, whichever one runs the tests."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def started(run_id: str = "a", optimizer: str = "sam", seed: int = 0) -> dict[str, Any]:
    names = {"task": "cifar10-resnet8-5k", "optimizer": optimizer, "seed": seed}
    return {"event": "started", "run_id": run_id, **names}


def progress(step: int, run_id: str = "a", state: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        **started(run_id),
        "event": "progress",
        "epoch": step // 10,
        "epochs": 4.0,
        "step": step,
        "steps": 40,
        "loss": 0.51234,
        "validation_accuracy": 0.6512,
        "sample_gradients": 1000 * step,
        "state": state,
        **changes,
    }


def ended(run_id: str = "a", outcome: str = "done", message: str = "", log: str = "") -> dict[str, Any]:
    return {"event": "ended", "run_id": run_id, "outcome": outcome, "message": message, "log": log}


def plain(n_runs: int, *events: dict[str, Any]) -> list[str]:
    out, clock = io.StringIO(), Clock()
    with Display(n_runs, Console(file=out, highlight=False), clock) as display:
        for event in events:
            clock.now += 1.0
            display(event)
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())
    return out.getvalue().splitlines()


def test_plain_output_is_a_line_an_epoch_and_run() -> None:
    lines = plain(2, started(), *[progress(step) for step in range(1, 41)], ended())
    assert [line.split("  ")[1] for line in lines] == [
        "epoch 1/4",
        "epoch 2/4",
        "epoch 3/4",
        "epoch 4/4",
        "done",
    ]
    assert lines[1].startswith("cifar10-resnet8-5k sam seed 0  epoch 2/4  loss 0.5123  val 65.12 %  ")
    # 19 s for steps 2 to 20 of 40, and 60 of the 80 steps of two runs to go
    assert lines[1].endswith("0 of 2 done, 1 running, 1 min 00 s left")
    assert lines[-1].endswith("in 41 s")


def test_a_resumed_run_says_where_and_its_past_is_no_pace() -> None:
    lines = plain(1, started(), progress(20, state="resuming"), *[progress(s) for s in range(21, 31)])
    assert lines[0] == "cifar10-resnet8-5k sam seed 0  resuming at step 20 of 40"
    assert len(lines) == 2  # epoch 2 was told by the earlier attempt
    assert lines[1].endswith("0 of 1 done, 1 running, 10 s left")  # 10 steps in 10 s, 10 more to go


def test_what_went_wrong_is_on_the_line_of_its_run() -> None:
    lines = plain(
        3,
        started("a"),
        ended("a", "error", "ValueError: \x1b[31mred\r\n[bold]x[/bold]", "store/logs/a.log"),
        started("b", seed=1),
        progress(10, "b", loss=None, validation_accuracy=None, seed=1),
        ended("b", "failed"),
        ended("c", "mistake", "no spec.json"),
        {"event": "stopping", "message": "saving"},
    )
    assert lines[0] == (
        "cifar10-resnet8-5k sam seed 0  error  in 1 s: "
        "ValueError:  [31mred  [bold]x[/bold] (log: store/logs/a.log)"
    )
    assert "epoch 1/4  loss -  0 of 3 done, 1 error" in lines[1]
    assert lines[2] == "cifar10-resnet8-5k sam seed 1  failed  epoch 1/4  loss -  in 2 s"
    assert lines[3] == "c  mistake: no spec.json"
    assert lines[4] == "saving"


def table(width: int, *events: dict[str, Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    clock = Clock()
    display = Display(12, console, clock)
    for event in events:
        clock.now += 1.0
        display(event)
    page = Console(file=io.StringIO(), width=width, color_system=None)
    page.print(display._page())
    text = page.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


EVENTS = [
    started("a", "lpf-sgd"),
    started("b", "sam", 1),
    progress(10, "a", optimizer="lpf-sgd"),
    progress(12, "a", optimizer="lpf-sgd"),
    ended("c"),
    ended("d", "busy", "elsewhere"),
]


def test_table_on_80_columns() -> None:
    lines = table(80, *EVENTS)
    assert lines[0].split() == ["optimizer", "seed", "epoch", "loss", "val", "acc", "left", "state"]
    assert lines[1].split() == ["lpf-sgd", "0", "1/4", "0.5123", "65.12", "%", "42", "s", "running"]
    assert lines[2].split() == ["sam", "1", "loading"]
    assert lines[3].startswith("1 of 12 done, 1 error, 2 running, ")
    assert len(lines) == 4  # nothing wraps
    assert max(map(len, lines)) <= 80


def test_table_on_160_columns_adds_task_and_cost() -> None:
    lines = table(160, *EVENTS)
    assert lines[1].split() == [
        "cifar10-resnet8-5k",
        "lpf-sgd",
        "0",
        "1/4",
        "0.5123",
        "65.12",
        "%",
        "12,000",
        "42",
        "s",
        "running",
    ]
    assert len(lines) == 4


@pytest.mark.parametrize("width", [80, 160])
def test_long_names_do_not_break_the_table(width: int) -> None:
    long = {**started("a", "control/" + "x" * 200), "task": "t" * 200}
    lines = table(width, long, progress(10_000_000, steps=20_000_000, sample_gradients=10**12))
    assert len(lines) == 3
    assert max(map(len, lines)) <= width


def test_a_terminal_gets_the_table_and_a_line_for_each_run_that_ended() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Display(1, console, clock) as display:
        for event in [started(), progress(10), progress(11), progress(20), ended()]:
            clock.now += 1.0
            display(event)
    text = out.getvalue()
    assert "cifar10-resnet8-5k sam seed 0  done" in text
    assert "1 of 1 done" in text.splitlines()[-2]  # the last line shows the cursor again
    assert "\x1b[31m" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with Display(1, Console(file=out, force_terminal=True), Clock()) as display:
        for event in [started(), progress(10), ended()]:
            display(event)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 2
