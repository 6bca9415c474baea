"""What outlives a click: the choice in the address; the run that is compared; a site copied in part."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Open
from tests.browser.places import page_of, runs_of


def test_view_and_filters_outlive_reload_and_back(open_page: Open, site: Path) -> None:
    page = open_page(site)
    page.get_by_label("Task").select_option("images")
    page.get_by_role("radio", name="seconds").check()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-view", "seconds")
    expect(page.get_by_label("Task")).to_have_value("images")
    expect(page.locator(".group:visible")).to_have_count(1)
    page.locator(".group:visible h2 a").click()
    page.wait_for_url("**/tasks/**")
    page.go_back()
    expect(page.locator("html")).to_have_attribute("data-view", "seconds")
    expect(page.get_by_label("Task")).to_have_value("images")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".group:visible")).to_have_count(4)
    assert "?" not in page.url


def test_an_address_chooses_only_what_there_is(open_page: Open, site: Path) -> None:
    page = open_page(site, "index.html?task=%3Cscript%3E&view=__proto__&optimizer=sam&elements=x")
    expect(page.locator("html")).to_have_attribute("data-view", "epochs")
    expect(page.get_by_label("Task")).to_have_value("")
    expect(page.get_by_label("Optimizer")).to_have_value("sam")
    expect(page.locator("#absent")).to_be_hidden()


def test_tasks_without_a_table_in_the_view_are_counted(open_page: Open, site: Path) -> None:
    page = open_page(site, "index.html?view=seconds")
    shown = page.locator(".group:visible").count()
    assert 0 < shown < 4
    expect(page.locator("#absent")).to_have_text(
        f"{4 - shown} task{' has' if shown == 3 else 's have'} no table at equal seconds."
    )


def test_choosing_a_run_goes_nowhere_until_it_is_asked(open_page: Open, site: Path) -> None:
    run = runs_of(site, "images", "adam")[0]
    page = open_page(site, f"run.html?id={run}")
    chosen = page.locator("select[data-run]")
    assert run not in chosen.locator("option").evaluate_all("all => all.map(e => e.value)")
    address = page.url
    chosen.focus()
    page.keyboard.press("ArrowDown")
    expect(chosen).not_to_have_value("")
    page.wait_for_timeout(300)
    assert page.url == address


def test_other_runs_are_compared_in_place(open_page: Open, site: Path) -> None:
    a, b = runs_of(site, "images", "sam")[:2]
    page = open_page(site, f"compare.html?a={a}&b={b}")
    expect(page.locator("#said")).to_have_text("Compared are sam, seed 0 and sam, seed 1.")
    page.evaluate("window.same = true")
    page.locator("select[data-run]").nth(1).select_option(runs_of(site, "images", "sgd")[2])
    expect(page.locator("#said")).to_have_text("Compared are sam, seed 0 and sgd, seed 2.")
    assert page.evaluate("window.same") is True
    page.reload()
    expect(page.locator("#said")).to_have_text("Compared are sam, seed 0 and sgd, seed 2.")


def test_a_run_that_failed_at_once_says_why_it_has_no_curve(open_page: Open, site: Path) -> None:
    page = open_page(site, f"run.html?id={runs_of(site, 'images', 'adabelief')[0]}")
    expect(page.locator("#run")).to_contain_text("It failed before an epoch was recorded")


@pytest.mark.parametrize("lost", ["charts/*.js", "runs.js", "run-charts.js", "themes.js"])
def test_a_site_copied_in_part_says_so(browser: Browser, site: Path, lost: str) -> None:
    run = runs_of(site, "images", "sam")[0]
    names = [page_of(site, "images")] if lost == "charts/*.js" else [f"run.html?id={run}", "compare.html"]
    context = browser.new_context()
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.route(f"**/data/{lost}", lambda route: route.abort())
    page = context.new_page()
    for name in names:
        page.goto(f"{site.as_uri()}/{name}")
        expect(page.locator("#missing")).to_have_text(
            "Some files of the site are missing: copy its whole folder."
        )
        if "?" in name:
            expect(page.locator("h1")).to_contain_text("sam, seed 0")
            expect(page.locator("#run .facts")).to_contain_text("%")
    context.close()
    assert not errors


def test_without_the_chart_library_each_chart_says_so_aloud(browser: Browser, site: Path) -> None:
    context = browser.new_context()
    context.route("**/assets/vega.js", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{site.as_uri()}/{page_of(site, 'images')}")
    page.locator("figure").first.scroll_into_view_if_needed()
    words = page.locator("figure .undrawn").first
    expect(words).to_contain_text("the tables have its numbers")
    expect(words).to_have_attribute("role", "status")
    assert page.locator("[role=img] .undrawn").count() == 0
    context.close()
