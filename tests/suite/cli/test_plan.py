"""`steppe plan`: what is done, what it costs, how long it takes by the steps that were measured."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.store.folders import Store
from tests.suite.cli.conftest import TINY, Cli, finish
from tests.suite.runner import PLUGIN, tiny_specs


def test_plan_counts_and_forecasts_without_side_effect(cli: Cli, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan = cli("plan", "-t", "digits-cnn", "-o", "*", "-s", "0-1", "--json", "--workers", "2").json
    assert plan["n_runs"] == plan["n_left"] == 12
    assert plan["states"] == {"new": 12}
    by_name = {row["optimizer"]: row for row in plan["runs"]}
    # 20 epochs of the 1,000 training images that are left of 1,297 after validation
    assert by_name["sgd"]["sample_gradients"] == 20_000
    assert by_name["sam"]["sample_gradients"] == 40_000
    assert plan["seconds_left"] is None
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_sees_the_store_and_its_timings(cli: Cli, store: Store) -> None:
    interrupted = tiny_specs(["sgd"], [3])[0]
    folder = store.run(interrupted.run_id)
    folder.write_spec(interrupted)
    folder.start().close()
    options = ("--store", store.root, "--workers", "1", "--device", "cpu")
    text = cli("plan", *TINY, "-o", "sgd", "-s", "0-4", *options).out
    assert "5 runs in" in text
    assert "3 done, 1 interrupted, 1 new" in text
    assert "2 to do: 720 sample-gradients, about 1 min 20 s on 1 process; started now, they end about" in text
    plan = cli("plan", *TINY, "-o", "sgd", "-s", "0-4", *options, "--json").json
    assert plan["states"] == {"done": 3, "interrupted": 1, "new": 1}
    # The tiny task declares no size, but the finished runs trained on 90 examples, in 40 s each.
    assert plan["sample_gradients_left"] == 2 * 4 * 90
    assert plan["seconds_left"] == pytest.approx(2 * 40)
    ends = datetime.fromisoformat(plan["finished_at"]) - datetime.now().astimezone()
    assert 60 < ends.total_seconds() <= 81


def test_plan_learns_from_unfinished_runs_and_counts_what_they_did(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    spec = Selection(["digits-cnn"], ["sgd"], [0]).expand(Registry())[0]
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    with folder.start() as attempt:  # 5 of 20 epochs in 50 s, 2 s of them evaluation
        for epoch in range(1, 6):
            attempt.metrics({"epoch": epoch, "step": 8 * epoch, "sample_gradients": 1000 * epoch})
            attempt.timing(
                {"epoch": epoch, "step": 8 * epoch, "train_s": 9.6 * epoch, "evaluate_s": 0.4 * epoch}
            )
    options = ("--store", store.root, "--device", "cpu", "--workers", "2")
    plan = cli("plan", "-t", "digits-cnn", "-o", "sgd,sam", "-s", "0-1", *options, "--json").json
    rows = {(row["optimizer"], row["seed"]): row for row in plan["runs"]}
    assert rows["sgd", 0]["fraction_done"] == pytest.approx(0.25)
    assert rows["sgd", 1]["seconds"] == pytest.approx(200)
    assert rows["sgd", 1]["seconds_like"] == "hyperparameters"
    assert rows["sam", 1]["seconds"] == pytest.approx(2 * 192 + 8)
    assert rows["sam", 1]["seconds_like"] == "task"
    assert plan["seconds_left"] == pytest.approx((150 + 200 + 392 + 392) / 2)
    assert plan["sample_gradients_left"] == 15_000 + 20_000 + 2 * 40_000
    text = cli("plan", "-t", "digits-cnn", "-o", "sgd,sam", "-s", "0-1", *options).out
    assert [line.split()[-3:] for line in text.splitlines()[1:3]] == [
        ["k", "3.3", "min"],
        ["6.5", "min", "*"],
    ]
    assert "* not timed itself" in text


def test_plan_says_how_to_find_out_where_nothing_was_timed(cli: Cli, tmp_path: Path) -> None:
    out = cli("plan", "-t", "digits-cnn", "-o", "sgd", "--store", tmp_path / "s").out
    assert "not timed" in out
    assert "after their first epochs this command" in out
    assert not (tmp_path / "s").exists()


def test_plan_scales_the_seconds_of_finished_runs(cli: Cli, tmp_path: Path) -> None:
    done = Store(tmp_path / "store")
    for spec in Selection(["digits-cnn"], ["sgd"], [0]).expand(Registry()):
        finish(done, spec)
    options = ("--store", done.root, "--device", "cpu", "--workers", "2", "--json")
    plan = cli("plan", "-t", "digits-cnn", "-o", "sgd,sam", "-s", "0-2", *options).json
    seconds = {(row["optimizer"], row["state"]): row["seconds"] for row in plan["runs"]}
    # The record says 36 s for 1,800 sample-gradients, and 4 s more. SAM was not timed, so SGD's 0.02 s serve.
    assert seconds["sgd", "new"] == pytest.approx(20_000 * 0.02 + 4)
    assert seconds["sam", "new"] == pytest.approx(40_000 * 0.02 + 4)
    assert plan["seconds_left"] == pytest.approx((2 * 404 + 3 * 804) / 2)


def test_plan_ends_with_a_run_command_of_the_same_options(cli: Cli, tmp_path: Path) -> None:
    given = (
        "-t",
        "digits-cnn",
        "-o",
        "sam[rho=0.05|0.1]",
        "-s",
        "0-2",
        "--budget",
        "2.123456789",
        "--view",
        "sample-gradients",
    )
    out = cli("plan", *given, "--store", tmp_path / "s").out
    assert out.splitlines()[-1] == (
        "start them: steppe run -t digits-cnn -o 'sam[rho=0.05|0.1]' -s 0-2 --budget 2.123456789 "
        f"--view sample-gradients --store {tmp_path / 's'}"
    )


NEEDY = """
from dataclasses import replace
from baselines.sgd import OPTIMIZERS as SGD

