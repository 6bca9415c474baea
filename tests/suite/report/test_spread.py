"""The same runs on two machines: how far they lie apart."""

import math
import statistics

import pytest
from msgspec.structs import replace

from suite.cli import main
from suite.errors import SteppeError
from suite.metric import Metric
from suite.records import schema
from suite.records.schema import SplitResult, pack_right
from suite.report.spread import render, spreads
from tests.suite.report.fake_records import N_TEST, PARAMS, TASKS, description, record

SPLITS = ("test", "validation")
HERE, THERE = [0.65, 0.66, 0.64, 0.70], [0.65, 0.655, 0.65, 0.70]


def made(accuracies, fingerprint, curvature=20.0, **options):
    return [
        record("sgd", seed, accuracy, fingerprint=fingerprint, curvature=curvature, **options)
        for seed, accuracy in enumerate(accuracies)
    ]


def both(here, there):
    return spreads(here, there, TASKS, {"sgd": PARAMS})


def test_differences_are_of_pairs_of_the_same_run():
    (found,) = both(made(HERE, "cpu A"), made(THERE, "cpu B", curvature=21.0))
    (row,) = found.rows
    differences = [b - a for a, b in zip(HERE, THERE, strict=True)]
    assert (row.optimizer, row.n, row.equal) == ("sgd", 4, 2)
    assert row.means == (statistics.fmean(HERE), statistics.fmean(THERE))
    assert row.sd == pytest.approx(statistics.stdev(differences))
    assert row.largest == pytest.approx(0.01)
    assert row.measures == {"hessian_trace": pytest.approx(0.05)}
    assert found.fingerprints == ("cpu A", "cpu B")


def test_runs_that_one_side_lacks_or_that_failed_are_left_out():
    here, there = made(HERE, "cpu A"), made(THERE[:3], "cpu B")
    there[0] = record("sgd", 0, fingerprint="cpu B", failed=True)
    (found,) = both(here, there)
    assert found.rows[0].n == 2
    assert found.left_out == ("sgd, 40 epochs, seed 0: failed on [b] only",)
    assert "- left out: sgd, 40 epochs, seed 0: failed on [b] only" in render([found], "steppe spread")


def test_a_run_that_moved_between_machines_is_told_and_not_compared():
    here, there = made(HERE, "cpu A"), made(THERE, "cpu B")
    there[1] = replace(there[1], provenance=replace(there[1].provenance, fingerprints=("cpu A", "cpu B")))
    (found,) = both(here, there)
    assert found.rows[0].n == 3
    assert found.left_out == ("sgd, 40 epochs, seed 1: went from one machine to another on [b]",)


def test_budgets_and_versions_have_rows_of_their_own():
    def of(place):
        return [*made(HERE, place), *made(HERE[:2], place, epochs=4.0)]

    (found,) = both(of("cpu A"), of("cpu B"))
    assert [(row.optimizer, row.epochs, row.n) for row in found.rows] == [("sgd", 4, 2), ("sgd", 40, 4)]


def test_estimates_of_unlike_versions_are_not_compared():
    here, there = made(HERE, "cpu A"), made(THERE, "cpu B")

    def raised(one):
        measures = {
            name: replace(estimate, version=estimate.version + 1)
            for name, estimate in one.sharpness.measures.items()
        }
        return replace(one, sharpness=replace(one.sharpness, measures=measures))

    (found,) = both(here, [raised(one) for one in there])
    assert found.rows[0].measures == {}


def test_runs_of_unlike_tasks_are_refused():
    there = made(THERE, "cpu B")
    there[0] = replace(there[0], task=replace(there[0].task, epochs=7.0))
    with pytest.raises(SteppeError, match="is not of the same data, task and code in both"):
        both(made(HERE, "cpu A"), there)


def test_examples_that_are_right_in_one_only():
    def with_bits(one, accuracy, packed):
        right = {"accuracy": pack_right(packed)}
        return replace(
            one, results={"test": SplitResult(N_TEST, {"accuracy": accuracy, "loss": 1.0}, right=right)}
        )

    bits = bytearray(N_TEST // 8)
    here = with_bits(record(fingerprint="cpu A"), 0.0, bytes(bits))
    bits[0], bits[-1] = 0b11000000, 0b1
    there = with_bits(record(fingerprint="cpu B"), 3 / N_TEST, bytes(bits))
    (found,) = both([here], [there])
    assert found.rows[0].examples == 3 / N_TEST
    assert found.rows[0].sd is None
    assert "0.0 %" in render([found], "steppe spread")


def test_a_logarithmic_metric_is_spread_in_decades():
    error = Metric("error", "lower", scale="log", floor=1e-9)
    task = description(metrics=(error,))

    def at(value, fingerprint):
        return record(
            fingerprint=fingerprint, described=task, found={"test": SplitResult(10, {"error": value})}
        )

    (found,) = both([at(1e-3, "cpu A")], [at(1e-5, "cpu B")])
    assert found.rows[0].largest == pytest.approx(2.0)
    assert math.isclose(found.rows[0].means[0], -3.0)


def test_two_sets_from_one_machine_are_no_spread():
    with pytest.raises(SteppeError, match="is from one fingerprint in both, with equal results: cpu A"):
        both(made(HERE, "cpu A"), made(HERE, "cpu A"))
    with pytest.raises(SteppeError, match="no run completed in both"):
        both(made(HERE, "cpu A"), [])


def test_the_command_writes_a_page_that_says_how_it_is_made(tmp_path, capsys):
    files = []
    for name, accuracies in (("a", HERE), ("b", THERE)):
        path = tmp_path / f"{name}.jsonl"
        found = {split: SplitResult(N_TEST, {"accuracy": 0.5, "loss": 1.0}) for split in SPLITS}
        records = made(accuracies, f"cpu {name}", found=found)
        path.write_bytes(b"".join(sorted(map(schema.to_line, records))))
        files.append(str(path))
    page = tmp_path / "spread.md"
    assert main(["spread", *files, "-o", str(page)]) == 0
    content = page.read_text()
    assert f"steppe spread {files[0]} {files[1]} -o {page}" in content
    assert "- [b] cpu b" in content
    assert main(["spread", files[0], str(tmp_path / "none")]) == 2
    assert "none does not exist: give a file of published records" in capsys.readouterr().err
