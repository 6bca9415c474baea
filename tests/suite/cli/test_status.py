"""`steppe status`: counts, runs in work with what is left, and --watch without a terminal."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from suite.metric import LOSS, Description, Metric
from suite.records.schema import Record
from suite.spec import RunSpec
from suite.status import monitor, overview
from suite.status.watch import Watch
from suite.store import index
from suite.store.attempt import Attempt
from suite.store.folders import Store
from suite.terminal.screen import Screen
from suite.terminal.table import width_of
from tests.suite.cli.conftest import Cli, finish
from tests.suite.fake_records import TASK, make_record, make_spec
from tests.suite.runner import tiny_specs

Moves = list[Callable[[], object]]


def begin(store: Store, spec: RunSpec) -> Attempt:
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    attempt = folder.start()
    attempt.provenance({"task": msgspec.to_builtins(TASK)})
    return attempt


def advance(attempt: Attempt, epoch: int, pace: float = 10.0) -> None:
    """Tell of an epoch of 6 steps that took `pace` seconds."""
    told = {"epoch": epoch, "step": 6 * epoch}
    row = {"train_loss": 1.5, "validation_accuracy": 0.25, "sample_gradients": 90 * epoch}
    attempt.timing({**told, "train_s": pace * epoch, "evaluate_s": 0.0})
    attempt.metrics({**told, **row})


def finish_failed(store: Store, spec: RunSpec) -> None:
    with begin(store, spec) as attempt:
        attempt.publish(make_record(spec, "failed"))


def test_status_counts_in_words(cli: Cli, store: Store) -> None:
    queued = tiny_specs(["nso"], [0])[0]
    store.run(queued.run_id).write_spec(queued)
    answer = cli("status", "--store", store.root)
    assert answer.code == 0
    assert [line.split() for line in answer.out.splitlines()] == [
        ["task", "optimizer", "runs", "state"],
        ["tiny", "nso", "1", "··········", "1", "queued"],
        ["tiny", "sam", "3", "━━━━━━━━━━", "3", "done"],
        ["tiny", "sgd", "3", "━━━━━━━━━━", "3", "done"],
        [],
        ["7", "runs:", "6", "done,", "1", "queued"],
    ]
    assert len(cli("status", "--store", store.root, "--runs").out.splitlines()) == 8


def test_status_shows_runs_in_work_and_what_needs_somebody(cli: Cli, store: Store) -> None:
    going, stopped, waiting = tiny_specs(["nso"], [0, 1, 2])
    with begin(store, stopped) as attempt:
        advance(attempt, 1)
    store.run(waiting.run_id).write_spec(waiting)
    with begin(store, going) as attempt:
        advance(attempt, 1)
        advance(attempt, 2)
        answer = cli("status", "--store", store.root)
        runs = {run["run_id"]: run for run in cli("status", "--store", store.root, "--json").json["runs"]}
    lines = answer.out.splitlines()
    assert "1 running, 1 interrupted, 1 queued" in lines[1]
    row = next(line for line in lines if line.endswith("running") and "2/4" in line).split()
    assert row[:6] == ["nso", "0", "2/4", "1.5000", "25.00%", "180"]
    # 2 of 4 epochs of 10 s to go and 1 s of measures; three of those of the stopped run, four of the last
    assert runs[going.run_id]["seconds_left"] == pytest.approx(21, abs=5)
    assert "about 1 min" in answer.out
    told = f"`steppe show {stopped.run_id} --store {store.root}`"
    assert f"interrupted: tiny nso seed 1 (epoch 1/4), {told}" in lines
    assert answer.code == 0


@pytest.mark.parametrize(
    ("validation", "column", "score", "shown"),
    [
        ("validation", "validation_psnr", 31.25, "31.2500"),
        ("dev", "dev_psnr", 31.25, "31.2500"),
        ("", "train_psnr", None, "-"),
    ],
)
def test_status_shows_the_metric_of_any_task(
    cli: Cli, tmp_path: Path, validation: str, column: str, score: float | None, shown: str
) -> None:
    store = Store(tmp_path / "store")
    psnr = Metric("psnr", "higher", "dB")
    with begin(store, make_spec()) as attempt:
        task = Description("smoke", 2.0, metrics=(psnr, LOSS), validation=validation)
        attempt.provenance({"task": msgspec.to_builtins(task)})
        attempt.metrics({"epoch": 1, "step": 6, "train_loss": 1.5, column: 31.25})
        lines = cli("status", "--store", store.root).lines
        (run,) = cli("status", "--store", store.root, "--json").json["runs"]
    row = next(line.split() for line in lines if line.endswith("running") and "1/2" in line)
    assert row[3:5] == ["1.5000", shown]
    assert (run["score"], run["metric"], run["unit"]) == (score, "psnr", "dB")


def test_failed_runs_are_named_and_set_the_exit_code(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for seed in range(8):
        finish_failed(store, make_spec(seed))
    answer = cli("status", "--store", store.root)
    assert answer.code == 1
    named = [line for line in answer.out.splitlines() if line.startswith("failed: ")]
    assert named[0].startswith("failed: task sgd seed 0 (diverged at step 12), `steppe show ")
    assert named[0].endswith(f" --store {store.root}`")
    assert named[5] == f"failed: and 3 more, see `steppe status --runs --store {store.root}`"
    assert len(named) == 6


def test_commands_that_are_named_look_in_the_same_store(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "my runs")
    spec = make_spec()
    finish_failed(store, spec)
    named = ("--store", "my runs")
    told = f"`steppe show {spec.run_id} --store 'my runs'`"
    assert told in cli("status", *named).out
    assert told in cli("status", *named, "--watch").out
    assert "`steppe status --json --store 'my runs'`" in cli("status", *named, "--watch", "--json").err
    monkeypatch.setenv("STEPPE_STORE", str(store.root))  # which the commands obey too
    assert f"`steppe show {spec.run_id}`" in cli("status").out


def test_more_runs_in_work_than_are_listed_are_told_of(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_MAX_RUNNING", 1)
    store = Store(tmp_path / "store")
    with begin(store, make_spec(0)), begin(store, make_spec(1)):
        lines = cli("status", "--store", store.root).lines
    assert f"and 1 more, see `steppe status --runs --store {store.root}`" in lines


def test_optimizers_that_differ_in_hyperparameters_are_told_apart(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for lr in (0.1, 0.2):
        finish(store, make_spec(optimizer="sam", rho=0.05, lr=lr))
    out = cli("status", "--store", store.root).out
    assert [line.split()[1] for line in out.splitlines()[1:3]] == ["sam[lr=0.1]", "sam[lr=0.2]"]


HOSTILE = [
    "<script>alert(1)</script>",
    "[bold]markup[/bold]",
    "🔥" * 40,
    "x" * 300,
    "\x1b[31mred\x1b[2J",
    "日本語",
]


def test_hostile_names_stay_in_their_columns(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in HOSTILE:
        spec = make_spec(a=name)
        store.run(spec.run_id).write_spec(spec)
    for options in ((), ("--runs",)):
        out = cli("status", "--store", store.root, *options).out
        assert all(c.isprintable() or c == "\n" for c in out)
        lines = out.split("\n\n")[0].splitlines()
        before = [line[: line.index(" queued" if options else " ···")] for line in lines[1:]]
        assert len({width_of(text.rstrip() if options else text) for text in before}) == 1
    assert "[bold]markup[/bold]" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_output_encoding_takes_it(store: Store, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("🔥", "x"):  # parameters are shown where runs differ in them
        spec = make_spec(a=value)
        store.run(spec.run_id).write_spec(spec)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    from suite.cli import main

    assert main(["status", "--store", str(store.root)]) == 0
    out.flush()
    text = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert ("🔥" in text) == (encoding == "utf-8")
    assert ("##########" in text) == (encoding != "utf-8")


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf", "soon"])
def test_an_interval_is_a_positive_number(cli: Cli, store: Store, wrong: str) -> None:
    answer = cli("status", "--store", store.root, "--watch", f"--interval={wrong}")
    assert answer.code == 2
    assert "is not a number above 0" in answer.err


def test_watch_is_not_for_programs(cli: Cli, store: Store) -> None:
    answer = cli("status", "--store", store.root, "--watch", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "steppe status --json" in answer.err


# -- --watch, its clock and its sleep played by the test ----------------------------------------------


class Play:
    """Stands in for the time that passes: each sleep plays the next move."""

    def __init__(self, moves: Moves) -> None:
        self.now, self._moves = 0.0, moves

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._moves:
            self._moves.pop(0)()


def watch(store: Store, moves: Moves, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    play, out = Play(moves), io.StringIO()
    monkeypatch.setattr(monitor.time, "sleep", play.sleep)
    monitor.follow(Watch(store), Screen(out), 2.0, lambda *words: " ".join(words), clock=play)
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())
    assert not moves
    return out.getvalue().splitlines()


def test_watch_without_a_terminal_prints_a_line_a_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, waiting = tiny_specs(["nso"], [0, 1])
    store.run(waiting.run_id).write_spec(waiting)
    attempt = begin(store, going)
    advance(attempt, 1)

    def end() -> None:
        attempt.publish(make_record(going))
        attempt.close()

    def second() -> None:
        begin(store, waiting).close()

    lines = watch(
        store,
        [lambda: None, lambda: advance(attempt, 2), lambda: advance(attempt, 4), end, second],
        monkeypatch,
    )
    assert lines[0] == "8 runs: 6 done, 1 running, 1 queued"
    assert lines[2].startswith("tiny nso seed 0  epoch 2/4  loss 1.5000  val accuracy 25.00 %  ")
    assert lines[3].startswith("tiny nso seed 0  epoch 4/4  ")
    assert lines[4] == "tiny nso seed 0  done"
    assert lines[5] == "tiny nso seed 1  interrupted"
    assert lines[6] == "8 runs: 7 done, 1 interrupted"
    assert lines[7].startswith("interrupted: tiny nso seed 1")
    assert len(lines) == 9


def test_watch_ends_at_once_where_all_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(store, [], monkeypatch) == ["6 runs: 6 done"] * 2


def test_watch_gives_queued_runs_a_moment_to_start(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_specs(["nso"], [0])[0]
    store.run(spec.run_id).write_spec(spec)
    held: list[Attempt] = []
    idle: Moves = [lambda: None] * 3
    watch(
        store,
        [*idle, lambda: held.append(begin(store, spec)), *idle, lambda: held[0].close(), *idle],
        monkeypatch,
    )


def test_ctrl_c_leaves_watch_quietly(store: Store, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(monitor.time, "sleep", interrupt)
    with begin(store, tiny_specs(["nso"], [0])[0]):
        answer = cli("status", "--watch", "--store", store.root)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-2] == "7 runs: 6 done, 1 running"


def test_a_look_reads_no_record_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    going = tiny_specs(["nso"], [0])[0]
    attempt = begin(store, going)
    seen = Watch(store)
    read: list[str] = []
    read_record = index.read_record

    def note(run: Path) -> Record | None:
        read.append(run.name)
        return read_record(run)

    monkeypatch.setattr(index, "load", lambda _: pytest.fail("the index was read again"))
    monkeypatch.setattr(index, "read_record", note)
    assert len(seen.look().having("done")) == 6
    attempt.publish(make_record(going))
    attempt.close()
    read.clear()
    for _ in range(3):
        assert len(seen.look().having("done")) == 7
    assert read == [going.run_id]


def test_looking_writes_nothing(store: Store) -> None:
    with begin(store, tiny_specs(["nso"], [0])[0]) as attempt:
        advance(attempt, 1)
        Watch(store).look()
        before = {path: os.stat(path).st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
        Watch(store).look()
        after = {path: os.stat(path).st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    assert before == after
