"""Which records share a table, and what its rows say."""

import csv
import io
import random

import pytest
from msgspec.structs import replace

from suite import PROTOCOL
from suite.report import csv_, markdown
from suite.store.index import slim
from tests.suite.report.fake_records import EPOCHS, N_TRAIN, board, changed, description, record, seeds, wavy

ACC = "test_accuracy"


def tables(records, view="epochs"):
    return [table for table in board(records).tables if table.view == view]


@pytest.mark.parametrize(
    "other",
    [{"data": "images"}, {"precision": "bf16"}, {"device": "cuda"}, {"noise": 0.4}, {"task": "digits"},
     {"compile": True}, {"data_checksum": "11"}, {"ranks": 2}, {"engine": 99}],
)  # fmt: skip
def test_strata_never_mix(other):
    found = tables([*seeds("sgd", [0.6, 0.7]), *seeds("sgd", [0.8, 0.9], **other)])
    assert [table.rows[0].n for table in found] == [2, 2]
    heads = {(t.task, t.data, t.precision, t.device, t.compiled, t.ranks, t.engine) for t in found}
    assert len(heads) == 2  # and their headings differ


def test_another_split_of_the_same_data_is_another_table():
    found = tables([record(), record(seed=1, split="cd")])
    assert len(found) == 2
    assert len({table.task for table in found}) == 2


def test_a_task_that_is_described_otherwise_is_another_table():
    found = tables([record(), record(seed=1, described=description(epochs=39.0))])
    assert len(found) == 2


def test_other_protocols_are_left_out_saying_how_many():
    old = seeds("sam", [0.6, 0.7, 0.8], protocol="fair-0.0")
    made = board([record(), *old, old[1]])
    assert made.left_out == (f"3 records of protocol fair-0.0 left out: this is {PROTOCOL}.",)
    assert sum(row.n for table in made.tables for row in table.rows if table.view == "epochs") == 1


def test_another_engine_is_another_table_that_says_so():
    page = markdown.render(board([record(), record(engine=99)]))
    said = [line for line in page.splitlines() if f"protocol {PROTOCOL}, engine" in line]
    assert {line.rpartition(" ")[2] for line in said} == {f"{record().engine}.", "99."}


def test_the_same_seed_under_another_set_up_counts_once():
    made = board([record(), record(threads=2)])
    assert made.tables[0].rows[0].n == 1
    assert "1 record left out: the same seed again" in made.left_out[0]


def test_the_same_record_twice_counts_once():
    for again in (record(), slim(record())):
        made = board([record(), again])
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
    def more(steps):  # of 125 examples on average
        one = record("nso", cost=3, epochs=EPOCHS / 3)
        return changed(one, "cost", sample_gradients=one.cost.sample_gradients + steps * 125 * 3)

    assert [t.rows[0].optimizer for t in tables([more(2)], "sample-gradients")] == ["nso"]
    assert tables([more(4)], "sample-gradients") == []
    assert tables([more(4)])[0].budget == pytest.approx(1 / 3, abs=1e-6)  # never lost: a table of its own


def test_of_nearly_equal_budgets_the_nearest_is_in_the_row_and_each_seed_once():
    # 19.98 epochs are within two steps of 20
    records = [*seeds("sam", [0.60, 0.62], epochs=20.0), *seeds("sam", [0.70, 0.72], epochs=19.98)]
    (table,) = tables(records, "sample-gradients")
    (row,) = table.rows
    assert (row.n, row.values[ACC].mean, row.epochs) == (2, pytest.approx(0.61), 20.0)
    assert [t.budget for t in tables(records)] == [pytest.approx(19.98 / 40)]  # not lost


