"""Which records share a table, and what its rows say."""

import csv
import io
import random

import pytest

from suite.errors import SteppeError
from suite.report import csv_, markdown
from suite.slim import Packer
from tests.suite.report.records import EPOCHS, N_TRAIN, board, record, seeds, wavy


def tables(records, view="epochs"):
    return [table for table in board(records).tables if table.view == view]


@pytest.mark.parametrize(
    "other",
    [{"data": "images"}, {"precision": "bf16"}, {"device": "cuda"}, {"noise": 0.4}, {"task": "digits"},
     {"compile": True}, {"data_checksum": "11"}, {"ranks": 2}],
)  # fmt: skip
def test_strata_never_mix(other):
    found = tables([*seeds("sgd", [0.6, 0.7]), *seeds("sgd", [0.8, 0.9], **other)])
    assert [table.rows[0].n for table in found] == [2, 2]
    heads = {(t.task, t.data, t.precision, t.device, t.compiled, t.ranks) for t in found}
    assert len(heads) == 2  # and their headings differ


def test_another_split_of_the_same_data_is_another_table():
    odd = record(seed=1)
    odd["data"] = {"split_checksum": "cd", "noise_checksum": None}
    found = tables([record(), odd])
    assert len(found) == 2
    assert len({table.task for table in found}) == 2


def test_other_protocols_are_left_out_saying_how_many():
    old = seeds("sam", [0.6, 0.7, 0.8], protocol="fair-0.0")
    del old[0]["cost"]  # another protocol's records may lack what this one's hold
    made = board([record(), *old, old[1]])
    assert made.left_out == ("3 records of protocol fair-0.0 left out: this is fair-0.1.",)
    assert sum(row.n for table in made.tables for row in table.rows if table.view == "epochs") == 1


def test_tasks_that_are_not_known_are_left_out_saying_so():
    made = board([record(task="theirs")])
    assert made.tables == ()
    assert "1 record of task theirs left out" in made.left_out[0]


def test_the_same_seed_under_another_set_up_counts_once():
    made = board([record(), record(threads=2)])
    assert made.tables[0].rows[0].n == 1
    assert "1 record left out: the same seed again" in made.left_out[0]


def test_the_same_record_twice_counts_once():
    made = board([record(), record()])
    assert made.tables[0].rows[0].n == 1
    assert made.left_out == ()


def test_labels_show_what_differs_from_the_defaults():
    found = board([record("sam"), record("sam", rho=0.1), record("unheard")]).tables[0]
    assert [row.optimizer for row in found.rows] == ["sam", "sam[rho=0.1]", "unheard[base=sgd,rho=0.05]"]
    assert board([record(noise=0.4)]).tables[0].task == "images[noise=0.4]"


def test_versions_and_sources_of_one_name_are_rows_of_their_own():
    found = board([record("sam"), record("sam", version="2")]).tables[0]
    assert [row.optimizer for row in found.rows] == ["sam@1", "sam@2"]
    sources = [record("sam", plugin_source="aa"), record("sam", plugin_source="bb")]
    labels = [row.optimizer for row in board(sources).tables[0].rows]
    assert len(set(labels)) == 2
    assert all(label.startswith("sam@1#") for label in labels)


def test_views():
    records = [record("sgd"), record("sgd", epochs=80.0), record("sam"), record("sam", epochs=20.0),
               record("nso", epochs=20.0), record("nso", epochs=40.0)]  # fmt: skip
    found = {
        (table.view, table.budget): [(row.optimizer, row.cost) for row in table.rows]
        for table in board(records).tables
    }
    assert found == {
        ("epochs", 1.0): [("nso", 2.0), ("sam", 2.0), ("sgd", 1.0)],
        ("epochs", 2.0): [("sgd", 2.0)],
        ("sample-gradients", 1.0): [("nso", 1.0), ("sam", 1.0), ("sgd", 1.0)],
        ("sample-gradients", 2.0): [("nso", 2.0), ("sam", 2.0), ("sgd", 2.0)],
        ("seconds", 1.0): [("nso", 2.0), ("nso (20 epochs)", 1.0), ("sam", 2.0), ("sam (20 epochs)", 1.0),
                           ("sgd", 1.0), ("sgd (80 epochs)", 2.0)],
    }  # fmt: skip


def test_a_budget_that_steps_do_not_divide_is_equal_within_rounding():
    odd = record("nso", cost=3, epochs=EPOCHS / 3)
    odd["cost"]["sample_gradients"] += 2 * 125 * 3  # two steps more of 125 examples on average
    assert [t.rows[0].optimizer for t in tables([odd], "sample-gradients")] == ["nso"]
    odd["cost"]["sample_gradients"] += 2 * 125 * 3
    assert tables([odd], "sample-gradients") == []
    assert tables([odd])[0].budget == pytest.approx(1 / 3, abs=1e-6)  # never lost: a table of its own


