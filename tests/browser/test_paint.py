"""The first paint of a leaderboard of 5,000 runs."""

from __future__ import annotations

from pathlib import Path

from suite.report.site import build, pages
from suite.report.site.folder import site_folder
from suite.report.site.groups import groups
from tests.browser import sites
from tests.browser.conftest import Open
from tests.suite.report.fake_records import seeds, wavy

PAINT_MS = 2000


def test_first_paint_of_5000_runs(open_page: Open, tmp_path: Path) -> None:
    some = [
        record
        for i in range(25)
        for j in range(10)
        for record in seeds(f"optimizer-{j}", wavy(0.6 + 0.002 * j, n=20, phase=i + j), task=f"task-{i:02d}")
    ]
    board = sites.board(some)
    by_id = sites.material(some).records
    assert len(by_id) == 5000
    with site_folder(tmp_path / "site") as folder:
        folder.write("index.html", pages.index(board, groups(board.tables), by_id))
        build.write_assets(folder)
    page = open_page(tmp_path / "site")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first contentful paint of 5,000 runs: {paint:.0f} ms")
    assert paint < PAINT_MS
    assert page.locator("tbody tr").count() > 500
