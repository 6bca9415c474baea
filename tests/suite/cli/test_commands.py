"""What the commands answer: list, prepare, doctor, and the command of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import parse
from suite.entries.registry import Registry
from suite.entries.selection import Selection, arguments
from tests.suite.cli.conftest import Cli
from tests.suite.runner import PLUGIN

SIX = ["adabelief", "adam", "lpf-sgd", "nso", "sam", "sgd"]


COMMANDS = {
    "cancel", "check", "demo", "doctor", "leaderboard", "list", "measure", "new", "plan", "prepare",
    "publish", "retry", "run", "show", "spread", "status", "submit", "validate", "wandb",
}  # fmt: skip


def test_help_names_every_command_with_the_first_line_of_its_own_help(cli: Cli) -> None:
    rows = [line for line in cli("--help").out.splitlines() if line.startswith("  ")]
    shown = {name: text.strip() for name, _, text in (row.strip().partition(" ") for row in rows)}
    assert shown.keys() == COMMANDS
    for name, text in shown.items():
        answer = cli(name, "--help")
        assert (answer.code, answer.err) == (0, "")
        assert len(text.split()) > 2
        assert text in " ".join(answer.out.split())


def test_two_commands_of_one_name_are_an_error_that_names_both(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "cli" / "plan.py"
    other.parent.mkdir(parents=True)
    other.write_text('"""Another plan."""')
    monkeypatch.setattr("suite.cli.PACKAGES", ("suite", str(tmp_path / "other")))
    answer = cli("--help")
    assert answer.code == 2
    assert str(other) in answer.err
    assert str(Path("suite", "cli", "plan.py")) in answer.err
    assert "define the command 'plan': rename one of them" in answer.err


def test_list_json_tells_cost_and_defaults(cli: Cli) -> None:
    rows = {row["name"]: row for row in cli("list", "optimizers", "--json").json}
    assert sorted(rows) == SIX
    assert rows["sam"]["cost"] == 2
    assert rows["sam"]["params"]["rho"]["valid"].startswith("[0, ")


def test_list_shows_search_spaces(cli: Cli) -> None:
    (row,) = cli("list", "optimizers", "sam", "--json").json
    space = {"kind": "log-uniform", "low": 0.01, "high": 2.0, "zero": True}
    assert row["params"]["rho"]["search"] == space
    assert row["params"]["momentum"]["search"] is None
    lines = cli("list", "optimizers", "sam").out.splitlines()
    (head,) = (line for line in lines if "parameter" in line and "default" in line)
    (rho,) = (line for line in lines if line.strip().startswith("rho "))
    (momentum,) = (line for line in lines if line.strip().startswith("momentum "))
    start, end = head.index("search"), head.index("meaning")
    assert rho[start:end].strip() == "0 or log-uniform [0.01, 2]"
    assert (momentum[start:end].strip(), momentum[end:]) == ("", "momentum of SGD")


def test_list_names_plugins_and_details(cli: Cli) -> None:
    assert "tiny" in cli("list", "tasks", "--plugin", PLUGIN).out
    detail = cli("list", "tasks", "tiny", "--plugin", PLUGIN).out
    assert "parameter" in detail
    assert "search" not in detail  # no parameter of it has a search space
    assert "epochs" in detail
    assert "lambda_max" in cli("list", "measures").out


def test_list_tells_what_a_task_evaluates_and_gives(cli: Cli) -> None:
    lines = cli("list", "tasks", "digits-cnn").out.splitlines()
    assert lines[1:6] == [
        "  data: digits",
        "  metrics: accuracy (%, higher is better), loss (lower is better)",
        "  test splits: test",
        "  validation split: validation",
        "  gives: function, parts",
    ]
    (row,) = cli("list", "tasks", "digits-cnn", "--json").json
    assert [metric["name"] for metric in row["metrics"]] == ["accuracy", "loss"]
    assert (row["tests"], row["gives"]) == (["test"], ["function", "parts"])
    assert cli("list", "tasks").out.split("\n")[0].split() == ["name", "version", "tier", "data", "summary"]


FOREIGN = """
from dataclasses import replace

