"""Charts in a browser: what they say under the pointer, how they are saved, how two runs differ in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.places import page_of, runs_of


def first_mark(page: Page, theme: str) -> tuple[float, float]:
    """Middle of a mark of the first chart, in the window."""
    figure = page.locator("figure").first
    expect(figure).to_have_attribute("data-drawn", theme)
    figure.evaluate("e => e.scrollIntoView({block: 'center'})")
    box = figure.locator(".chart .mark-symbol path").first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_words_under_the_pointer_are_a_small_box(open_page: Open, site: Path, theme: str) -> None:
    page = open_page(site, page_of(site, "long-"), color_scheme=theme, reduced_motion="reduce")
    words = page.locator("#vg-tooltip-element.visible")
    boxes: list[dict[str, float]] = []
    for _ in range(20):  # a chart that is drawn anew just now takes its words away
        page.mouse.move(0, 0)
        x, y = first_mark(page, theme)
        page.mouse.move(x, y)
        page.mouse.move(x + 1, y)
        page.wait_for_timeout(300)
        boxes = words.evaluate_all("found => found.map(e => e.getBoundingClientRect().toJSON())")
        if boxes:
            break
    expect(words).to_contain_text("comparison")
    (box,) = boxes
    assert box["height"] < 300
    assert min(box["x"], box["y"]) >= 0
    assert box["x"] + box["width"] <= 1280
    assert box["y"] + box["height"] <= 900
    assert words.evaluate(
        "e => [...e.querySelectorAll('tr')].every(row => { const key = document.createRange();"
        " key.selectNodeContents(row.cells[0]);"
        " return key.getBoundingClientRect().right <= row.cells[1].getBoundingClientRect().left; })"
    )
    looks = words.evaluate(
        "e => { const at = getComputedStyle(e), td = getComputedStyle(e.querySelector('td.value'));"
        " return [at.backgroundColor, td.color, td.borderBottomWidth]; }"
    )
    assert (
        looks
        == {
            "light": ["rgb(255, 255, 255)", "rgb(34, 38, 31)", "0px"],
            "dark": ["rgb(30, 34, 30)", "rgb(230, 231, 223)", "0px"],
        }[theme]
    )


def test_a_saved_chart_is_light_and_has_its_title(open_page: Open, site: Path) -> None:
    page = open_page(site, page_of(site, "images"), color_scheme="dark")
    figure = page.locator("figure").first
    expect(figure).to_have_attribute("data-drawn", "dark")
    with page.expect_download() as saved:
        figure.get_by_role("button", name="Save SVG").click()
    name = saved.value.suggested_filename
    assert name.startswith(Path(page_of(site, "images")).stem + "-epochs-1x-")
    drawn = saved.value.path().read_text(encoding="utf-8")
    assert "Test accuracy: images on images-jpeg" in drawn
    assert 'fill="white"' in drawn
    assert "#eef0f3" not in drawn  # the ink of the dark theme
    page.goto(f"{site.as_uri()}/{page_of(site, 'hostile')}")
    expect(page.locator("figure").first).to_have_attribute("data-drawn", "dark")
    with page.expect_download() as saved:
        page.locator("figure").first.get_by_role("button", name="Save PNG").click()
    assert saved.value.suggested_filename[0].isalnum()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_colour_tells_the_run_and_dash_the_column(open_page: Open, site: Path) -> None:
    a, b = runs_of(site, "images", "sam")[0], runs_of(site, "images", "sgd")[0]
    page = open_page(site, f"compare.html?a={a}&b={b}", color_scheme="light")
    expect(page.locator("figure").first).to_have_attribute("data-drawn", "light")
    lines = page.locator("figure").first.locator(".chart .mark-line path")
    looks = lines.evaluate_all(
        "all => all.map(e => [e.getAttribute('stroke'), e.getAttribute('stroke-dasharray')])"
    )
    assert len(looks) == 4
    assert len({colour for colour, _ in looks}) == 2
    assert len({dash for _, dash in looks}) == 2
    assert len({tuple(look) for look in looks}) == 4