def test_of_nearly_equal_budgets_the_nearest_is_in_the_row_and_each_seed_once():
    # 19.98 epochs are within two steps of 20
    records = [*seeds("sam", [0.60, 0.62], epochs=20.0), *seeds("sam", [0.70, 0.72], epochs=19.98)]
    (table,) = tables(records, "sample-gradients")
    (row,) = table.rows
    assert (row.n, row.test_accuracy.mean, row.epochs) == (2, pytest.approx(0.61), 20.0)
    assert [t.budget for t in tables(records)] == [pytest.approx(19.98 / 40)]  # not lost


def test_one_set_up_is_taken_whole_and_what_is_left_out_is_told():
    two = seeds("sgd", [0.60, 0.61, 0.62], threads=2)
    three = [*seeds("sgd", [0.70, 0.71], threads=4), record("sgd", 2, threads=4, failed=True),
             record("sgd", 3, 0.73, threads=4)]  # fmt: skip
    made = board([*two, *three])
    (row,) = tables([*two, *three])[0].rows
    assert (row.n, row.failed, row.test_accuracy.mean) == (4, 1, pytest.approx((0.70 + 0.71 + 0.73) / 3))
    assert made.left_out == ("3 records left out: the same seed again under another set-up.",)
    more = [*seeds("sgd", [0.5] * 6, threads=8), *three]
    assert board(more).left_out == (
        "4 records left out: the same seed again under another set-up; 1 of them failed.",
    )
    fills = [*seeds("sgd", [0.60] * 3), record("sgd", 7, 0.80, threads=4)]
    assert board(fills).tables[0].rows[0].n == 4
    assert board(fills).left_out == ()


def test_a_mean_of_fewer_measures_says_so():
    records = seeds("sgd", [0.60, 0.61, 0.62])
    records[1]["sharpness"]["measures"]["hessian_trace"]["value"] = None
    made = board(records)
    assert made.tables[0].rows[0].measures["hessian_trace"].over_seeds.n == 2
    said = "sgd: hessian_trace is over 2 of 3 completed runs; the others gave no finite number."
    assert said in markdown.render(made).replace("\\_", "_")
    assert "is over" not in markdown.render(board(seeds("sgd", [0.60, 0.61])))
    line = next(csv.DictReader(io.StringIO(csv_.render(made))))
    assert (line["n"], line["hessian_trace_n"]) == ("3", "2")


def test_failed_runs_belong_where_they_were_planned():
    found = board([record("sam", epochs=20.0, failed=True)]).tables
    assert [(table.view, table.budget) for table in found] == [("sample-gradients", 1.0)]
    row = found[0].rows[0]
    assert (row.failed, row.n, row.test_accuracy, row.sample_gradients) == (1, 1, None, EPOCHS * N_TRAIN)


def test_statistics_of_a_row():
    row = board(seeds("sam", [0.60, 0.62, 0.64])).tables[0].rows[0]
    # t_{2, 0.975} = 4.30265, s = 0.02
    assert row.test_accuracy.mean == pytest.approx(0.62)
    assert row.test_accuracy.half == pytest.approx(4.30265 * 0.02 / 3**0.5, rel=1e-5)
    assert row.validation_accuracy.mean == pytest.approx(0.64)
    assert row.test_accuracy_as_trained.mean == pytest.approx(0.61)
    assert row.train_loss.mean == 0.5
    trace = row.measures["hessian_trace"]
    assert (trace.over_seeds.mean, trace.se_probes, trace.se_examples) == (20.0, 1.5, 2.5)
    assert row.sample_gradients == 2 * EPOCHS * N_TRAIN


def test_seconds_compare_only_within_one_fingerprint():
    records = seeds("sgd", [0.6, 0.7, 0.8])
    for one, seconds in zip(records, (10.0, 12.0, 50.0), strict=True):
        one["cost"]["train_s"] = seconds
    table = board([*records, record("sam", fingerprint="cpu B"), *mixed()]).tables[0]
    assert {row.optimizer: row.train_s for row in table.rows} == {"sgd": 12.0, "sam": 100.0, "nso": None}
    page = markdown.render(board([*records, record("sam", fingerprint="cpu B"), *mixed()]))
    assert "12.0 [a]" in page
    assert "100.0 [b]" in page
    assert "- [b] cpu B" in page


def mixed():
    return [record("nso", 0), record("nso", 1, fingerprint="cpu B")]