from suite.metric import LOSS, Metric, Profile
from tests.plugins.tiny import TASKS as TINY
from suite.task import TaskSpec
from suite.task import Task

ERROR = Metric("recovery_error", "lower", "m", scale="log", floor=1e-9)

def make():
    return Task(
        name="odd", version="1", tier="smoke", summary="a stranger", data=TINY[0].make(1, 0).data,
        problem=None, metrics=(ERROR, LOSS), epochs=1, batch_size=0, tests=(), validation="", separable=False,
        facts=(Metric("near_edge", "neither", "%"),), columns=(Metric("lr_lambda", "neither"),),
        profiles=(Profile("barrier", "the way", LOSS),), twice_differentiable=False,
    )

TASKS = [TaskSpec("odd", "1", "smoke", "a stranger", make)]
"""


def test_list_describes_a_task_of_another_kind(cli: Cli, tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(FOREIGN)
    assert cli("list", "tasks", "odd", "--plugin", plugin).out.splitlines() == [
        "odd (version 1): a stranger",
        "  data: synthetic",
        "  metrics: recovery_error (m, lower is better, log scale), loss (lower is better)",
        "  test splits: none",
        "  validation split: none",
        "  facts of a run: near_edge (%)",
        "  columns of an epoch: lr_lambda",
        "  profiles: barrier along the way",
        "  gives: full-batch",
    ]


def test_list_tells_what_an_optimizer_needs_at_its_defaults(cli: Cli, tmp_path: Path) -> None:
    plugin = tmp_path / "needy.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from baselines.sgd import OPTIMIZERS as SGD\n"
        "OPTIMIZERS = [replace(SGD[0], name='needy', needs=lambda hyper: {'parts', 'function'})]\n"
    )
    assert "  needs: function, parts\n" in cli("list", "optimizers", "needy", "--plugin", plugin).out
    (row,) = cli("list", "optimizers", "needy", "--plugin", plugin, "--json").json
    assert row["needs"] == ["function", "parts"]
    assert {row["name"]: row["needs"] for row in cli("list", "optimizers", "--json").json}["sgd"] == []


def test_prepare_of_built_in_data_needs_no_folder(cli: Cli) -> None:
    answer = cli("prepare", "digits-cnn")
    assert answer.code == 0
    assert "digits: ready, checksums agree" in answer.out


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("sam[rho=0.2,adaptive=true]", {}),
        ("nso", {"view": "sample-gradients"}),
        ("sgd", {"budget": 0.3, "precision": "bf16", "threads": 2, "compile": True}),
        ("lpf-sgd", {"budget": 1 / 3, "view": "sample-gradients"}),
    ],
)
def test_command_of_a_run_gives_that_run(optimizer: str, options: dict[str, object]) -> None:
    registry = Registry([PLUGIN])
    (spec,) = Selection(["tiny[epochs=7]"], [optimizer], [5], **options).expand(registry)  # type: ignore[arg-type]
    assert _specs_of(arguments(spec, registry), registry) == [spec.run_id]


def _specs_of(given: list[str], registry: Registry) -> list[str]:
    selection = parse("run", given).selection
    assert selection.seeds == (5,)
    return [spec.run_id for spec in selection.expand(registry)]


def test_doctor_ticks_what_is_there(cli: Cli) -> None:
    findings = {row["what"]: row for row in cli("doctor", "--quick", "--json").json}
    assert findings["python"]["ok"]
    assert findings["torch"]["ok"]
    assert findings["data digits"]["ok"]
    assert findings["data cifar10"]["ok"] is None
    assert findings["data cifar10"]["hint"].startswith("steppe prepare ")


def test_doctor_names_the_corrupt_file(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar10-jpeg"
    folder.mkdir(parents=True)
    for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"):
        (folder / name).write_bytes(b"PAR1")
    answer = cli("doctor", "--data", tmp_path / "data")
    assert answer.code == 1
    assert "corrupt data file" in answer.out
