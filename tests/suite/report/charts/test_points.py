"""Charts of rows: what they show is what the table holds, and nothing is hidden."""

import json
import random
from dataclasses import replace
from html import escape

import pytest

from suite.report import charts
from suite.report.charts.points import VERDICTS
from suite.report.leaderboard import names
from tests.suite.report.charts.drawing import HOSTILE, LONG, count, odd_board, spoken, svg, texts
from tests.suite.report.fake_records import board, record, seeds, wavy


def values(spec):
    return {value["optimizer"]: value for value in spec["data"]["values"]}


def rows(*accuracies, **options):
    return board([*seeds("sgd", accuracies[0], **options), *seeds("sam", accuracies[1])]).tables[0]


@pytest.fixture(scope="module")
def odd():
    return odd_board()


@pytest.mark.parametrize("dark", [False, True])
def test_every_chart_renders_without_a_warning(odd, dark, capfd):
    drawn = [svg(spec, dark) for table in odd.tables for spec in charts.of_table(table, names(odd)).values()]
    assert len(drawn) > 6
    assert "WARN" not in "".join(capfd.readouterr())


def test_hostile_names_are_shown_and_do_nothing(odd):
    table = odd.tables[0]
    for spec in charts.of_table(table, names(odd)).values():
        drawn = svg(spec)
        assert "<script" not in drawn
        shown = texts(drawn)
        assert max(map(len, shown)) < 150  # long names are cut where they are labels
        assert any(text.startswith("xxxx") and text.endswith("…") for text in shown)
        assert any(LONG in label for label in spoken(drawn))  # and whole where they are told
    shown = values(charts.scores(table))
    for name in HOSTILE:
        assert f"{' '.join(name.split())}[base=sgd,rho=0.05]" in shown


def test_dots_and_intervals_are_those_of_the_table(odd):
    table = odd.tables[0]
    shown = list(charts.scores(table)["data"]["values"])
    assert len(shown) == len(table.rows)
    for row, value in zip(table.rows, shown, strict=True):
        found = row.values.get("test_accuracy")
        if found is None:
            assert value["mean"] is value["low"] is None
            continue
        assert value["mean"] == pytest.approx(100 * found.mean)
        if found.low is not None:
            assert (value["low"], value["high"]) == pytest.approx((100 * found.low, 100 * found.high))
        assert (value["seeds"], value["losses"]) == (row.n, row.failed)


def test_a_verdict_has_a_shape_and_a_word_of_its_own(odd):
    assert len(set(VERDICTS.values())) == len(VERDICTS)
    spec = charts.scores(odd.tables[0])
    shape = next(layer["encoding"]["shape"] for layer in spec["layer"] if "shape" in layer["encoding"])
    words = ["best set", "unresolved", "worse", "undecided", "failed runs"]
    assert [word for word in shape["scale"]["domain"] if word != "tie"] == words
    shown = texts(svg(spec))
    assert any(text.endswith("· best set") for text in shown)
    assert any(text.endswith("· undecided") for text in shown)


def test_failed_rows_stay_in_sight(odd):
    table = odd.tables[0]
    assert "failed runs, 3 of 3" in texts(svg(charts.scores(table)))
    assert any(text.endswith("failed runs, 1 of 10") for text in texts(svg(charts.scores(table))))
    drawn = svg(charts.cost_scores(table))
    assert {"failed runs", "no completed run"} <= set(texts(drawn))
    assert any(": no completed run, failed runs" in label for label in spoken(drawn))
    measured = charts.sharpness_scores(table, "hessian_trace")["title"]["subtitle"]
    assert any("not shown" in line and "lost" in line for line in measured)


def test_only_failed_runs(capfd):
    table = board([record("sgd", seed, failed=True) for seed in range(2)]).tables[0]
    svg(charts.scores(table))
    svg(charts.cost_scores(table))
    svg(charts.cost_scores(table, by="seconds"))
    svg(charts.sharpness_scores(table, "hessian_trace"))
    assert "none with a completed run" in charts.scores(table)["description"]
    assert "WARN" not in "".join(capfd.readouterr())


def test_one_seed_has_no_interval_and_says_so():
    spec = charts.scores(board([record("sgd"), record("sam")]).tables[0])
    assert {value["interval"] for value in spec["data"]["values"]} == {"none from one run"}
    assert "n = 1 seed ·" in spec["title"]["subtitle"][0]
    assert "no interval from one run" in spec["title"]["subtitle"][0]
    assert (count(svg(spec), "rule"), count(svg(spec), "symbol")) == (0, 2)


def test_an_empty_table_and_a_missing_measure_say_that_there_is_nothing(capfd):
    table = board([record("sgd"), record("sam")]).tables[0]
    for spec in (charts.scores(replace(table, rows=())), charts.sharpness_scores(table, "unheard")):
        assert any("nothing to show" in line for line in spec["title"]["subtitle"])
        svg(spec)
    assert "sharpness-unheard" not in charts.of_table(table)
    assert "WARN" not in "".join(capfd.readouterr())


def test_headings_tell_the_table_its_seeds_and_that_it_ranks_nobody():
    table = rows([0.6, 0.7], [0.65, 0.66, 0.67])
    for spec in charts.of_table(table).values():
        head = spec["title"]["subtitle"][0]
        assert "images on images-jpeg" in spec["title"]["text"]
        assert "equal epochs, 1x (untuned: not a ranking)" in head
        assert "n = 2 to 3 seeds" in head
        assert "fp32 on cpu" in head
    shown = texts(svg(charts.cost_scores(table)))
    assert "test accuracy, %" in shown
    assert "cost in sample-gradients, times the task's budget" in shown
    assert "hessian_trace at 1000 training examples" in texts(
        svg(charts.sharpness_scores(table, "hessian_trace"))
    )


