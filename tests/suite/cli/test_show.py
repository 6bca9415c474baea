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
    return {**known, "spec": make_spec().to_dict(), "record": {}, "curve": rows, "events": []}


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
