"""Mistakes on the command line: each one clear line on stderr, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import commands
from suite.store.folders import Store
from tests.suite.cli.conftest import TINY, Cli
from tests.suite.runner import PLUGIN, tiny_specs

DIGITS = ("-t", "digits-cnn")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rum",), "unknown command 'rum'; did you mean 'run'?"),
        (("--halp",), "unknown option '--halp'"),
        (("plan",), "the following arguments are required: -t/--task"),
        (("plan", "-t", "digits-cn", "-o", "sgd"), "unknown task 'digits-cn'; did you mean 'digits-cnn'?"),
        (("plan", *DIGITS, "-o", "sma"), "unknown optimizer 'sma'; did you mean 'sam'?"),
        (("run", *DIGITS, "-o", "zzz*"), "unknown optimizer 'zzz*'. Valid: adabelief, adam"),
        (
            ("plan", *DIGITS, "-o", "sam[rhoo=1]"),
            "unknown parameter of optimizer sam 'rhoo'; did you mean 'rho'?",
        ),
        (("plan", *DIGITS, "-o", "sam[rho=-0.1]"), "rho=-0.1 is out of range; valid: [0, "),
        (("plan", *DIGITS, "-o", "sam[rho=wide]"), "rho=wide is not a number"),
        (("plan", *DIGITS, "-o", "sam[rho"), "not a selector: 'sam[rho'"),
        (("plan", "-t", "digits-cnn[width=3]", "-o", "sgd"), "unknown parameter of task digits-cnn 'width'"),
        (("plan", *DIGITS, "-o", "sgd", "-s", "9-0"), "the range 9-0 runs backwards; write 0-9"),
        (("plan", *DIGITS, "-o", "sgd", "--budget", "0"), "budget 0 is out of range"),
        (("plan", *DIGITS, "-o", "sgd", "--budget", "lots"), "invalid float value: 'lots'"),
        (("plan", *DIGITS, "-o", "sgd", "--precision", "fp8"), "invalid choice: 'fp8'"),
        (("plan", *DIGITS, "-o", "sgd", "--workers", "0"), "'0' is not a whole number of at least 1"),
        (("plan", *DIGITS, "-o", "sgd", "--data", "nowhere"), "no folder nowhere, which --data names"),
        (("plan", *DIGITS, "-o", "sgd", "--data-set", "digit"), "did you mean 'digits'?"),
        (("plan", *DIGITS, "-o", "sgd", "--plugin", "no.py"), "no plugin file"),
        (("plan", *DIGITS, "-o", "sgd", "--sedes", "1"), "unrecognized arguments: --sedes 1"),
        (("list", "optimizer"), "invalid choice: 'optimizer'"),
        (("list", "tasks", "zzz"), "unknown task 'zzz'"),
        (("show", "abc"), "no run 'abc' in the store"),
        (("prepare", "digits-cm"), "did you mean 'digits-cnn'?"),
        (("publish",), "no finished run to publish in runs"),
        (("validate",), "no published records"),
    ],
)
def test_mistake_is_one_clear_line(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    answer = cli(*arguments)
    assert answer.code == 2
    assert answer.err.startswith("steppe: error: ")
    assert answer.err.count("\n") == 1
    assert says in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("command", ["plan", "run"])
def test_missing_data_names_the_command_that_mends_it(cli: Cli, tmp_path: Path, command: str) -> None:
    answer = cli(command, "-t", "cifar10-resnet20", "-o", "sgd", "--data", tmp_path)
    assert answer.code == 2
    assert "steppe prepare cifar10-resnet20" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_prepare_without_a_folder_says_how_to_name_one(cli: Cli) -> None:
    answer = cli("prepare", "cifar10-resnet20")
    assert answer.code == 2
    assert "--data DIR" in answer.err


def test_traceback_only_with_debug(cli: Cli) -> None:
    plain, debug = cli("list", "tasks", "zzz"), cli("list", "tasks", "zzz", "--debug")
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert debug.code == 2


def test_broken_plugin_is_one_line(cli: Cli, tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("import nothing_of_that_name\n")
    answer = cli("list", "tasks", "--plugin", plugin)
    assert answer.code == 2
    assert "cannot be imported: ModuleNotFoundError" in answer.err


def test_defect_is_one_line_and_code_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("suite.cli.status.execute", fail)
    answer = cli("status")
    assert answer.code == 1
    assert answer.err == "steppe: error: ZeroDivisionError: by zero (a bug; --debug shows the traceback)\n"


def test_half_written_record_is_told_and_the_others_are_listed(cli: Cli, store: Store) -> None:
    victim = store.run(tiny_specs(["sgd"], [1])[0].run_id)
    (victim.path / "result.json").write_text('{"record_version": 1, "run')
    answer = cli("status", "--store", store.root, "--json")
    assert answer.code == 1
    assert len(answer.json["runs"]) == 5
    assert victim.run_id in answer.json["damaged"][0]
    shown = cli("show", victim.run_id[:8], "--store", store.root, "--plugin", PLUGIN)
    assert shown.code == 2
    assert shown.err.count("\n") == 1


def test_store_that_is_a_file_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    answer = cli("run", *TINY, "-o", "sgd", "--store", tmp_path / "taken")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("steppe: error: cannot write")


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help_and_a_first_line(cli: Cli, name: str) -> None:
    answer = cli(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"usage: steppe {name}")
    line = commands()[name]
    assert line[:1].isupper()
    assert len(line) < 100


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = cli("run", *TINY, "-o", "sgd", "--device", "cuda", "--store", tmp_path / "fresh")
    assert answer.code == 2
    assert answer.err.startswith("steppe: error: no GPU is visible here: give --device cpu")
    assert not (tmp_path / "fresh").exists()
    assert cli("plan", *TINY, "-o", "sgd", "--device", "cuda", "--store", tmp_path / "fresh").code == 0
