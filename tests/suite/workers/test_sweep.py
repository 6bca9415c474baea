"""The same sweep on one worker process and on two gives the same bytes, with the real training loop."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from suite.records.schema import to_line
from suite.store.folders import RunFolder, Store
from suite.workers.pool import run_pool
from tests.suite.fake_records import stable
from tests.suite.runner import PLUGIN, make_run, tiny_specs


def deterministic(folder: RunFolder) -> tuple[bytes, bytes]:
    """The bytes of metrics.jsonl, and of the record without its seconds and the state of the clone."""
    attempt, record = folder.attempt_path(), folder.record()
    assert attempt is not None
    assert record is not None
    record = stable(record)
    mine = replace(
        record.provenance.origin, source_tree="0" * 64, git_commit=None
    )  # somebody may edit meanwhile
    record = replace(record, provenance=replace(record.provenance, origin=mine))
    return (attempt / "metrics.jsonl").read_bytes(), to_line(record)


def test_one_worker_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    specs = tiny_specs(["sgd", "nso"], [0, 1])
    found: list[dict[str, tuple[bytes, bytes]]] = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        for spec in specs:
            make_run(root, spec)
        result = run_pool(root, [spec.run_id for spec in specs], workers=workers, plugins=[PLUGIN])
        assert (len(result.done), result.errors) == (len(specs), {})
        found.append({spec.run_id: deterministic(Store(root).run(spec.run_id)) for spec in specs})
    assert found[0] == found[1]
    assert len({metrics for metrics, _ in found[0].values()}) == len(specs)  # different runs, not one