@pytest.mark.parametrize(("task", "enough"), [("images", 10), ("digits", 10), ("big", 5)])
def test_too_few_seeds_are_descriptive_only(task, enough):
    def words(n):
        records = [*seeds("sgd", wavy(0.6, n=n), task=task), *seeds("sam", wavy(0.7, n=n), task=task)]
        return [row.verdict.word for row in board(records).tables[0].rows]

    assert words(enough - 1) == ["undecided", "undecided"]
    assert words(enough) == ["best", "worse"]
    few = board([*seeds("sgd", wavy(0.6, n=enough - 1), task=task), record("sam", task=task)])
    assert "descriptive only, without tests" in markdown.render(few)


def test_failures_keep_a_row_out_of_the_best_set():
    winners = seeds("sam", wavy(0.9))
    winners[3] = record("sam", 3, failed=True)
    table = board([*winners, *seeds("sgd", wavy(0.6))]).tables[0]
    sam, sgd = table.rows
    assert (sam.failed, sam.n, sam.verdict.word, sam.verdict.best_set) == (1, 10, "failed", False)
    assert sam.test_accuracy.n == 9
    assert sgd.verdict.word == "best"
    assert "1 of 10" in markdown.render(board([*winners, *seeds("sgd", wavy(0.6))]))


def test_unresolved_prints_what_could_have_been_detected():
    page = markdown.render(board([*seeds("sgd", wavy(0.60)), *seeds("sam", wavy(0.605, phase=3))]))
    lines = [line for line in page.splitlines() if line.startswith("| sgd") and "unresolved" in line]
    assert lines
    assert all("unresolved (could detect" in line for line in lines)


def test_tables_of_untuned_settings_bold_nobody_and_are_sorted_by_name():
    page = markdown.render(board([*seeds("sgd", wavy(0.7)), *seeds("nso", wavy(0.6))]))
    assert "**" not in page
    assert all("untuned: not a ranking" in line for line in page.splitlines() if line.startswith("## "))
    assert page.index("| nso") < page.index("| sgd")


def test_matched_training_loss_is_said():
    def note(loss):
        return markdown.render(board([record("sgd"), record("sam", train_loss=loss)]))

    assert "Rows are at matched training loss" in note(0.51)
    assert "Rows are not at matched training loss" in note(0.6)
    assert "hessian_trace@1000" in note(0.6)
    assert "matched" not in markdown.render(board([record("sgd")]))  # one row matches nothing


def test_the_same_bytes_for_any_order():
    records = [
        *seeds("sgd", wavy(0.7)),
        *seeds("sam", wavy(0.71)),
        *seeds("nso", wavy(0.7), noise=0.4),
        *mixed(),
    ]
    pages = set()
    for i in range(5):
        random.Random(i).shuffle(records)
        pages.add((markdown.render(board(records)), csv_.render(board(records))))
    assert len(pages) == 1


def test_two_versions_of_one_record_are_settled_the_same_way_in_any_order():
    one, other = record(accuracy=0.6), record(accuracy=0.7)
    found = [board(both).tables[0].rows[0].test_accuracy.mean for both in ([one, other], [other, one])]
    assert found == [0.6, 0.6]


def test_slim_records_of_an_index_give_the_same_tables_as_whole_ones():
    records = [*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.71)), *mixed()]
    records += [
        record("sgd", 11, failed=True),
        record("sam", 12, curvature=None),
        record("sam", 13, train_s=3),
    ]
    records[3]["sharpness"]["measures"]["hessian_trace"]["n"] = 500
    packer = Packer()
    assert board(map(packer.pack, records)) == board(records)


def test_costs_that_differ_from_run_to_run_are_each_run_s_own():
    records = seeds("sgd", wavy(0.7))
    for n, one in enumerate(records):
        one["cost"] |= {"sample_gradients": 180_000.0 + n, "steps": 1440.0, "n_train": 4500.0}
    row = board(records).tables[0].rows[0]
    assert row.sample_gradients == 180_004.5
    assert row.n == 10


def test_no_records():
    assert "No records to show." in markdown.render(board([]))
    assert csv_.render(board([])).startswith("protocol,track,task")


@pytest.mark.parametrize(
    "path", [("spec", "seed"), ("cost", "n_train"), ("results", "test_accuracy"), ("status",)]
)
def test_a_record_that_lacks_a_field_is_named(path):
    broken = record()
    parent = broken
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    with pytest.raises(SteppeError, match=f"{broken['run_id']}.*{path[-1]}"):
        board([broken])


def test_numbers_that_are_missing_or_not_finite_show_as_a_dash():
    odd = record()
    odd["sharpness"]["measures"]["hessian_trace"] |= {"value": None, "se_probes": None}
    odd["results"]["validation_accuracy"] = float("nan")
    page = markdown.render(board([odd]))
    assert "nan" not in page.lower()
