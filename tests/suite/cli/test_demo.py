"""What the demo prints of its leaderboard."""

from pathlib import Path

from suite.cli import demo, parse
from tests.suite.cli.finished import stored, tiny_records
from tests.suite.runner import PLUGIN


def test_the_summary_has_a_row_an_optimizer_and_fits_a_terminal(tmp_path: Path) -> None:
    store = stored(tmp_path / "store", tiny_records())
    chosen = ["--view", "epochs", "--store", str(store.root), "--plugin", str(PLUGIN)]
    text = demo.summary(parse("leaderboard", chosen))
    title, header, *rows = [line for line in text.splitlines() if line]
    assert title.startswith("tiny")
    assert "untuned: not a ranking" in title
    assert header.split()[:3] == ["optimizer", "n", "failed"]
    assert [row.split()[:5] for row in rows] == [
        ["sam", "3", "0", "86.00", "±"],  # 41, 43 and 45 of 50: optimizers alternate
        ["sgd", "3", "0", "84.00", "±"],  # 40, 42 and 44
    ]
    assert max(map(len, text.splitlines())) <= 100
