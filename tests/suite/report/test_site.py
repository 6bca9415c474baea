"""The site as files: what is in it, what is escaped, and what never is in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from suite.report import site
from suite.report.site.groups import groups
from tests.browser import sites
from tests.browser.places import known, page_of, runs_of
from tests.suite.report.records import record, seeds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sites.write(tmp_path_factory.mktemp("site"), curves=True)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for key in ("href", "src") if (value := given.get(key))]
        if tag == "script":
            self.scripts.append(given.get("src"))


def links(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def data_of(made: Path, run_id: str) -> dict[str, Any]:
    text = (made / "data" / "runs" / f"{run_id}.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.partition(f".run_{run_id} = ")[2].removesuffix(";\n"))
    return found


def test_every_link_leads_to_a_file_of_the_site(made: Path) -> None:
    pages = [*made.glob("*.html"), *made.glob("tasks/*.html")]
    assert len(pages) == 3 + 4
    for page in pages:
        for link in links(page).found:
            name = link.partition("?")[0].partition("#")[0]
            assert not re.match("[a-z]+:|/", name), link
            assert not name or (page.parent / name).is_file(), f"{page.name} leads to {link}"


def test_names_of_strangers_bring_no_element(made: Path) -> None:
    for page in [*made.glob("*.html"), *made.glob("tasks/*.html")]:
        assert all(links(page).scripts), f"{page.name} holds a script in its text"
        assert "onerror=window" not in re.sub('"[^"]*"', "", re.sub(">[^<]*<", "><", page.read_text()))
    for data in made.glob("data/**/*.js"):
        assert "<" not in data.read_text(encoding="utf-8").partition(" = ")[2]


def test_the_same_records_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = sites.write(tmp_path, curves=True)
    names = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    assert names == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    timed = re.compile(rb'"time":"[^"]*"')  # events tell when they were
    for name in names:
        here, there = (timed.sub(b"", (root / name).read_bytes()) for root in (made, again))
        assert here == there, name


def test_a_page_has_all_views_and_downloads(made: Path) -> None:
    page = (made / page_of(made, "images")).read_text(encoding="utf-8")
    headings = re.findall("<h2 id=[^>]*>(.*?) <span", page)
    assert headings == [
        "Equal epochs, 1x",
        "Equal sample-gradients, 1x",
        "Equal seconds, 1x",
    ]
    assert page.count("untuned: not a ranking") >= len(headings)
    slug = Path(page_of(made, "images")).stem
    for ending, sign in (("md", "| sam "), ("csv", ",sam,"), ("tex", "\\toprule")):
        assert sign in (made / "downloads" / f"{slug}.{ending}").read_text(encoding="utf-8")


def test_a_run_shows_its_record_and_names_no_machine(tmp_path: Path) -> None:
    some = record("sam", 3)
    some["provenance"] |= {"host": "secret.example", "diff": "/home/secret", "git_commit": "abc"}
    some["correct"] = "c2VjcmV0"
    store = sites.stored(tmp_path / "secret-store", [some])
    with next(store.root.glob("runs/*/attempts/1/events.jsonl")).open("a") as events:
        events.write('{"event": "start", "host": "secret", "time": 0, "why": "new"}\n')
    made = site.write(tmp_path / "site", sites.board([some]), sites.material([some], store)).parent
    shown = data_of(made, some["run_id"])
    assert shown["results"]["test_accuracy"] == 0.65
    assert shown["curve"]["epoch"] == [*range(1, 9)]
    assert shown["provenance"] == {"fingerprint": "cpu A", "git_commit": "abc"}
    assert shown["events"][-1] == {
        "event": "start",
        "why": "new",
        "attempt": 1,
        "time": "1970-01-01 00:00:00 UTC",
    }
    for path in made.rglob("*.*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path


def test_a_run_deleted_from_the_store_meanwhile_keeps_what_was_listed(tmp_path: Path) -> None:
    some = seeds("sgd", [0.6, 0.7])
    store = sites.stored(tmp_path / "store", some[:1])
    made = site.write(tmp_path / "site", sites.board(some), sites.material(some, store)).parent
    assert data_of(made, some[1]["run_id"])["curve"] == {}
    assert data_of(made, some[0]["run_id"])["curve"]["epoch"]


def test_only_failed_runs_are_said_so(tmp_path: Path) -> None:
    some = [record("sgd", seed, failed=True) for seed in range(2)]
    made = site.write(tmp_path / "site", sites.board(some), sites.material(some)).parent
    assert "Every run here failed." in (made / "index.html").read_text(encoding="utf-8")
    assert len(known(made)["runs"]) == 2


def test_records_of_another_protocol_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    old = record("sgd", 0, protocol="fair-0.0")
    for some in ([*seeds("sgd", [0.6, 0.7]), old], [old]):
        made = site.write(tmp_path / "site", sites.board(some), sites.material(some)).parent
        text = (made / "index.html").read_text(encoding="utf-8")
        assert "1 record of protocol fair-0.0 left out" in text
        assert f"run.html?id={old['run_id']}" in text
        assert ("No run is in a table." in text) == (len(some) == 1)


def test_pages_have_names_of_their_own_that_last() -> None:
    first = groups(sites.board(sites.records()).tables)
    slugs = [group.slug for group in first]
    assert len(set(slugs)) == len(slugs) == 4
    assert all(re.fullmatch("[a-z0-9-]{6,70}", slug) for slug in slugs)
    alone = groups(sites.board(seeds("sgd", [0.6])).tables)
    assert {group.slug for group in alone} <= set(slugs)


def test_runs_are_listed_once_by_optimizer(made: Path) -> None:
    assert len(runs_of(made, "images", "nso")) == 20  # at 40 epochs and at 20
    page = (made / page_of(made, "images")).read_text(encoding="utf-8")
    assert all(page.count(run_id) == 1 for run_id in runs_of(made, "images", "nso"))
