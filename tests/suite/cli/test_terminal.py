"""What a real terminal shows (tmux), and what a pipe gets."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.terminal.table import width_of
from tests.plugins.tiny import SLOW
from tests.suite.runner import PLUGIN
from tests.tmux import MISSING, Tmux, environment_for

COLUMNS = ("seed", "epoch", "loss", "val", "left")
HEAD = "left  state"
"""Only the header of the table has it."""
RUN = "steppe run --wandb off --plugin tiny.py --device cpu --store s"
LONG = "'tiny[epochs=400]'"
Open = Callable[..., Tmux]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    """Open terminals in a folder that has the tiny task, slow as long as there is a file `slow` beside it."""
    if MISSING:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    shutil.copy(PLUGIN, tmp_path / "tiny.py")
    (tmp_path / "slow").touch()
    opened: list[Tmux] = []

    def open_(columns: int = 80, rows: int = 24, **variables: str) -> Tmux:
        opened.append(Tmux(tmp_path, columns, rows, **{SLOW: str(tmp_path / "slow")}, **variables))
        return opened[-1]

    yield open_
    for one in opened:
        one.__exit__()


def rows_of(lines: list[str], ending: str = "running") -> list[str]:
    return [line for line in lines if line.endswith(ending) and "/" in line and "," not in line]


def check_table(lines: list[str], columns: int) -> None:
    """One header; every row's cells end where the header's do; nothing reaches the last column."""
    (head,) = [line for line in lines if HEAD in line]
    body = rows_of(lines)
    assert body
    for row in body:
        for name in COLUMNS:
            end = head.index(name) + len(name)
            assert row[end - 1] != " ", (name, row)
            assert row[end : end + 2].strip() == "", (name, row)
        assert row.startswith(("tiny", "s"))
        assert row.index("running") == head.index("state")
    assert all(len(line) < columns for line in lines)


@pytest.mark.parametrize("columns", [80, 160])
def test_run_and_watch_show_a_calm_table(terminal: Open, tmp_path: Path, columns: int) -> None:
    runner, watcher = terminal(columns), terminal(columns)
    runner.run(f"{RUN} --workers 2 -t 'tiny,tiny[epochs=250]' -o sgd,sam 2>&1; echo code $?")
    lines = runner.until(lambda now: len(rows_of(now)) == 2 and sum("  done  " in x for x in now) == 2)
    check_table(lines, columns)
    logged = [line for line in lines if "  done  " in line]
    assert all(
        re.fullmatch(r"tiny s\w+ seed 0  done  epoch 4/4  loss \S+  val accuracy \S+ %  in \d+ s", x)
        for x in logged
    )
    assert ("task" in next(line for line in lines if HEAD in line)) == (columns == 160)
    watcher.run("steppe status --watch --interval 0.3 --store s; echo code $?")
    lines = watcher.until(
        lambda now: len(rows_of(now)) == 2 and any("time left" in x or "until" in x for x in now)
    )
    check_table(lines, columns)
    assert "4 runs: 2 done, 2 running" in lines

    (tmp_path / "slow").unlink()
    for one in (runner, watcher):
        one.until(lambda now: "code 0" in now)
    history = [line.rstrip() for line in runner.lines("-S", "-", "-J")]
    assert not any(HEAD in line for line in history)
    assert sum("  done  " in line for line in history) == 4
    assert history[-4:] == ["4 of 4 done", "4 done", "code 0", "$"]
    assert len(history) == 1 + 1 + 4 + 4
    history = [line.rstrip() for line in watcher.lines("-S", "-", "-J")]
    assert sum(line.endswith("  done") for line in history) == 2
    assert history[-3:] == ["4 runs: 4 done", "code 0", "$"]
    assert len(history) == 1 + 2 + 3


def test_a_live_table_follows_the_terminal(terminal: Open) -> None:
    shown = terminal(120)
    shown.run(f"clear; {RUN} --workers 1 -t tiny,{LONG} -o sgd; echo code $?")
    shown.until(lambda now: len(rows_of(now)) == 1 and any("  done  " in line for line in now))
    for columns in (60, 100, 72, 140):
        shown.resize(columns, 24)
        lines = shown.until(
            lambda now, columns=columns: any("optimizer" in x and HEAD in x for x in now)
            and len(rows_of(now)) == 1
            and ("task" in "".join(x for x in now if HEAD in x)) == (columns >= 100)
        )  # fmt: skip
        assert sum(HEAD in line for line in lines) == 1
        assert sum("optimizer" in line for line in lines) == 1
        assert sum("1 of 2 done" in line for line in lines) == 1
        logged = [line.rstrip() for line in shown.lines("-S", "-", "-J") if "  done  " in line]
        assert re.fullmatch(
            r"tiny sgd seed 0  done  epoch 4/4  loss \S+  val accuracy \S+ %  in \d+ s", *logged
        )
    shown.press("C-c")
    lines = shown.until(lambda now: "code 130" in now)
    assert not any(HEAD in line for line in lines)
    assert any(line.startswith("stopped; nothing is lost") for line in lines)
    assert shown.cursor()[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, 137)])
def test_a_signal_leaves_the_terminal_in_order(
    terminal: Open, tmp_path: Path, number: int, code: int
) -> None:
    shown = terminal(80)
    shown.run(f"(sh -c 'echo $PPID' > pid; exec {RUN} --workers 1 -t {LONG} -o sgd); echo code $?")
    shown.until(lambda now: len(rows_of(now)) == 1)
    os.kill(int((tmp_path / "pid").read_text()), number)
    lines = shown.until(lambda now: f"code {code}" in now)
    visible, column, row = shown.cursor()
    assert visible
    assert lines[-1] == "$"
    assert (column, row) == (2, len(lines) - 1)


HOSTILE = """
import time
from suite.terminal.screen import Screen
from suite.terminal.table import RunRow
NAMES = ["<script>", "[bold]markup[/bold]", "🔥" * 60, "x" * 300]
NAMES += ["\\x1b[31mred\\x1b[2J", "日本語のタスク", "a\\r\\nb", "sgd"]
with Screen() as screen:
    for i in range(3):
        screen.say(NAMES[i] + " seed 0  done")
        rows = [RunRow(n, n, 7, 1, 4.0, .5, .5, "accuracy", "%", 90, 9.0, "running") for n in NAMES]
        screen.show(rows, ["summary", "🔥" * 99])
    time.sleep(600)
