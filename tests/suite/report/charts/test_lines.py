"""Learning curves as charts."""

import json

import pytest

from suite.metric import ACCURACY, LOSS, Metric
from suite.report import charts
from suite.report.columns import LEARNING_RATE, RowColumn, row_column
from suite.report.curves import curves
from tests.suite.report.charts.drawing import HOSTILE, svg, texts


def run(scale=1.0, epochs=12):
    return [
        {"epoch": e, "sample_gradients": 100 * e, "train_loss": scale * 2 / e,
         "validation_loss": scale * 3 / e, "validation_accuracy": 0.5 + e / 100}
        for e in range(1, epochs + 1)
    ]  # fmt: skip


LOSSES = row_column("train", LOSS), row_column("validation", LOSS)
VALIDATED = row_column("validation", ACCURACY)


def bands(rows, column=LOSSES[0], names=()):
    return charts.curve_bands(curves(rows, column), column, "Loss", names=names)


def marks(spec):
    return {layer["mark"]["type"]: layer for layer in spec["layer"]}


@pytest.mark.parametrize("dark", [False, True])
def test_curves_render_without_a_warning_whatever_the_names(dark, capfd):
    rows = {name: [run(), run(1.1)] for name in HOSTILE}
    drawn = svg(bands(rows), dark)
    svg(
        charts.run_curves({name: one[0] for name, one in rows.items()}, LOSSES),
        dark,
    )
    assert "<script" not in drawn
    assert max(map(len, texts(drawn))) < 100
    assert "WARN" not in "".join(capfd.readouterr())


def test_lines_differ_by_colour_dash_and_symbol():
    spec = bands({f"o{i}": [run(), run(1.2)] for i in range(6)})
    line, point = marks(spec)["line"]["encoding"], spec["layer"][2]["encoding"]
    assert len({json.dumps(dash) for dash in line["strokeDash"]["scale"]["range"]}) == 6
    assert len(set(point["shape"]["scale"]["range"])) == 6
    assert line["color"]["scale"]["domain"] == [f"o{i}" for i in range(6)]
    drawn = [value for value in spec["data"]["values"] if value["symbol"]]
    assert {value["line"] for value in drawn} == {f"o{i}" for i in range(6)}


def test_accuracies_are_drawn_in_percent_with_their_band():
    spec = bands({"sgd": [run(), run()]}, VALIDATED)
    first = spec["data"]["values"][0]
    assert (first["mean"], first["low"], first["high"]) == pytest.approx((51, 51, 51))
    assert marks(spec)["line"]["encoding"]["y"]["title"] == "validation accuracy, %"
    assert "sgd 62 %" in spec["description"]
    assert spec["title"]["subtitle"] == ["n = 2 seeds · line: mean over runs; band: 95 % t interval"]


def test_accuracies_keep_a_linear_axis_between_0_and_100():
    rows = [[{"epoch": 1, "validation_accuracy": first}, {"epoch": 2, "validation_accuracy": last}]
            for first, last in ((0.011, 0.97), (0.02, 0.999))]  # fmt: skip
    scale = marks(bands({"sgd": rows}, VALIDATED))["line"]["encoding"]["y"]["scale"]
    assert "type" not in scale
    assert scale["domain"] == [0.0, 100.0]
    assert scale["clamp"]  # their t intervals go beyond
    loss = [[{"epoch": 1, "train_loss": 9.0}, {"epoch": 2, "train_loss": 0.01}]]
    assert marks(bands({"sgd": loss}))["line"]["encoding"]["y"]["scale"]["type"] == "log"


def test_one_run_has_no_band_and_says_so():
    spec = bands({"sgd": [run()]})
    assert "no interval" in spec["title"]["subtitle"][0]
    assert "n = 1 seed " in spec["title"]["subtitle"][0]
    assert {value["interval"] for value in spec["data"]["values"]} == {"none from one run"}


def test_runs_that_ended_early_are_said():
    spec = bands({"sgd": [run(), run(epochs=5)], "sam": [run()]})
    assert "n = 1 to 2 seeds" in spec["title"]["subtitle"][0]
    assert "a run that ended early is in no later point" in spec["title"]["subtitle"][0]
    assert {value["n"] for value in spec["data"]["values"] if value["line"] == "sgd"} == {1, 2}


def test_no_curves_say_that_there_is_nothing():
    for spec in (bands({}), charts.run_curves({}, LOSSES[:1]), charts.run_curves({"a": []}, [LEARNING_RATE])):
        assert "nothing to show: no run has these numbers" in spec["title"]["subtitle"]
        svg(spec)


def test_the_columns_of_one_run():
    spec = charts.run_curves({"sgd seed 0": run()}, LOSSES, "Run 20308e37")
    assert spec["title"]["text"] == "Run 20308e37"
    assert {"training loss", "validation loss"} <= set(texts(svg(spec)))
    shown = [(v["x"], v["mean"]) for v in spec["data"]["values"] if v["line"] == "validation loss"]
    assert shown[:2] == [(1.0, 3.0), (2.0, 1.5)]


def test_two_runs_side_by_side():
    spec = charts.run_curves({"sgd": run(), "sam": run(epochs=3)}, LOSSES[:1], x="sample_gradients")
    labels = {value["line"] for value in spec["data"]["values"]}
    assert labels == {"sgd, training loss", "sam, training loss"}
    assert max(value["x"] for value in spec["data"]["values"]) == 1200
    assert spec["description"] == "training loss: training loss by sample-gradients of sgd, sam."


def test_a_column_that_a_run_lacks_is_no_line():
    rows = [*run(epochs=3), {"epoch": 4, "train_loss": None}]
    spec = charts.run_curves({"sgd": rows}, (LOSSES[0], LEARNING_RATE))
    assert [value["x"] for value in spec["data"]["values"]] == [1, 2, 3]


def test_a_metric_on_a_log_scale_has_a_log_axis_down_to_its_floor(capfd):
    error = Metric("error", "lower", scale="log", floor=1e-8)
    rows = [{"epoch": 1, "train_error": 2e-8}, {"epoch": 2, "train_error": 0.0}]
    one, other = row_column("train", error), RowColumn("train_error", "training error", LOSS)
    for spec in (bands({"sgd": [rows]}, one), charts.run_curves({"sgd": rows}, [one])):
        y = marks(spec)["line"]["encoding"]["y"]
        assert (y["scale"]["type"], y["title"]) == ("log", "training error (log scale)")
        assert [value["mean"] for value in spec["data"]["values"]] == pytest.approx([2e-8, 1e-8])
        svg(spec)
    assert "type" not in marks(charts.run_curves({"sgd": rows}, [other]))["line"]["encoding"]["y"]["scale"]
    assert "WARN" not in "".join(capfd.readouterr())
