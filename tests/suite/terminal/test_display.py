"""The display: a calm table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

from suite.terminal.display import Display
from suite.terminal.screen import Screen
from suite.terminal.table import text_of


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
        "score": 0.6512,
        "metric": "accuracy",
        "unit": "%",
        "sample_gradients": 1000 * step,
        "state": state,
        **changes,
    }


def ended(run_id: str = "a", outcome: str = "done", message: str = "", log: str = "") -> dict[str, Any]:
    return {"event": "ended", "run_id": run_id, "outcome": outcome, "message": message, "log": log}


def plain(n_runs: int, *events: dict[str, Any]) -> list[str]:
    out, clock = io.StringIO(), Clock()
    with Display(n_runs, Screen(out), clock) as display:
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
    assert lines[1].startswith(
        "cifar10-resnet8-5k sam seed 0  epoch 2/4  loss 0.5123  val accuracy 65.12 %  "
    )
    # 19 s for steps 2 to 20 of 40, and 60 of the 80 steps of two runs to go
    assert lines[1].endswith("0 of 2 done, 1 running, 1 min 00 s left")
    assert lines[-1].endswith("in 41 s")


def test_a_resumed_run_says_where_and_its_past_is_no_pace() -> None:
    lines = plain(1, started(), progress(20, state="resuming"), *[progress(s) for s in range(21, 31)])
    assert lines[0] == "cifar10-resnet8-5k sam seed 0  resuming at step 20 of 40"
    assert len(lines) == 2  # epoch 2 was told by the earlier attempt
    assert lines[1].endswith("0 of 1 done, 1 running, 10 s left")  # 10 steps in 10 s, 10 more to go


def test_the_sweep_takes_no_less_than_its_slowest_run() -> None:
    quick = [started("a"), progress(1, "a"), *[progress(s, "a") for s in (20, 40)], ended("a")]
    slow = [
        started("b", seed=1),
        progress(9, "b", seed=1),
        progress(10, "b", seed=1),
        progress(11, "b", seed=1),
    ]
    lines = plain(2, *quick, *slow, progress(20, "b", seed=1))
    assert lines[-1].endswith("1 of 2 done, 1 running, 5 s left")  # 20 steps at 11 in 3 s


def test_what_went_wrong_is_on_the_line_of_its_run() -> None:
    lines = plain(
        3,
        started("a"),
        ended("a", "error", "ValueError: \x1b[31mred\r\n[bold]x[/bold]", "store/logs/a.log"),
        started("b", seed=1),
        progress(10, "b", loss=None, score=None, seed=1),
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
    clock = Clock()
    screen = Screen(io.StringIO(), lambda: (width, 24))
    display = Display(12, screen, clock)
    for event in events:
        clock.now += 1.0
        display(event)
    blank, *lines = [text_of(line) for line in screen._page(width, 24)]
    assert blank == ""
    return lines


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
    assert lines[0].split() == ["optimizer", "seed", "epoch", "loss", "val", "cost", "left", "state"]
    assert lines[1].split()[:6] == ["lpf-sgd", "0", "1/4", "0.5123", "65.12%", "12"]
    assert lines[1].split()[6:] == ["k", "42s", "running"]  # 2 steps in 3 s, 28 to go
    assert lines[2].split() == ["sam", "1", "-", "-", "-", "-", "-", "loading"]
    assert lines[3].startswith("1 of 12 done, 1 busy, 2 running, ")
    assert len(lines) == 4
    assert max(map(len, lines)) < 80


def test_table_on_160_columns_adds_the_task() -> None:
    lines = table(160, *EVENTS)
    assert lines[0].split()[0] == "task"
    assert lines[1].split()[0] == "cifar10-resnet8-5k"
    assert len(lines) == 4


def test_a_terminal_gets_the_table_and_a_line_for_each_run_that_ended() -> None:
    out, clock = io.StringIO(), Clock()
    with Display(1, Screen(out, lambda: (80, 24)), clock) as display:
        for event in [started(), progress(10), progress(11), progress(20), ended()]:
            clock.now += 1.0
            display(event)
    text = out.getvalue()
    assert (
        "cifar10-resnet8-5k sam seed 0  done  epoch 2/4  loss 0.5123  val accuracy 65.12 %  in 4 s\x1b[K\n"
        in text
    )
    assert "1 of 1 done" in text.splitlines()[-2]
    assert text.endswith("\x1b[?25h")


def test_a_run_that_was_saved_says_so() -> None:
    assert table(80, started(), progress(10), progress(11, state="interrupted"))[1].endswith("saved")


def test_any_metric_is_shown_with_its_unit() -> None:
    odd = {"metric": "psnr", "unit": "dB", "score": 31.25}
    assert "loss 0.5123  val psnr 31.2500 dB  " in plain(1, started(), progress(10, **odd))[0]
    assert table(80, started(), progress(10, **odd))[1].split()[4] == "31.2500"
    bare = {"metric": "perplexity", "unit": "", "score": 1234567.8}
    assert "val perplexity 1.2e+06  " in plain(1, started(), progress(10, **bare))[0]
    assert " val " not in plain(1, started(), progress(10, metric="error", score=None))[0]
