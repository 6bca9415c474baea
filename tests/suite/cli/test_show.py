"""`steppe show`: what is known of a run, its curves drawn or in numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from suite.metric import LOSS, Description, Metric, Profile
from suite.records.schema import CurveResult, Estimate, Origin, Record, Sharpness, SplitResult
from suite.report.known_run import KnownRun
from suite.report.run_text import render
from suite.spec import EntryRef, RunSpec
from suite.store.folders import Store
from tests.suite.cli.conftest import Cli
from tests.suite.fake_records import make_record, make_run, make_spec
from tests.suite.runner import PLUGIN, tiny_specs


def test_show_tells_results_curve_and_command(cli: Cli, store: Store) -> None:
    spec = tiny_specs(["sam"], [2])[0]
    out = cli("show", spec.run_id[:10], "--store", store.root, "--plugin", PLUGIN).out
    assert f"run {spec.run_id}: done" in out
    assert [line.split() for line in section(out, "results")] == [
        ["split", "n", "accuracy", "loss"],
        ["test", "50", "90.00", "%", "0.5"],
        ["test,", "as", "trained", "50", "90.00", "%", "0.5"],
        ["validation", "16", "75.00", "%", "0.6"],
    ]
    assert section(out, "origin")[0].startswith("  source_tree: 3333")
    assert "curves, epochs 1 to 1" in out
    assert "steppe run -t tiny -o sam -s 2 --data-set synthetic --device cpu" in out
    table = cli("show", spec.run_id, "--store", store.root, "--plugin", PLUGIN, "--curve").out
    assert "train_accuracy  train_loss" in table
    assert "1.25" in table
    shown = cli("show", spec.run_id, "--store", store.root, "--plugin", PLUGIN, "--json").json
    assert shown["record"]["results"]["test"]["n"] == 50
    assert shown["curve"][0]["train_loss"] == 1.25


def section(text: str, name: str) -> list[str]:
    """The lines below a heading that begins so, up to the next empty one."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(name)) + 1
    return lines[start : [*lines, ""].index("", start)]


def known(rows: list[dict[str, object]] | None = None, **facts: Any) -> KnownRun:
    spec = make_spec()
    return KnownRun(
        run_id=spec.run_id, path="x", status="x", spec=spec, command="x", rows=rows or [], **facts
    )


