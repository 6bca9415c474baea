"""Tasks that classify no images in every format: scales, splits, facts, columns and profiles of their own."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from suite.metric import LOSS, Description, Metric, Profile
from suite.report import charts, csv_, figures, latex, markdown, site
from suite.report.columns import columns, curve_groups, page_curves
from suite.report.curves import curves
from suite.report.leaderboard import names
from tests.browser import sites
from tests.suite.report import foreign
from tests.suite.report.charts.drawing import svg, texts
from tests.suite.report.fake_records import board, record, wavy
from tests.suite.report.foreign import decades, run, runs


@pytest.fixture(scope="module")
def made():
    return board(foreign.everything())


def table(records):
    return next(table for table in board(records).tables if table.view == "epochs")


def page(records):
    return markdown.render(board(records)).partition(": equal sample-gradients")[0]


def words(records):
    return {row.optimizer: row.verdict.word for row in table(records).rows}


def titles(records):
    return [column.title for column in table(records).columns]


# -- (a) a log scale with a floor, one test split ------------------------------------------------------


def test_a_tie_on_a_log_scale_is_within_the_margin_in_decades():
    base = decades(-5)
    assert words(runs("sensing", "sgd", base) + runs("sensing", "sam", [x * 10**0.05 for x in base])) == {
        "sgd": "best",
        "sam": "worse",  # the same difference at every seed: significant, and within the margin
    }
    noisy = runs("sensing", "sgd", base) + runs("sensing", "sam", decades(-4.99, phase=3))
    assert words(noisy) == {"sgd": "best", "sam": "tie"}
    assert "differences within 0.1 decades are a tie" in page(noisy)


def test_lower_is_better_and_a_difference_is_in_decades():
    records = runs("sensing", "sgd", decades(-5)) + runs("sensing", "sam", decades(-3, phase=3))
    assert words(records) == {"sgd": "best", "sam": "worse"}
    said = page(records)
    assert "worse by 2 decades" in said
    assert "Rows are compared by test recovery error: lower is better" in said
    assert re.search(r"\| sgd .*1\.000e-05 ×/÷ 1\.034 ", said)  # t_9 x 0.0204 / sqrt(10) decades
    tex = latex.render(board(records))
    assert r"1.000$\times10^{-5}$ $\times$/$\div$ 1.034" in tex
    assert "worse by 2 decades" in tex


def test_a_mean_on_a_log_scale_is_geometric():
    (row,) = table(runs("sensing", "sgd", [1e-6, 1e-4])).rows
    column = table(runs("sensing", "sgd", [1e-6, 1e-4])).score
    assert column.plain(row.values[column.key].mean) == pytest.approx(1e-5)
    line = next(csv.DictReader(io.StringIO(csv_.render(board(runs("sensing", "sgd", [1e-6, 1e-4]))))))
    assert float(line["test_recovery_error_mean"]) == pytest.approx(1e-5)
    assert (line["compared_by"], line["scale"], line["better"], line["margin"]) == (
        "test_recovery_error", "log", "lower", "0.1"
    )  # fmt: skip


def test_zero_counts_as_the_floor_and_the_table_says_so():
    records = runs("sensing", "sgd", [0.0, 1e-8, 1e-6])
    (row,) = table(records).rows
    assert row.values["test_recovery_error"].mean == pytest.approx((-8 - 8 - 6) / 3)
    said = "Test recovery error is at most 1e-08, the smallest value that it resolves, in 2 of 3 runs of sgd"
    assert said in page(records)
    assert "the smallest value" not in page(runs("sensing", "sgd", [1e-7, 1e-6]))
    assert said in latex.render(board(records)).replace("\\", "")
    (spec, *_) = charts.of_table(table(records)).values()
    assert "counted as the floor, 1e-08: 2 of 3 runs of sgd" in spec["title"]["subtitle"]


def test_an_interval_beyond_all_numbers_is_cut_off(capfd):
    huge = Metric("error", "lower", scale="log", floor=1e-300)
    described = Description("small", 40.0, (huge,), tests=())
    found = [
        run("tokens", "sgd", seed, described=described, found={"validation": one})
        for seed, one in enumerate(
            foreign.SplitResult(9, {"error": value}) for value in (1e-300, 1e300)
        )
    ]  # fmt: skip
    made = board(found)
    assert "×/÷ 1.0e+150" in markdown.render(made)
    csv_.render(made)
    svg(charts.scores(made.tables[0]))
    assert "WARN" not in "".join(capfd.readouterr())


# -- (b) three test splits in percent, no BatchNorm ----------------------------------------------------


def test_every_split_has_a_column_of_the_primary_metric_and_the_scored_one_of_the_others():
    assert titles([run("pairs")]) == [
        "seen recall at 1, %",
        "unseen recall at 1, %",
        "with distractors recall at 1, %",
        "validation recall at 1, %",
        "seen median rank",
    ]
    assert "as trained," not in page([run("pairs")])
    assert (
        "Can be recounted from the stored correctness of single examples: seen recall at 1, unseen"
        in page([run("pairs")])
    )


def test_as_trained_is_named_by_its_split_where_there_are_several():
    results = foreign.results("pairs", 0.6)
    adapted = {
        split: foreign.SplitResult(
            one.n, one.metrics, one.metrics if split in foreign.PAIRS.tests else {}, one.right
        )
        for split, one in results.items()
    }
    assert titles([run("pairs", found=adapted)])[4:7] == [
        "seen as trained, %",
        "unseen as trained, %",
        "with distractors as trained, %",
    ]


# -- (c) neither test nor validation, facts, no margin -------------------------------------------------


def test_without_test_and_validation_rows_are_compared_on_the_training_split():
    assert titles([run("edge")]) == ["training loss", "rises", "seconds to solution, s"]
    (row,) = table(runs("edge", "sgd", [1e-3, 2e-3])).rows
    assert row.values["train_loss"].mean == pytest.approx(1.5e-3)
    assert row.values["rises"].mean == 3.5


def test_without_a_margin_no_tie_is_claimed():
    same = runs("edge", "sgd", wavy(1.0, 1e-6)) + runs("edge", "sam", wavy(1.0, 1e-6, phase=3))
    assert sorted(words(same).values()) == ["best", "unresolved"]
    assert "no margin is declared for it, so that no tie is claimed" in page(same)
    line = next(csv.DictReader(io.StringIO(csv_.render(board(same)))))
    assert line["margin"] == ""


def test_a_column_of_the_task_s_own_is_a_curve():
    assert list(page_curves(foreign.EDGE)) == [
        "train_loss", "hessian_trace", "lambda_max", "lpf", "lpf_difference", "sharpness_train_loss",
        "effective_rank",
    ]  # fmt: skip
    rows = {"sgd": [[{"epoch": 1, "effective_rank": 4.0}, {"epoch": 2, "effective_rank": 2.0}]]}
    column = page_curves(foreign.EDGE)["effective_rank"]
    spec = charts.curve_bands(curves(rows, column), column, "Rank")
    assert "effective rank" in texts(svg(spec))


# -- (d) no unit, lower is better, validation only -----------------------------------------------------


def test_larger_numbers_without_a_unit():
    records = runs("tokens", "sgd", wavy(123.4, 0.2)) + runs("tokens", "sam", wavy(118.1, 0.2))
    said = page(records)
    assert titles(records) == ["validation perplexity", "validation next token hits, %"]
    assert "123.40 ± 0.14" in said  # to the last digit of the interval
    assert "worse by 5.3" in said
    assert "differences within 0.5 are a tie" in said
    (spec, *_) = charts.of_table(table(records)).values()
    assert spec["description"].endswith("lowest mean: sam: 118.10 ± 0.14, best set; highest: sgd: 123.40 ± "
                                        "0.14, worse by 5.3.")  # fmt: skip


def test_the_front_of_a_metric_that_is_better_lower_goes_down():
    records = [run("tokens", "sgd", 0, 120.0), run("tokens", "sam", 0, 110.0), run("tokens", "nso", 0, 115.0)]
    line = charts.cost_scores(table(records))["layer"][0]
    assert [(point["at"], point["mean"]) for point in line["data"]["values"]][:2] == [(1, 120), (2, 110)]


def test_a_row_that_failed_stands_where_results_are_worst():
    def edges(task, value):
        found = table([run(task, "sgd", 0, value), run(task, "nso", 0, failed=True)])
        marks = [
            next(layer for layer in spec["layer"] if layer["mark"].get("style") == "failed")["encoding"]
            for spec in (charts.scores(found), charts.cost_scores(found))
        ]
        return marks[0]["x"]["value"], marks[1]["y"]["value"]

    assert edges("tokens", 120.0) == ("width", 0)  # high, on axes that run to the right and up
    assert edges("pairs", 0.6) == (10, "height")


# -- all of them ---------------------------------------------------------------------------------------


def test_no_report_knows_a_metric_by_its_name():
    suite = Path(__file__).parents[3] / "suite"
    sources = [*(suite / "report").rglob("*.py"), *(suite / "report" / "site" / "templates").iterdir()]
    assert len(sources) > 40
    assert not [path for path in sources if "accuracy" in path.read_text(encoding="utf-8")]
    compared = re.compile(
        r"""(with\(|[=!]=|\bin)\s*["'][a-z_]*accuracy["']|["'][a-z_]*accuracy["']\s+(not )?in\b"""
    )
    assert compared.search('if name.endswith("accuracy")')
    assert not [path for path in (suite / "cli").rglob("*.py") if compared.search(path.read_text())]


def test_one_csv_holds_tables_of_different_tasks(made):
    lines = list(csv.DictReader(io.StringIO(csv_.render(made))))
    by_task = {line["task"]: line for line in lines}
    assert by_task["tokens"]["validation_perplexity_mean"]
    assert by_task["tokens"]["test_recovery_error_mean"] == ""
    assert by_task["edge"]["rises_mean"] == "7.5"
    assert {line["compared_by"] for line in lines} == {
        "train_loss", "seen_recall_at_1", "test_recovery_error", "validation_perplexity"
    }  # fmt: skip


def test_a_null_of_a_secondary_metric_and_a_failure_are_said(made):
    said = markdown.render(made)
    assert "Validation next token hits is no finite number in 1 of 1 runs of sam; means are over" in said
    assert re.search(r"\| nso +\| +1 \| +1 of 1 \| +- \| +- \|.*failed runs", said)


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_renders_without_a_warning(made, dark, capfd):
    entries = names(made)
    shown = [table for table in made.tables if table.view == "epochs"]
    drawn = [svg(spec, dark) for table in shown for spec in charts.of_table(table, entries).values()]
    assert len(drawn) > 8
    assert "WARN" not in "".join(capfd.readouterr())


def test_figures_of_curves_on_every_scale(tmp_path, capfd):
    records = runs("sensing", "sgd", decades(-5, n=2)) + runs("pairs", "sgd", [0.5, 0.6])
    records += runs("edge", "sgd", [1.0, 2.0])
    by_id = {one.run_id: one for one in records}
    made = board(records)
    found = [
        site.plots.table_curves(
            table, lambda run_id: [sites.row(by_id[run_id], epoch, 0.5) for epoch in range(1, 9)]
        )
        for table in made.tables
    ]
    files = {path.name for path in figures.write(tmp_path, made, found)}
    assert {
        "01-edge-epochs-1x-curves-effective-rank-by-epoch.svg",
        "03-pairs-epochs-1x-curves-validation-recall-at-1-by-epoch.png",
        "05-sensing-epochs-1x-curves-validation-recovery-error-by-epoch.png",
    } <= files
    drawing = (tmp_path / "05-sensing-epochs-1x-curves-validation-recovery-error-by-epoch.svg").read_text()
    assert "validation recovery error (log scale)" in drawing
    assert "WARN" not in "".join(capfd.readouterr())


# -- names ---------------------------------------------------------------------------------------------


def test_a_fact_named_like_a_measure_or_a_result_has_a_key_of_its_own():
    facts = (Metric("hessian_trace", "neither"), Metric("test_loss", "neither"))
    described = Description("small", 40.0, (LOSS,), facts=facts)
    keys = [column.key for column in columns(described, ())]
    assert keys == ["test_loss", "validation_loss", "hessian_trace_", "test_loss_"]


def test_columns_named_like_a_metric_have_a_chart_of_their_own():
    own = (Metric("loss", "neither"), Metric("lr", "neither"))
    described = Description("small", 40.0, (LOSS,), columns=own)
    assert list(curve_groups(described, ())) == [
        "loss",
        "loss (own)",
        "lr",
        "training loss on the subset",
        "learning rate",
    ]


HOSTILE = "<b>|`x`\n{%}$\u202e&"


def test_what_a_task_says_of_itself_does_nothing(tmp_path):
    fact = Metric("gap", "lower", unit=HOSTILE)
    described = Description(
        "small", 40.0, (Metric("score", "higher", unit=HOSTILE),), tests=(), facts=(fact,),
        profiles=(Profile("path", HOSTILE, fact),),
    )  # fmt: skip
    found = {"validation": foreign.SplitResult(5, {"score": 1.0})}
    records = [record(name, described=described, found=found, facts={"gap": 2.0}) for name in ("sgd", "sam")]
    made = board(records)
    plain = "validation score, <b>|`x` {%}$ &"
    assert table(records).score.title == plain
    text = markdown.render(made)
    assert "<b>" not in text
    assert len({line.count("|") - line.count("\\|") for line in text.splitlines() if line[:1] == "|"}) == 2
    assert plain in texts(svg(charts.scores(made.tables[0])))
    assert r"validation score, \textless{}b\textgreater{}\textbar{}" in latex.render(made)
    root = site.write(tmp_path / "site", made, sites.material(records)).parent
    for path in [*root.glob("*.html"), *root.glob("tasks/*.html"), *root.glob("data/**/*.js")]:
        assert "<b>" not in path.read_text(encoding="utf-8")


def test_the_charts_of_a_run_are_those_of_its_kind(tmp_path):
    root = site.write(
        tmp_path / "site", board(foreign.everything()), sites.material(foreign.everything())
    ).parent
    text = (root / "data" / "run-charts.js").read_text(encoding="utf-8")
    kinds = json.loads(text.partition(".runCharts = ")[2].removesuffix(";\n"))
    assert len(kinds) == 4
    by_title = {tuple(chart["title"] for chart in some): some for some in kinds.values()}
    edge = next(some for heads, some in by_title.items() if "Interpolation" in heads)
    assert edge[-1]["profile"] == "interpolation"
    assert edge[-1]["columns"] == {"interpolation": "loss"}
    sensing = next(some for heads, some in by_title.items() if "Recovery error" in heads)
    (chart,) = [chart for chart in sensing if chart["title"] == "Recovery error"]
    assert (chart["log"], chart["floor"], chart["factor"]) == (True, 1e-8, 1)
