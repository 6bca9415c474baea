"""Takes the screenshots of docs/images: `python -m tests.browser.screenshots SITE FOLDER [KIND...]`.

A kind is leaderboard, task, run or compare; the last two want a site made from a store, which has curves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, PATIENCE_MS, find_chromium
from tests.browser.places import known

SIZE = {"width": 1280, "height": 960}


def addresses(site: Path) -> dict[str, str]:
    """One page of each kind: the first task, one run of it, and that run beside one of another optimizer."""
    data = known(site)
    runs = [run for run in data["runs"] if run[1] == 0 and not run[5]]
    a = runs[0][0]
    b = next(run[0] for run in runs if run[2] != runs[0][2] and run[3] == runs[0][3])
    return {"leaderboard": "index.html", "task": data["pages"][0][1], "run": f"run.html?id={a}",
            "compare": f"compare.html?a={a}&b={b}"}  # fmt: skip


def shoot(page: Page, path: Path, theme: str) -> None:
    """Take the upper part of the page once its first charts are drawn."""
    charts = page.locator("figure")
    if charts.count():
        charts.first.scroll_into_view_if_needed()
        for at in range(min(3, charts.count())):
            expect(charts.nth(at)).to_have_attribute("data-drawn", theme, timeout=PATIENCE_MS)
        page.evaluate("window.scrollTo(0, 0)")
    full = page.evaluate("document.documentElement.scrollHeight")
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": min(full, 1700)},
                    full_page=True)  # fmt: skip


def main(site: Path, folder: Path, kinds: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for theme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=theme)
            for kind, address in addresses(site).items():
                if kinds and kind not in kinds:
                    continue
                page.goto(f"{site.resolve().as_uri()}/{address}")
                shoot(page, folder / f"{kind}-{theme}.png", theme)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