def rows(n: int = 200) -> list[dict[str, object]]:
    return [
        {
            "epoch": i + 1,
            "step": 6 * (i + 1),
            "lr": 0.1,
            "train_loss": 2.0 / (i + 1),
            "validation_accuracy": i / n,
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_curves_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [
        line for line in render(known(rows())).splitlines() if line.startswith(("curves", "  train_loss"))
    ]
    head, loss = lines
    assert len(loss) == len(head) < columns
    assert loss.split()[1][0] == "█"
    assert loss.split()[1][-1] == "▁"
    assert loss.split()[-3:] == ["0.01", "2", "0.01"]
    assert len(loss.split()[1]) == min(100, columns - 1 - 23 - 20)


def test_measures_of_some_epochs_are_drawn_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    some = rows(8)
    for row, value in ((some[3], 4.0), (some[5], None), (some[7], 1.0)):
        row |= {"lambda_max": value, "sharpness_train_loss": 0.5}
    lines = render(known(some)).splitlines()
    (drawn,) = (line for line in lines if line.startswith("  lambda_max"))
    (loss,) = (line for line in lines if line.startswith("  train_loss"))
    start = loss.index("█")
    assert drawn[start : start + 8] == "   █ x ▁"
    assert drawn.split()[-3:] == ["1", "4", "1"]
    assert len(drawn) == len(loss)
    assert next(line for line in lines if "sharpness_train_loss" in line).split()[-1] == "0.5"
    head, *numbers = render(known(some), numbers=True).partition("curve\n")[2].splitlines()
    assert head.split()[-2:] == ["lambda_max", "sharpness_train_loss"]
    assert [line.split()[-2] for line in numbers] == ["-", "-", "-", "4", "-", "-", "-", "1"]


def test_an_output_without_blocks_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Latin:
        encoding = "latin-1"

    monkeypatch.setattr(sys, "stdout", Latin())
    text = render(known(rows()))
    assert text.isascii()
    assert "  train_loss" in text


def test_a_strangers_names_do_nothing_to_the_terminal(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    spec = make_spec(a="evil\x1b[2J\r\n[bold]x[/bold]<script>")
    assert isinstance(spec.optimizer, EntryRef)
    store.run(spec.run_id).write_spec(spec)
    out = cli("show", spec.run_id, "--store", store.root).out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "    a: evil [2J  [bold]x[/bold]<script>\n" in out


def test_show_tells_why_a_run_has_no_record(cli: Cli, tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    folder = Store(tmp_path / "store").run(spec.run_id)
    folder.write_spec(spec)
    folder.record_error("error", "ValueError: no \x1b[31m", "logs/it.log", "7_1")
    command = ("show", spec.run_id, "--store", tmp_path / "store", "--plugin", PLUGIN)
    out = cli(*command).out
    assert f"run {spec.run_id}: error" in out
    assert "message: ValueError: no " in out
    assert "\x1b" not in out
    assert "log: logs/it.log" in out
    assert cli(*command, "--json").json["error"]["job"] == "7_1"
    folder.start().close()
    assert "error\n" not in cli(*command).out


ORIGIN = Origin("7" * 64, "abc", "a machine")
ODD = Description(
    "smoke",
    2.0,
    metrics=(Metric("recovery_error", "lower", "dB", scale="log", floor=1e-9), LOSS),
    tests=("test", "shifted"),
    validation="dev",
    facts=(Metric("near_edge", "neither", "%"),),
    columns=(Metric("lr_lambda", "neither"),),
    profiles=(Profile("barrier", "the way from the initial weights", LOSS),),
)
"""A task that classifies nothing."""


def odd_record(spec: RunSpec) -> Record:
    estimates = {
        "lpf": Estimate(0.5, 0.1, None, n=32, probes=4, estimator="test", version=3, origin=ORIGIN),
        "lambda_max": Estimate(None, None, None, 32, 0, "test", 2, reason="no second derivative"),
    }
    values: dict[str, float | None] = {"recovery_error": 0.25, "loss": 1.5}
    return make_record(
        spec,
        task=ODD,
        results={split: SplitResult(40, values) for split in ODD.evaluated},
        facts={"near_edge": 0.125},
        profiles={"barrier": CurveResult((0.0, 0.5, 1.0), (1.0, None, 3.0))},
        sharpness=Sharpness(32, {"loss": 0.5, "recovery_error": 0.125}, estimates),
    )


def test_show_tells_of_any_task(cli: Cli, tmp_path: Path) -> None:
    store, spec = Store(tmp_path / "store"), make_spec()
    with make_run(store, spec).start() as attempt:
        row = {"epoch": 1, "step": 6, "lr": 0.1, "train_loss": 1.0, "sample_gradients": 30.0, "dev_loss": 2.0}
        attempt.metrics(
            {**row, "train_recovery_error": 3.0, "lambda_max": 4.0, "lr_lambda": 5.0, "extra": 6.0}
        )
        attempt.publish(odd_record(spec))
    text = cli("show", spec.run_id, "--store", store.root).out
    assert [line.split() for line in section(text, "results")] == [
        ["split", "n", "recovery_error", "loss"],
        ["test", "40", "0.25", "dB", "1.5"],
        ["shifted", "40", "0.25", "dB", "1.5"],
        ["dev", "40", "0.25", "dB", "1.5"],
    ]
    assert section(text, "facts") == ["  near_edge: 12.50 %"]
    barrier, axes = section(text, "profiles")
    assert barrier.split() == ["barrier", "▁x█", "1", "3", "3"]
    assert axes == "  barrier: loss along the way from the initial weights, at 3 places from 0 to 1"
    assert "sharpness, on 32 training examples (loss 0.5, recovery_error 0.125 dB)" in text
    _, lpf, lambda_max, whose, why = section(text, "sharpness")
    assert lpf.split() == ["lpf", "0.5", "0.1", "-", "32", "4", "3", "test"]
    assert lambda_max.split() == ["lambda_max", "-", "-", "-", "32", "0", "2", "test"]
    assert why == "  lambda_max has no value: no second derivative"
    assert whose == "  lpf is of source tree 777777777777 (abc), a machine"
    names = [line.split()[0] for line in section(text, "curves")[:-1]]
    assert names == [
        "train_recovery_error",
        "train_loss",
        "dev_loss",
        "lr_lambda",
        "lr",
        "sample_gradients",
        "lambda_max",
        "extra",
    ]
    head = cli("show", spec.run_id, "--store", store.root, "--curve").out.partition("curve\n")[2]
    assert head.split("\n")[0].split() == ["epoch", "step", *names]
    told = cli("show", spec.run_id, "--store", store.root, "--json").json
    assert told["record"]["profiles"]["barrier"] == {"x": [0.0, 0.5, 1.0], "y": [1.0, None, 3.0]}
    assert told["task"]["metrics"][0]["name"] == "recovery_error"


def test_an_unfinished_run_is_described_by_its_attempt(cli: Cli, tmp_path: Path) -> None:
    store, spec = Store(tmp_path / "store"), make_spec()
    with make_run(store, spec).start() as attempt:
        attempt.provenance({"task": msgspec.to_builtins(ODD)})
        attempt.metrics({"epoch": 1, "step": 6, "lr_lambda": 5.0, "lr": 0.1, "dev_recovery_error": None})
    text = cli("show", spec.run_id, "--store", store.root).out
    names = [line.split()[0] for line in section(text, "curves")[:-1]]
    assert names == ["dev_recovery_error", "lr_lambda", "lr"]
    assert "results" not in text
