"""`steppe show`: what is known of a run, its curves drawn or in numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from suite.cli.show import render
from suite.spec import EntryRef
from suite.store import Store
from tests.suite.cli.conftest import Cli
from tests.suite.records import make_spec
from tests.suite.runner import PLUGIN, tiny_specs


def test_show_tells_results_curve_and_command(cli: Cli, store: Store) -> None:
    spec = tiny_specs(["sam"], [2])[0]
    out = cli("show", spec.run_id[:10], "--store", store.root, "--plugin", PLUGIN).out
    assert f"run {spec.run_id}: done" in out
    assert "test_accuracy: 0.9" in out
    assert "curves, epochs 1 to 1" in out
    assert "steppe run -t tiny -o sam -s 2 --data-set synthetic --device cpu" in out
    table = cli("show", spec.run_id, "--store", store.root, "--plugin", PLUGIN, "--curve").out
    assert "train_loss  train_accuracy" in table
    assert "1.25" in table
    shown = cli("show", spec.run_id, "--store", store.root, "--plugin", PLUGIN, "--json").json
    assert shown["record"]["results"]["n_test"] == 50
    assert shown["curve"][0]["train_loss"] == 1.25


def curves(n: int = 200) -> dict[str, object]:
    rows = [
        {
            "epoch": i + 1,
            "step": 6 * (i + 1),
            "lr": 0.1,
            "train_loss": 2.0 / (i + 1),
            "validation_accuracy": i / n,
        }
        for i in range(n)
    ]
    known: dict[str, object] = dict.fromkeys(("run_id", "status", "path", "command"), "x")
    known |= {"spec": make_spec().to_dict(), "record": {}, "curve": rows, "events": [], "trouble": {}}
    return {**known, "placed": {}, "scheduler_silent": ""}


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_curves_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line for line in render(curves()).splitlines() if line.startswith(("curves", "  train_loss"))]
    head, loss = lines
    assert len(loss) == len(head) < columns
    assert loss.split()[1][0] == "█"
    assert loss.split()[1][-1] == "▁"
    assert loss.split()[-3:] == ["0.01", "2", "0.01"]
    assert len(loss.split()[1]) == min(100, columns - 1 - 23 - 20)


def test_measures_of_some_epochs_are_drawn_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    known = curves(8)
    rows = known["curve"]
    assert isinstance(rows, list)
    for row, value in ((rows[3], 4.0), (rows[5], None), (rows[7], 1.0)):
        row |= {"lambda_max": value, "sharpness_train_loss": 0.5}
    lines = render(known).splitlines()
    (drawn,) = (line for line in lines if line.startswith("  lambda_max"))
    (loss,) = (line for line in lines if line.startswith("  train_loss"))
    start = loss.index("█")
    assert drawn[start : start + 8] == "   █ x ▁"
    assert drawn.split()[-3:] == ["1", "4", "1"]
    assert len(drawn) == len(loss)
    assert next(line for line in lines if "sharpness_train_loss" in line).split()[-1] == "0.5"
    head, *numbers = render(known, numbers=True).partition("curve\n")[2].splitlines()
    assert head.split()[-2:] == ["lambda_max", "sharpness_train_loss"]
    assert [line.split()[-2] for line in numbers] == ["-", "-", "-", "4", "-", "-", "-", "1"]


def test_an_output_without_blocks_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Latin:
        encoding = "latin-1"

    monkeypatch.setattr(sys, "stdout", Latin())
    text = render(curves())
    assert text.isascii()
    assert "  train_loss" in text


def test_a_strangers_names_do_nothing_to_the_terminal(cli: Cli, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    spec = make_spec(optimizer="evil\x1b[2J\r\n[bold]x[/bold]<script>")
    assert isinstance(spec.optimizer, EntryRef)
    store.run(spec.run_id).write_spec(spec)
    out = cli("show", spec.run_id, "--store", store.root).out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "  name: evil [2J  [bold]x[/bold]<script>\n" in out


def test_show_tells_why_a_run_has_no_record(cli: Cli, tmp_path: Path) -> None:
    (spec,) = tiny_specs(["sgd"], [0])
    folder = Store(tmp_path / "store").run(spec.run_id)
    folder.write_spec(spec)
    folder.note_trouble("error", "ValueError: no \x1b[31m", "logs/it.log", "7_1")
    command = ("show", spec.run_id, "--store", tmp_path / "store", "--plugin", PLUGIN)
    out = cli(*command).out
    assert f"run {spec.run_id}: error" in out
    assert "message: ValueError: no " in out
    assert "\x1b" not in out
    assert "log: logs/it.log" in out
    assert cli(*command, "--json").json["trouble"]["job"] == "7_1"
    folder.start().close()
    assert "trouble" not in cli(*command).out
