"""`steppe validate`: a line for each record that is not sound, and how many are."""

from __future__ import annotations

import json
from pathlib import Path

from suite.store import Store
from tests.suite.cli.conftest import Cli


def test_each_unsound_record_is_named_on_a_line_of_its_own(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli("publish", "--store", store.root)
    path = tmp_path / "results" / "records" / "tiny.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[1]["cost"]["n_train"] = 0
    del records[3]["cost"]
    records[4]["results"]["path"] = "/home/me/secret"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    name = "results/records/tiny.jsonl"
    answer = cli("validate")
    assert answer.code == 2
    assert answer.out == f"{name}: 3 records are sound\n"
    problems = [
        f"{name}:2: cost.n_train is 0, not a whole number above 0: publish the run again",
        f"{name}:4: cost is missing: publish the run again",
        f"{name}:5: results.path is not a field of a record: publish the run again",
    ]
    assert answer.err.splitlines() == [f"steppe: error: {problem}" for problem in problems]
    assert cli("validate", "--json").json == {"sound": {name: 3}, "problems": problems}