"""


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_hostile_names_stay_in_their_cells(terminal: Open, tmp_path: Path, columns: int) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    shown = terminal(columns)
    shown.run(f"exec {sys.executable} hostile.py")
    lines = shown.until(lambda now: any("summary" in line for line in now) and "🔥" in now[-1], 60)
    head = next(i for i, line in enumerate(lines) if "optimizer" in line)
    body = lines[head + 1 : head + 9]
    place = lines[head].index("seed") + 3
    for row in body:
        cut = next(i for i in range(len(row) + 1) if width_of(row[:i]) >= place)
        assert row[cut] == "7"
        assert width_of(row) < columns
    assert lines[head + 9] == "summary"
    assert len(lines) == head + 11
    shown.press("C-c")


def test_a_narrow_one_without_colour(terminal: Open) -> None:
    shown = terminal(100, NO_COLOR="1", COLUMNS="40")
    shown.run(f"{RUN} --workers 1 -t {LONG} -o sgd; echo code $?")
    lines = shown.until(lambda now: any("400" in line and "seed" not in line for line in now))
    head = next(line for line in lines if "optimizer" in line)
    assert head.split() == ["optimizer", "seed", "epoch", "left"]
    assert len(head) < 40
    assert "\x1b[3" not in shown.styled()
    assert "\x1b[1m" not in shown.styled()
    shown.press("C-c")
    shown.until(lambda now: "code 130" in now)


# -- pipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"TERM": "dumb", "FORCE_COLOR": "1", "COLUMNS": "20"}])
def test_a_pipe_gets_plain_lines(tmp_path: Path, variables: dict[str, str]) -> None:
    shutil.copy(PLUGIN, tmp_path / "tiny.py")
    run = f"{RUN} --workers 1 -t tiny -o sgd,sam 2>&1 | cat"
    script = f"{run}; steppe status --watch --store s 2>&1 | cat; steppe status --store s | cat"
    answer = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**environment_for(tmp_path), **variables},
        capture_output=True,
        timeout=300,
        check=True,
    )
    text = answer.stdout.decode()
    assert answer.stderr == b""
    assert all(c.isprintable() or c == "\n" for c in text)
    lines = text.splitlines()
    assert sum(bool(re.match(r"tiny s\w+ seed 0  epoch \d/4  loss ", line)) for line in lines) == 8
    assert sum("  done  epoch 4/4" in line for line in lines) == 2
    assert "2 runs: 2 done" in lines
