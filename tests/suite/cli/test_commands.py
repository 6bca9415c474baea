"""What the commands answer: list, prepare, plan, status, show, publish, validate."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from suite.cli import commands, options
from suite.registry import Registry
from suite.select import arguments, expand, parse_seeds
from suite.store import Store
from tests.suite.cli.conftest import TINY, Cli, finish
from tests.suite.runner import PLUGIN, tiny_specs

SIX = ["adabelief", "adam", "lpf-sgd", "nso", "sam", "sgd"]


def test_help_names_every_command(cli: Cli) -> None:
    text = cli("--help").out
    assert all(name in text and line in text for name, line in commands().items())
    assert {"list", "doctor", "prepare", "plan", "status", "show", "publish", "validate"} <= set(commands())


def test_list_json_tells_cost_and_defaults(cli: Cli) -> None:
    rows = {row["name"]: row for row in cli("list", "optimizers", "--json").json}
    assert sorted(rows) == SIX
    assert rows["sam"]["cost"] == 2
    assert rows["sam"]["params"]["rho"]["valid"].startswith("[0, ")


def test_list_names_plugins_and_details(cli: Cli) -> None:
    assert "tiny" in cli("list", "tasks", "--plugin", PLUGIN).out
    detail = cli("list", "tasks", "tiny", "--plugin", PLUGIN).out
    assert "parameter" in detail
    assert "epochs" in detail
    assert "lambda_max" in cli("list", "measures").out


def test_prepare_of_built_in_data_needs_no_folder(cli: Cli) -> None:
    answer = cli("prepare", "digits-cnn")
    assert answer.code == 0
    assert "digits: ready, checksums agree" in answer.out


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
    text = cli("plan", *TINY, "-o", "sgd", "-s", "0-4", *options)
    assert "5 runs, 2 to do" in text.out
    plan = cli("plan", *TINY, "-o", "sgd", "-s", "0-4", *options, "--json").json
    assert plan["states"] == {"done": 3, "interrupted": 1, "new": 1}
    # The tiny task declares no size, so a forecast would be a guess.
    assert plan["sample_gradients_left"] is None
    assert plan["seconds_left"] is None


def test_plan_scales_the_seconds_of_finished_runs(cli: Cli, tmp_path: Path) -> None:
    done = Store(tmp_path / "store")
    for spec in expand(Registry(), ["digits-cnn"], ["sgd"], [0]):
        finish(done, spec)
    options = ("--store", done.root, "--device", "cpu", "--workers", "2", "--json")
    plan = cli("plan", "-t", "digits-cnn", "-o", "sgd,sam", "-s", "0-2", *options).json
    seconds = {(row["optimizer"], row["state"]): row["seconds"] for row in plan["runs"]}
    # The record says 36 s for 360 sample-gradients and 4 s beside. SAM was not timed, so SGD's 0.1 s serve.
    assert seconds["sgd", "new"] == pytest.approx(20_000 * 0.1 + 4)
    assert seconds["sam", "new"] == pytest.approx(40_000 * 0.1 + 4)
    assert plan["seconds_left"] == pytest.approx((2 * 2004 + 3 * 4004) / 2)


def test_plan_ends_with_a_run_command_of_the_same_options(cli: Cli, tmp_path: Path) -> None:
    given = (
        "-t",
        "digits-cnn",
        "-o",
        "sam[rho=0.05|0.1]",
        "-s",
        "0-2",
        "--budget",
        "2",
        "--view",
        "sample-gradients",
    )
    out = cli("plan", *given, "--store", tmp_path / "s").out
    assert out.splitlines()[-1] == (
        "start them: steppe run -t digits-cnn -o 'sam[rho=0.05|0.1]' -s 0-2 --budget 2 "
        f"--view sample-gradients --store {tmp_path / 's'}"
    )


def test_status_counts_by_state(cli: Cli, store: Store) -> None:
    queued = tiny_specs(["nso"], [0])[0]
    store.run(queued.run_id).write_spec(queued)
    answer = cli("status", "--store", store.root)
    assert answer.code == 0
    assert [line.split() for line in answer.out.splitlines()] == [
        ["task", "optimizer", "runs", "done", "failed", "running", "interrupted", "queued"],
        ["tiny", "nso", "1", "0", "0", "0", "0", "1"],
        ["tiny", "sam", "3", "3", "0", "0", "0", "0"],
        ["tiny", "sgd", "3", "3", "0", "0", "0", "0"],
    ]
    assert len(cli("status", "--store", store.root, "--runs").out.splitlines()) == 8


def test_show_tells_results_curve_and_command(cli: Cli, store: Store) -> None:
    spec = tiny_specs(["sam"], [2])[0]
    out = cli("show", spec.run_id[:10], "--store", store.root, "--plugin", PLUGIN).out
    assert f"run {spec.run_id}: done" in out
    assert "test_accuracy: 0.9" in out
    assert "train_loss  train_accuracy" in out
    assert "1.25" in out
    assert "steppe run -t tiny -o sam -s 2 --data-set synthetic --device cpu" in out
    shown = cli("show", spec.run_id, "--store", store.root, "--plugin", PLUGIN, "--json").json
    assert shown["record"]["results"]["n_test"] == 50
    assert shown["curve"][0]["train_loss"] == 1.25


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
    (spec,) = expand(registry, ["tiny[epochs=7]"], [optimizer], [5], **options)  # type: ignore[arg-type]
    assert _specs_of(arguments(spec, registry), registry) == [spec.run_id]


def _specs_of(given: list[str], registry: Registry) -> list[str]:
    from suite.cli import Parser

    parser = Parser()
    options.add_selectors(parser)
    args = parser.parse_args(given)
    assert parse_seeds(args.seeds) == (5,)
    return [spec.run_id for spec in options.specs(args, registry)]


def test_publish_is_lean_deterministic_and_validates(cli: Cli, store: Store, tmp_path: Path) -> None:
    first = cli("publish", "--store", store.root)
    path = tmp_path / "results" / "records" / "tiny.jsonl"
    assert first.out == "results/records/tiny.jsonl: 6 records, 6 new\n"
    content = path.read_bytes()
    assert cli("publish", "--store", store.root).out.endswith("6 records, 0 new\n")
    assert path.read_bytes() == content
    lines = content.decode().splitlines()
    assert all(len(line) <= 10_000 for line in lines)
    assert [json.loads(line)["run_id"] for line in lines] == sorted(
        s.run_id for s in tiny_specs(["*"], [0, 1, 2]) if s.optimizer.name in ("sgd", "sam")
    )
    assert str(tmp_path) not in content.decode()
    assert socket.gethostname() not in content.decode()
    assert cli("validate").out == "results/records/tiny.jsonl: 6 records are sound\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"test_accuracy":0.8,', '"test_accuracy":0.9,', "is not the 40 of 50 examples"),
        ('"seed":0', '"seed":7', "belongs to run"),
        ('{"correct"', '{"host":"h","correct"', "holds more than may be published (host)"),
        ('"record_version":1', '"record_version":2', "record_version 2"),
        ("}", "", "is not a record"),
    ],
)
def test_validate_finds_a_tampered_record(
    cli: Cli, store: Store, tmp_path: Path, old: str, new: str, says: str
) -> None:
    cli("publish", "--store", store.root)
    path = tmp_path / "results" / "records" / "tiny.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"test_accuracy":0.8,' in line and '"seed":0' in line)
    lines[at] = lines[at].replace(old, new, 1)
    path.write_text("".join(lines))
    answer = cli("validate")
    assert answer.code == 2
    assert says in answer.err
    assert f"tiny.jsonl:{at + 1}" in answer.err


def test_publish_refuses_other_results_of_a_published_run(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli("publish", "--store", store.root)
    other = Store(tmp_path / "other")
    finish(other, tiny_specs(["sgd"], [0])[0], 10)
    answer = cli("publish", "--store", other.root)
    assert answer.code == 2
    assert "published with other results" in answer.err


def test_doctor_ticks_what_is_there(cli: Cli) -> None:
    findings = {row["what"]: row for row in cli("doctor", "--quick", "--json").json}
    assert findings["python"]["ok"]
    assert findings["torch"]["ok"]
    assert findings["data digits"]["ok"]
    assert findings["data cifar10"]["ok"] is None
    assert findings["data cifar10"]["mend"].startswith("steppe prepare ")


def test_doctor_names_the_corrupt_file(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar10-jpeg"
    folder.mkdir(parents=True)
    for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"):
        (folder / name).write_bytes(b"PAR1")
    answer = cli("doctor", "--data", tmp_path / "data")
    assert answer.code == 1
    assert "corrupt data file" in answer.out
