"""Tasks that classify no images in the browser: tables, the charts of a run, runs of different tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from suite.report import site as reports
from tests.browser import sites
from tests.browser.conftest import Open
from tests.browser.places import page_of, runs_of
from tests.suite.report.foreign import run

TITLES = {
    "sensing": ["Loss", "Recovery error"],
    "pairs": ["Loss", "Recall at 1", "Median rank"],
    "edge": ["Loss", "Effective rank"],
    "tokens": ["Loss", "Perplexity", "Next token hits"],
}
MEASURED = ["Sharpness (lambda_max)", "Training loss on the subset", "Learning rate"]


def shown(page: Page) -> list[str]:
    """The charts of a page, each drawn."""
    for figure in page.locator("figure").all():
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-drawn", "light")
        expect(figure.locator(".chart svg.marks")).to_have_count(1)
    return page.locator("figcaption").all_inner_texts()


@pytest.mark.parametrize("task", TITLES)
def test_a_run_has_the_charts_of_its_task(open_page: Open, foreign: Path, task: str) -> None:
    page = open_page(foreign, f"run.html?id={runs_of(foreign, task, 'sgd')[0]}", color_scheme="light")
    profiles = ["Interpolation"] if task == "edge" else []
    assert shown(page) == [*TITLES[task], *MEASURED, *profiles]


def test_results_and_facts_stand_with_their_units(open_page: Open, foreign: Path) -> None:
    page = open_page(foreign, f"run.html?id={runs_of(foreign, 'edge', 'sgd')[0]}")
    facts = page.locator("#run .facts > div")
    said = dict(
        zip(facts.locator("dt").all_inner_texts(), facts.locator("dd").all_inner_texts(), strict=True)
    )
    assert said["Seconds to solution"] == "12.5 s"
    assert said["Rises"] == "3"
    page.get_by_text("The profile as numbers: interpolation").click()
    expect(page.locator("details[open] tbody tr")).to_have_count(11)


def test_a_metric_on_a_log_scale_has_a_log_axis(open_page: Open, foreign: Path) -> None:
    page = open_page(foreign, f"run.html?id={runs_of(foreign, 'sensing', 'sgd')[0]}", color_scheme="light")
    shown(page)
    chart = page.locator("figure", has_text="Recovery error").locator(".chart")
    ticks = [text for text in chart.locator("text").all_text_contents() if text.startswith("1e")]
    assert ticks == ["1e-8", "1e-7", "1e-6", "1e-5", "1e-4"]
    expect(chart).to_contain_text("recovery error (log scale)")


def test_a_task_page_says_what_its_rows_are_compared_by(open_page: Open, foreign: Path) -> None:
    page = open_page(foreign, page_of(foreign, "pairs"), color_scheme="light")
    heads = page.locator("table.board").first.locator("thead th")
    assert [" ".join(text.split()) for text in heads.all_inner_texts()] == [
        "Optimizer", "Seen recall at 1, %", "Interval, drawn", "n", "Failed", "Cost", "Sample-gradients",
        "Train s", "Verdict", "Unseen recall at 1, %", "With distractors recall at 1, %",
        "Validation recall at 1, %", "Seen median rank",
    ]  # fmt: skip
    scores = page.locator("figcaption").all_inner_texts()
    assert scores[0].startswith("Seen recall at 1")
    page.goto(f"{foreign.as_uri()}/{page_of(foreign, 'sensing')}")
    expect(page.locator(".notes").first).to_contain_text("differences within 0.1 decades are a tie")
    expect(page.locator(".notes").first).to_contain_text("the smallest value that it resolves, in 1 of 10")


def test_the_verdict_is_in_sight_however_many_columns_there_are(open_page: Open, foreign: Path) -> None:
    page = open_page(foreign, width=1280)
    for task in TITLES:
        page.goto(f"{foreign.as_uri()}/{page_of(foreign, task)}")
        verdict = page.locator("table.board").first.locator("tbody .verdict").first.bounding_box()
        assert verdict is not None
        assert verdict["x"] + verdict["width"] < 1280


def test_lower_is_better_sorts_the_lowest_first(open_page: Open, foreign: Path) -> None:
    page = open_page(foreign, page_of(foreign, "tokens"))
    table = page.locator("table.board").first
    table.get_by_role("button", name="Validation perplexity").click()
    expect(table.locator("thead th", has_text="Validation perplexity")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert table.locator("tbody th").all_inner_texts() == ["adam", "sam", "sgd", "nso"]  # NSO failed


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("sensing", "tokens", ["Loss", *MEASURED]),
        ("edge", "images", ["Loss", *MEASURED]),
        ("edge", "edge", ["Loss", "Effective rank", *MEASURED, "Interpolation"]),
    ],
)
def test_runs_of_different_tasks_share_the_charts_that_show_the_same(
    open_page: Open, foreign: Path, one: str, other: str, both: list[str]
) -> None:
    a, b = runs_of(foreign, one, "sgd")[0], runs_of(foreign, other, "sgd")[1]
    page = open_page(foreign, f"compare.html?a={a}&b={b}", color_scheme="light")
    assert shown(page) == both
    lines = page.locator("figure").first.locator(".chart .mark-line path")
    colours = {line.get_attribute("stroke") for line in lines.all()}
    assert len(colours) == 2
    results = page.locator("section", has=page.get_by_role("heading", name="Results"))
    expect(results).to_contain_text("training loss" if one == "edge" else "test recovery error")


def test_a_published_record_shows_its_profile_and_says_where_the_curves_are(
    open_page: Open, tmp_path: Path
) -> None:
    some = [run("edge", "sgd", seed) for seed in range(2)]
    root = reports.write(tmp_path / "site", sites.board(some), sites.material(some)).parent
    page = open_page(root, f"run.html?id={some[0].run_id}", color_scheme="light")
    assert shown(page) == ["Interpolation"]
    expect(page.locator("#run .notice")).to_contain_text("without its learning curves")
