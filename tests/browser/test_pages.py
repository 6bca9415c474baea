"""The site in a browser, opened from the disk: find, sort, filter, compare, with and without a mouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import sites
from tests.browser.conftest import Open
from tests.browser.places import page_of, runs_of


def test_sorting_by_a_column_and_back(open_page: Open, site: Path) -> None:
    page = open_page(site)
    table = page.locator('.group[data-task="images"] .view[data-view="epochs"] table').first
    names = table.locator("tbody th")
    by_name = names.all_inner_texts()
    assert by_name == sorted(by_name)
    head = table.locator("thead th", has_text="Test accuracy")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert names.all_inner_texts()[0].startswith("sam")
    assert names.all_inner_texts()[-1].startswith("adabelief")  # its only run failed: no accuracy
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert names.all_inner_texts()[0].startswith("adam")
    assert names.all_inner_texts()[-1].startswith("adabelief")
    expect(table.locator("thead th[aria-sort]")).to_have_count(1)


def test_names_sort_by_the_numbers_in_them(open_page: Open, site: Path) -> None:
    page = open_page(site)
    table = page.locator('.group[data-task="digits"] .view[data-view="epochs"] table').first
    expected = ["sam[rho=1e-05]", "sam[rho=0.1]", "sgd"]
    assert table.locator("tbody th").all_inner_texts() == expected
    table.get_by_role("button", name="Optimizer").click()
    assert table.locator("tbody th").all_inner_texts() == expected[::-1]
    table.get_by_role("button", name="Optimizer").click()
    assert table.locator("tbody th").all_inner_texts() == expected


def test_filters_count_aloud_and_views_switch(open_page: Open, site: Path) -> None:
    page = open_page(site)
    count = page.locator("#count")
    expect(count).to_have_attribute("aria-live", "polite")
    expect(count).to_have_text("4 tables, 10 rows")
    page.get_by_label("Task").select_option("images")
    expect(count).to_have_text("1 table, 5 rows")
    page.get_by_label("Optimizer").select_option("nso")
    expect(count).to_have_text("1 table, 1 row")
    page.get_by_role("radio", name="sample-gradients").check()
    expect(count).to_have_text("1 table, 1 row")
    expect(page.locator(".view:visible h3")).to_contain_text("Equal sample-gradients, 1x")
    page.get_by_role("button", name="Reset").click()
    expect(count).to_have_text("4 tables, 10 rows")
    page.get_by_label("Tier").select_option("smoke")
    expect(count).to_have_text("1 table, 3 rows")
    page.get_by_label("Task").select_option("images")
    expect(page.locator("#none")).to_be_visible()
    expect(page.get_by_label("Protocol")).to_have_count(0)  # there is one only


def test_verdicts_differ_in_word_symbol_and_colour(open_page: Open, site: Path) -> None:
    page = open_page(site)
    looks = page.locator('.group[data-task="images"] .verdict:visible').evaluate_all(
        "all => all.map(e => [e.textContent.split(' (')[0].split(' by ')[0],"
        " e.querySelector('svg').innerHTML, getComputedStyle(e).color])"
    )
    words = {word: (symbol, colour) for word, symbol, colour in looks}
    assert {"best set", "worse", "failed runs", "unresolved"} <= words.keys()
    assert len({symbol for symbol, _ in words.values()}) == len(words)
    assert len({colour for _, colour in words.values()}) == len(words)
    assert page.locator(".untuned:visible").first.inner_text() == "untuned: not a ranking"
    weights = page.locator("tbody th, tbody td").evaluate_all(
        "all => all.map(e => getComputedStyle(e).fontWeight)"
    )
    assert set(weights) == {"400"}


def test_from_the_leaderboard_to_a_run_and_its_comparison(open_page: Open, site: Path) -> None:
    page = open_page(site)
    page.get_by_role("link", name="images on images-jpeg").click()
    expect(page.locator("h1")).to_have_text("images on images-jpeg")
    page.locator(".run-lists summary", has_text="sam").click()
    page.locator(".run-lists details", has_text="sam").get_by_role("link", name="seed 3", exact=True).click()
    expect(page.locator("h1")).to_contain_text("sam, seed 3")
    expect(page.locator("#run .facts")).to_contain_text("%")
    expect(page.locator("figure[data-drawn]").first).to_be_visible()
    titles = page.locator("#run figcaption").all_inner_texts()
    assert titles == [
        "Loss",
        "Accuracy",
        "Sharpness (lambda_max)",
        "Training loss on the subset",
        "Learning rate",
    ]
    expect(page.locator("#run pre")).to_contain_text("unknown task 'images'")
    expect(page.locator("#run")).to_contain_text("hutchinson")
    other = runs_of(site, "images", "sgd")[3]
    page.locator("select[data-run]").select_option(other)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare.html?**")
    differing = page.locator(".differs th").all_inner_texts()
    assert [text.removesuffix(" ≠") for text in differing] == ["optimizer · name"]
    expect(page.locator("figure[data-drawn]").first).to_be_visible()
    expect(page.locator("#comparison")).to_contain_text("sgd, seed 3")


def test_charts_are_drawn_when_near_and_again_in_the_other_theme(open_page: Open, site: Path) -> None:
    page = open_page(site, page_of(site, "images"), color_scheme="light")
    charts = page.locator("details.charts").first.locator("figure")
    for at in range(charts.count()):
        charts.nth(at).scroll_into_view_if_needed()
        expect(charts.nth(at)).to_have_attribute("data-drawn", "light")
        expect(charts.nth(at).locator(".chart svg.marks")).to_have_count(1)
        assert charts.nth(at).locator("[role=img]").get_attribute("aria-label")
    page.get_by_role("button", name="Dark").click()
    expect(charts.first).to_have_attribute("data-drawn", "dark")
    with page.expect_download() as saved:
        charts.first.get_by_role("button", name="Save SVG").click()
    assert saved.value.suggested_filename.endswith(".svg")
    assert "<svg" in saved.value.path().read_text(encoding="utf-8")


def test_on_paper_every_chart_is_there_and_light(open_page: Open, site: Path) -> None:
    page = open_page(site, page_of(site, "images"), color_scheme="dark")
    figures = page.locator("figure").count()
    expect(page.locator(".print-chart svg.marks")).to_have_count(figures)
    expect(page.locator(".print-chart:visible")).to_have_count(0)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator(".print-chart svg.marks:visible")).to_have_count(figures)
    expect(page.locator(".chart:visible")).to_have_count(0)
    expect(page.locator("details:not([open])")).to_have_count(0)
    expect(page.locator("#runs")).to_be_hidden()
    expect(page.get_by_text("has buttons below it")).to_be_hidden()
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_the_theme_is_remembered_across_pages(open_page: Open, site: Path) -> None:
    page = open_page(site, color_scheme="light")
    button = page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "false")
    light = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") != light
    page.goto(f"{site.as_uri()}/compare.html")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_with_the_keyboard_alone(open_page: Open, site: Path) -> None:
    page = open_page(site)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    sort = page.locator(
        '.group[data-task="digits"] .view[data-view="epochs"] .sort', has_text="Test accuracy"
    )
    for _ in range(60):
        page.keyboard.press("Tab")
        if sort.evaluate("e => e === document.activeElement"):
            break
    expect(sort).to_be_focused()
    assert sort.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    rows = page.locator('.group[data-task="digits"] .view[data-view="epochs"] table >> nth=0 >> tbody th')
    expect(rows.first).to_contain_text("sam")
    page.get_by_role("radio", name="epochs").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("html")).to_have_attribute("data-view", "sample-gradients")
    link = page.locator(".group:visible h2 a").first
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/**")


def test_narrow_screens_scroll_tables_and_not_the_page(open_page: Open, site: Path) -> None:
    width = 320
    a, b = runs_of(site, "images", "sam")[:2]
    names = ["index.html", page_of(site, "images"), page_of(site, "long-"), f"run.html?id={a}",
             f"compare.html?a={a}&b={b}"]  # fmt: skip
    page = open_page(site, width=width)
    for name in names:
        page.goto(f"{site.as_uri()}/{name}")
        if "tasks/" in name or "?" in name:
            page.locator("figure").first.scroll_into_view_if_needed()
            expect(page.locator("figure[data-drawn]").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_names_of_strangers_are_shown_and_do_nothing(open_page: Open, site: Path) -> None:
    run = runs_of(site, "hostile", "hostile")[0]
    page = open_page(site)
    for name in (
        "index.html",
        page_of(site, "hostile"),
        f"run.html?id={run}",
        f"compare.html?a={run}&b={run}",
    ):
        page.goto(f"{site.as_uri()}/{name}")
        expect(page.locator("main")).to_contain_text("<script>window.hacked=1</script>'\"><img src=x")
        expect(page.locator("main")).to_contain_text("🦬")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.hacked") is None
    page.goto(f"{site.as_uri()}/{page_of(site, 'long-')}")
    assert page.locator("tbody th .label").first.get_attribute("title").startswith(sites.LONG)


@pytest.mark.parametrize(
    "query", ["", "?id=", "?id=../../evil", "?id=%3Cscript%3E", "?id=0000000000000000", "?id=__proto__"]
)
def test_a_hostile_query_does_nothing(open_page: Open, site: Path, query: str) -> None:
    page = open_page(site, f"run.html{query}")
    expect(page.locator("#run")).to_contain_text("To the leaderboard")
    assert page.locator("script[src*='data/runs/']").count() == 0
    page.goto(f"{site.as_uri()}/compare.html{query.replace('id=', 'a=')}")
    expect(page.locator("#comparison")).to_contain_text("ick two")
    assert page.locator("script[src*='data/runs/']").count() == 0


def test_published_records_say_where_the_curves_are(open_page: Open, published: Path) -> None:
    run = runs_of(published, "images", "sam")[0]
    page = open_page(published, f"run.html?id={run}")
    expect(page.locator("#run .notice")).to_contain_text("without its learning curves")
    expect(page.locator("#run figure")).to_have_count(0)
    page.goto(f"{published.as_uri()}/{page_of(published, 'images')}")
    expect(page.locator("main")).to_contain_text("came without learning curves")


def test_without_javascript_the_tables_read(open_page: Open, site: Path) -> None:
    page = open_page(site, java_script_enabled=False)
    expect(
        page.locator('.group[data-task="images"] .view[data-view="sample-gradients"] table').first
    ).to_be_visible()
    expect(page.locator("#filters")).to_be_hidden()
    page.goto(f"{site.as_uri()}/run.html")
    expect(page.locator("noscript p")).to_be_visible()