def test_the_description_says_the_message_in_words():
    table = rows(wavy(0.60), wavy(0.70))
    assert charts.scores(table)["description"] == (
        "Test accuracy, images on images-jpeg, equal epochs, 1x (untuned: not a ranking), n = 10 seeds: "
        "2 rows; highest mean: sam: 70.00 ± 0.72 %, best set; lowest: sgd: 60.00 ± 0.72 %, worse by 10.00."
    )


def test_zero_is_not_forced_and_everything_is_inside():
    spec = charts.scores(rows(wavy(0.60), wavy(0.70)))
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    shown = spec["data"]["values"]
    assert 50 < low < min(value["low"] for value in shown)
    assert max(value["high"] for value in shown) < high < 80


def test_the_front_is_of_sound_rows_only(odd):
    table = board([*seeds("sgd", [0.6, 0.6]), *seeds("sam", [0.7, 0.7]), *seeds("nso", [0.65, 0.65]),
                   record("adam", 0, 0.9), record("adam", 1, failed=True)]).tables[0]  # fmt: skip
    line = charts.cost_scores(table)["layer"][0]
    assert line["mark"]["interpolate"] == "step-after"
    corners = [(value["at"], value["mean"]) for value in line["data"]["values"]]
    assert corners[:2] == [(1.0, 60.0), (2.0, 70.0)]
    assert corners[2][1] == 70.0
    assert len(corners) == 3  # NSO is dominated, Adam failed once


def test_points_of_one_cost_stand_apart_and_tell_their_own():
    spec = charts.cost_scores(board([record(name) for name in ("sgd", "adam", "x", "sam")]).tables[0])
    shown = spec["data"]["values"]
    places = [value["at"] for value in shown if value["x"] == 1.0]
    assert len(set(places)) == 3
    assert sum(places) / 3 == pytest.approx(1.0)
    assert {value["cost"] for value in shown if value["x"] == 1.0} == {"1.00x, 180,000 sample-gradients"}


def test_seconds_are_those_of_one_machine():
    records = [record("sgd", 0, train_s=10.0), record("sam", 0, train_s=20.0),
               record("nso", 0, train_s=5.0, fingerprint="cpu B")]  # fmt: skip
    spec = charts.cost_scores(board(records).tables[0], by="seconds")
    assert [value["optimizer"] for value in spec["data"]["values"]] == ["sam", "sgd"]
    assert spec["title"]["subtitle"][2:] == [
        "seconds compare only on an otherwise idle machine; here cpu A",
        "not shown, without seconds there: nso",
    ]


def test_costs_that_are_equal_make_no_chart():
    tables = board([*seeds("sgd", [0.6, 0.7]), *seeds("sam", [0.6, 0.7], epochs=20.0)]).tables
    for table in tables:
        assert "cost" not in charts.of_table(table)
    mixed = board([record("sgd", train_s=10.0), record("sam", train_s=20.0)]).tables[0]
    assert list(charts.of_table(mixed)) == ["scores", "cost", "seconds", "sharpness-hessian_trace"]


def test_an_optimizer_keeps_its_look_from_chart_to_chart(odd):
    found = set()
    for table in odd.tables:
        for spec in charts.of_table(table, names(odd)).values():
            for layer in spec["layer"]:
                color = layer["encoding"].get("color")
                found |= {json.dumps(color["scale"]["domain"])} if color else set()
    assert len(found) == 1
    assert len(json.loads(found.pop())) == len(names(odd))


def test_legends_name_only_what_is_there():
    table = rows(wavy(0.6), wavy(0.7))
    shown = texts(svg(charts.cost_scores(table, ["adam", "sam", "sgd", "zeta"])))
    assert {"sam", "sgd"} <= set(shown)
    assert not {"adam", "zeta"} & set(shown)


def test_labels_that_look_the_same_stay_apart():
    table = board([record("a b"), record("a\nb")]).tables[0]
    shown = values(charts.scores(table))
    assert len(shown) == 2
    drawn = texts(svg(charts.scores(table)))
    assert all(label in drawn for label in shown)


def test_measures_that_span_decades_have_a_log_axis_that_says_so():
    wide = board([record("sgd", curvature=1.0), record("sam", curvature=500.0)]).tables[0]
    x = charts.sharpness_scores(wide, "hessian_trace")["layer"][0]["encoding"]["x"]
    assert (x["scale"]["type"], x["title"]) == ("log", "hessian_trace at 1000 training examples (log scale)")
    below = board([record("sgd", curvature=-1.0), record("sam", curvature=500.0)]).tables[0]
    assert "type" not in charts.sharpness_scores(below, "hessian_trace")["layer"][0]["encoding"]["x"]["scale"]


def test_the_same_chart_for_any_order():
    records = [*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.71)), record("nso", failed=True)]
    made = set()
    for i in range(3):
        random.Random(i).shuffle(records)
        spec = charts.cost_scores(board(records).tables[0])
        made.add((json.dumps(spec), svg(spec)))
    assert len(made) == 1


def test_the_text_of_a_mark_is_escaped():
    drawn = svg(charts.scores(board([record("<b>&")]).tables[0]))
    assert any(label.startswith(escape("<b>&")) for label in spoken(drawn))


def test_many_rows_of_one_cost_stay_on_the_axis():
    many = [one for i in range(14) for one in seeds(f"o{i:02}", [0.5, 0.6, 0.7])]
    table = board([*many, *seeds("dear", [0.6, 0.7, 0.8], cost=2.0)]).tables[0]
    spec = charts.cost_scores(table)
    low, high = next(layer for layer in spec["layer"] if "x" in layer["encoding"])["encoding"]["x"]["scale"][
        "domain"
    ]
    assert all(low < value["at"] < high for value in spec["data"]["values"])