def test_one_set_up_is_taken_whole_and_what_is_left_out_is_told():
    two = seeds("sgd", [0.60, 0.61, 0.62], threads=2)
    three = [*seeds("sgd", [0.70, 0.71], threads=4), record("sgd", 2, threads=4, failed=True),
             record("sgd", 3, 0.73, threads=4)]  # fmt: skip
    made = board([*two, *three])
    (row,) = tables([*two, *three])[0].rows
    assert (row.n, row.failed, row.values[ACC].mean) == (4, 1, pytest.approx((0.70 + 0.71 + 0.73) / 3))
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
    records[1] = record("sgd", 1, 0.61, curvature=None)
    made = board(records)
    assert made.tables[0].rows[0].measures["hessian_trace"].over_seeds.n == 2
    said = "hessian_trace has no value in 1 of 3 runs of sgd; means are over the others."
    assert said in markdown.render(made).replace("\\_", "_")
    assert "has no value" not in markdown.render(board(seeds("sgd", [0.60, 0.61])))
    line = next(csv.DictReader(io.StringIO(csv_.render(made))))
    assert (line["n"], line["hessian_trace_n"]) == ("3", "2")


def test_failed_runs_belong_where_they_were_planned():
    found = board([record("sam", epochs=20.0, failed=True)]).tables
    assert [(table.view, table.budget) for table in found] == [("sample-gradients", 1.0)]
    row = found[0].rows[0]
    assert (row.failed, row.n, row.values, row.sample_gradients) == (1, 1, {}, EPOCHS * N_TRAIN)


def test_statistics_of_a_row():
    row = board(seeds("sam", [0.60, 0.62, 0.64])).tables[0].rows[0]
    # t_{2, 0.975} = 4.30265, s = 0.02
    assert row.values[ACC].mean == pytest.approx(0.62)
    assert row.values[ACC].half == pytest.approx(4.30265 * 0.02 / 3**0.5, rel=1e-5)
    assert row.values["validation_accuracy"].mean == pytest.approx(0.64)
    assert row.values["test_accuracy_as_trained"].mean == pytest.approx(0.61)
    assert row.train_loss.mean == 0.5
    trace = row.measures["hessian_trace"]
    assert (trace.over_seeds.mean, trace.se_probes, trace.se_examples) == (20.0, 1.5, 2.5)
    assert row.sample_gradients == 2 * EPOCHS * N_TRAIN


def test_seconds_compare_only_within_one_fingerprint():
    records = [record("sgd", seed, 0.6, train_s=took) for seed, took in enumerate((10.0, 12.0, 50.0))]
    table = board([*records, record("sam", fingerprint="cpu B"), *mixed()]).tables[0]
    assert {row.optimizer: row.train_s for row in table.rows} == {"sgd": 12.0, "sam": 100.0, "nso": None}
    page = markdown.render(board([*records, record("sam", fingerprint="cpu B"), *mixed()]))
    assert "12.0 [a]" in page
    assert "100.0 [b]" in page
    assert "- [b] cpu B" in page
    assert "These rows mix them, in results as in seconds: nso [a, b]." in page


def test_a_run_that_moved_is_said_and_has_no_seconds_to_compare():
    stayed = [record("sgd", 0, train_s=10.0), record("sam", 0, train_s=10.0)]
    for name in ("sgd", "sam"):
        records = [*stayed, record(name, 1, train_s=10.0, fingerprints=("cpu A", "cpu B"))]
        table = board(records).tables[0]
        assert table.fingerprints == ("cpu A", "cpu B")
        assert {row.optimizer: row.train_s for row in table.rows}[name] is None
        page = markdown.render(board(records))
        assert "1 run went from one machine or version of software to another while training" in page
        assert f"These rows mix them, in results as in seconds: {name} [a, b]." in page
        (timed,) = tables(records, "seconds")
        assert [row.n for row in timed.rows] == [1, 1]
    assert "while training" not in markdown.render(board(stayed))


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
    assert sam.values[ACC].n == 9
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


def test_two_records_of_one_run_are_settled_the_same_way_in_any_order():
    one, other = record(accuracy=0.6), record(accuracy=0.7)
    boards = [board(both) for both in ([one, other], [other, one], [slim(other), one, slim(one)])]
    assert [made.tables[0].rows[0].values[ACC].mean for made in boards] == [0.6] * 3
    said = "1 record left out: the same run with other results, from another source"
    same = "; 1 of them from the same machine and software, which must not be."
    assert [made.left_out for made in boards] == [(said + same,)] * 3
    elsewhere = board([one, record(accuracy=0.7, fingerprint="cpu B")])
    assert elsewhere.left_out == (said + ".",)


