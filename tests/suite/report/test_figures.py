"""Charts as files."""

import re

import pytest

from suite.errors import SteppeError
from suite.metric import LOSS
from suite.report import figures
from suite.report.columns import row_column
from suite.report.curves import curves
from tests.suite.report.fake_records import board, record, seeds, wavy

SMALL = [*seeds("sgd", wavy(0.6)), *seeds("sam", wavy(0.7))]


def test_every_chart_as_png_and_svg_the_same_each_time(tmp_path):
    made = board(SMALL)
    rows = {"sgd": [[{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}]]}
    lines = [curves(rows, row_column("train", LOSS)), *([] for _ in made.tables[1:])]
    files = figures.write(tmp_path / "new" / "figures", made, lines)
    stems = [path.name for path in files if path.suffix == ".svg"]
    assert stems[:4] == [
        "01-images-epochs-1x-scores.svg",
        "01-images-epochs-1x-cost.svg",
        "01-images-epochs-1x-sharpness-hessian-trace.svg",
        "01-images-epochs-1x-curves-train-loss-by-epoch.svg",
    ]
    assert sum(path.suffix == ".png" for path in files) == len(stems) == len(files) / 2
    for path in files:
        head = path.read_bytes()[:8]
        assert head.startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
    again = figures.write(tmp_path / "again", made, lines)
    assert [(a.name, a.read_bytes()) for a in again] == [(f.name, f.read_bytes()) for f in files]


def test_pngs_are_twice_the_size_of_the_chart(tmp_path):
    png, drawing = figures.write(tmp_path, board([record()]))[:2]
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    found = re.search(rb'width="([0-9.]+)"', drawing.read_bytes())
    assert width == pytest.approx(2 * float(found.group(1)), abs=2)


def test_figures_are_opaque_so_that_they_read_on_any_page(tmp_path):
    drawing = figures.write(tmp_path, board([record()]))[1].read_text()
    assert 'fill="#ffffff"' in drawing or 'fill="white"' in drawing


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\\c:d", "x" * 300, "🚀", "nul\x00", "-rf"])
def test_file_names_are_safe(name, tmp_path):
    made = figures.slug(name)
    assert re.fullmatch("[a-z0-9][a-z0-9-]{0,59}", made)


def test_names_that_slug_alike_are_files_of_their_own(tmp_path):
    names = ("hessian_trace", "hessian trace")
    records = [record(measures=names), record("sam", measures=names)]
    files = figures.write(tmp_path, board(records))
    assert len({path.name for path in files}) == len(files)
    assert "01-images-epochs-1x-sharpness-hessian-trace-2.svg" in {path.name for path in files}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SteppeError, match="cannot write"):
        figures.write(tmp_path / "file" / "figures", board([record()]))


def test_an_empty_leaderboard_has_no_figures(tmp_path):
    assert figures.write(tmp_path, board([])) == []
