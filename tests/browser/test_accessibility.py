"""axe finds nothing serious on any page in either theme."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.places import page_of, runs_of

KINDS = ("index", "task", "run", "compare")


@pytest.mark.parametrize("kind", KINDS)
def test_no_serious_violation_in_either_theme(open_page: Open, site: Path, kind: str) -> None:
    check(open_page, site, kind, "images", *runs_of(site, "images", "sam")[:2])


@pytest.mark.parametrize("task", ["sensing", "pairs", "edge", "tokens"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_no_serious_violation_for_foreign_tasks(open_page: Open, foreign: Path, kind: str, task: str) -> None:
    other = runs_of(foreign, "images", "sgd")[0]
    check(open_page, foreign, kind, task, runs_of(foreign, task, "sgd")[0], other)


def check(open_page: Open, site: Path, kind: str, task: str, a: str, b: str) -> None:
    name = {"index": "index.html", "task": page_of(site, task), "run": f"run.html?id={a}",
            "compare": f"compare.html?a={a}&b={b}"}[kind]  # fmt: skip
    page = open_page(site, name, color_scheme="light")
    for details in page.locator("details:not(.charts)").all():
        details.evaluate("e => { e.open = true; }")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        if kind in ("task", "run", "compare"):
            page.locator("figure").first.scroll_into_view_if_needed()
            expect(page.locator("figure").first).to_have_attribute("data-drawn", theme)
        # Preloading would ask the network, which the page forbids.
        found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response
        assert len(found["passes"]) > 10  # it did look
        serious = [
            f"{theme}: {violation['id']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
        assert not serious