def needs(hyper):
    return {"full-batch"} if hyper["nesterov"] else ()

OPTIMIZERS = [replace(SGD[0], name="needy", needs=needs)]
"""


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_a_task_cannot_give_is_refused_while_planning(cli: Cli, tmp_path: Path, command: str) -> None:
    plugin = tmp_path / "needy.py"
    plugin.write_text(NEEDY)
    given = (command, *TINY, "--plugin", plugin, "--device", "cpu", "--store", tmp_path / "s")
    answer = cli(*given, "-o", "needy[nesterov=true]")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "steppe: error: optimizer needy needs all training examples in every step ('full-batch'), which task "
        "tiny does not give; it gives: function, parts\n"
    )
    assert not (tmp_path / "s").exists()
    assert cli("plan", *given[1:], "-o", "needy").code == 0  # as it is by default


def test_the_precision_is_the_tasks_own_unless_given(cli: Cli, tmp_path: Path) -> None:
    plugin = tmp_path / "double.py"
    plugin.write_text(Path(PLUGIN).read_text().replace('tier="smoke",\n        summary="tests",',
                      'tier="smoke", summary="tests", precisions=("fp64", "fp32"),'))  # fmt: skip
    given = ("-t", "tiny", "-o", "sgd", "--plugin", plugin, "--device", "cpu", "--store", tmp_path / "s")
    ids = {
        precision: cli("plan", *given, "--json", *(["--precision", precision] if precision else [])).json[
            "runs"
        ]
        for precision in ("", "fp64", "fp32")
    }
    assert ids[""] == ids["fp64"] != ids["fp32"]
    assert "--precision" not in cli("plan", *given).lines[-1]
    assert "--precision fp32" in cli("plan", *given, "--precision", "fp32").lines[-1]
    assert "valid" in cli("plan", *given, "--precision", "bf16").err.lower()