def test_a_failure_in_the_other_source_is_said():
    made = board([record(failed=True), record(accuracy=0.7, fingerprint="cpu B")])
    assert made.tables[0].rows[0].failed == 0
    assert made.left_out[0].endswith("from another source; 1 of them failed.")


def test_slim_records_of_an_index_give_the_same_tables_as_whole_ones():
    records = [*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.71)), *mixed()]
    records += [
        record("sgd", 11, failed=True),
        record("sam", 12, curvature=None),
        record("sam", 13, train_s=3),
    ]
    assert board(map(slim, records)) == board(records)


def test_costs_that_differ_from_run_to_run_are_each_run_s_own():
    records = [
        changed(one, "cost", sample_gradients=180_000.0 + n) for n, one in enumerate(seeds("sgd", wavy(0.7)))
    ]
    row = board(records).tables[0].rows[0]
    assert row.sample_gradients == 180_004.5
    assert row.n == 10


def test_no_records():
    assert "No records to show." in markdown.render(board([]))
    assert csv_.render(board([])).startswith("protocol,engine,track,task")


def test_a_secondary_result_that_is_null_shows_as_a_dash_and_is_said():
    results = {"test": replace(record().results["test"], metrics={"accuracy": 0.65, "loss": None})}
    odd = record(found={**record().results, **results})
    page = markdown.render(board([odd, record(seed=1)]))
    assert "Test loss is no finite number in 1 of 2 runs of sgd; means are over the others." in page
    alone = markdown.render(board([odd]))
    assert "Test loss is no finite number in 1 of 1 runs of sgd" in alone
    row = next(line for line in alone.splitlines() if line.startswith("| sgd"))
    assert [cell.strip() for cell in row.split("|")][7] == "-"


def test_a_record_that_lacks_a_split_is_shown_without_it():
    found = {"test": record().results["test"]}
    page = markdown.render(board([record(found=found)]))
    assert "Validation accuracy is no finite number in 1 of 1 runs of sgd" in page


def test_estimates_of_two_versions_share_no_column():
    records = [*seeds("sgd", [0.6, 0.7]), *seeds("sam", [0.6, 0.7], measure_version=2, curvature=30.0)]
    made = board(records)
    sam, sgd = made.tables[0].rows
    assert list(made.tables[0].measures) == ["hessian_trace v1", "hessian_trace v2"]
    assert (list(sam.measures), list(sgd.measures)) == (["hessian_trace v2"], ["hessian_trace v1"])
    page = markdown.render(made)
    assert "hessian_trace v2@1000" in page
    assert "hessian_trace comes from several versions of its estimator, which share no column" in page
    assert "\\`steppe measure RUN -m hessian_trace --write\\` brings a run to the newest one." in page
    alike = board(seeds("sgd", [0.6, 0.7], measure_version=2))
    assert list(alike.tables[0].measures) == ["hessian_trace"]
    assert "versions of its estimator" not in markdown.render(alike)


def test_a_row_of_two_versions_says_nothing_of_missing_values():
    page = markdown.render(board([record(), record(seed=1, measure_version=2)]))
    assert "several versions" in page
    assert "has no value" not in page


def test_what_can_be_recounted_is_told_from_what_is_claimed():
    page = markdown.render(board(seeds("sgd", [0.6, 0.7])))
    assert "Can be recounted from the stored correctness of single examples: test accuracy. All else" in page
    bare = {split: replace(one, right={}) for split, one in record().results.items()}
    page = markdown.render(board([record(), record(seed=1, found=bare)]))  # not every one
    assert "No result can be recounted from stored examples: all is as the records claim it." in page


@pytest.mark.parametrize(("losses", "matched"), [((-1.0, -1.04), True), ((-1.0, -2.0), False)])
def test_losses_below_zero_are_matched_by_their_size(losses, matched):
    records = [record("sgd", train_loss=losses[0]), record("sam", train_loss=losses[1])]
    assert board(records).tables[0].matched_loss is matched


def test_measures_that_are_missing_show_as_a_dash():
    page = markdown.render(board([record(curvature=None)]))
    assert "hessian_trace has no value in 1 of 1 runs of sgd" in page
    assert "nan" not in page.lower()
    assert "None" not in page
