"""The site as files: what is in it, what is escaped, and what never is in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suite.records.schema import Record
from suite.report import site, text
from suite.report.site import pages
from suite.report.site.groups import groups
from tests.browser import sites
from tests.browser.places import known, page_of, runs_of
from tests.suite.report.fake_records import record, seeds


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
    data = (made / "data" / "runs" / f"{run_id}.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(data.partition(f".run_{run_id} = ")[2].removesuffix(";\n"))
    return found


def test_every_link_leads_to_a_file_of_the_site(made: Path) -> None:
    files = [*made.glob("*.html"), *made.glob("tasks/*.html")]
    assert len(files) == 3 + 4
    for page in files:
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
        "Equal seconds, 1x: 100 s on cpu A",
    ]
    assert page.count("untuned: not a ranking") >= len(headings)
    slug = Path(page_of(made, "images")).stem
    for ending, sign in (("md", "| sam "), ("csv", ",sam,"), ("tex", "\\toprule")):
        assert sign in (made / "downloads" / f"{slug}.{ending}").read_text(encoding="utf-8")


def test_a_run_shows_its_record_and_names_no_machine(tmp_path: Path) -> None:
    some = record("sam", 3)
    right = {"accuracy": "c2VjcmV0"}
    some = replace(some, results={**some.results, "test": replace(some.results["test"], right=right)})
    store = sites.stored(tmp_path / "secret-store", [some])
    with next(store.root.glob("runs/*/attempts/1/events.jsonl")).open("a") as events:
        events.write('{"event": "start", "host": "secret", "time": 0, "why": "new"}\n')
    made = site.write(tmp_path / "site", sites.board([some]), sites.material([some], store)).parent
    shown = data_of(made, some.run_id)
    assert shown["results"]["test"]["metrics"]["accuracy"] == 0.65
    assert shown["shown"][:2] == [["test accuracy", "65.00 %"], ["validation accuracy", "67.00 %"]]
    assert shown["curve"]["epoch"] == [*range(1, 9)]
    assert shown["provenance"]["origin"] == {
        "source_tree": "b" * 64,
        "git_commit": "c" * 40,
        "fingerprint": "cpu A",
    }
    assert shown["events"][-1] == {
        "event": "start",
        "why": "new",
        "attempt": 1,
        "time": "1970-01-01 00:00:00 UTC",
    }
    for path in made.rglob("*.*"):
        assert path.is_dir() or not re.search(b"secret|c2VjcmV0", path.read_bytes()), path


def test_measures_of_some_epochs_are_curves(made: Path) -> None:
    run = runs_of(made, "images", "sam")[0]
    curve = data_of(made, run)["curve"]
    assert curve["lambda_max"] == [None, None, None, 10.0, None, None, None, 5.0]
    assert curve["lambda_max_se_probes"][3] == 0.25
    assert None not in curve["train_loss"]
    page = made / page_of(made, "images")
    drawn = (made / "data" / "charts" / f"{page.stem}.js").read_text(encoding="utf-8")
    charts = json.loads(drawn.partition(".charts = ")[2].removesuffix(";\n"))
    points = [value for value in charts["t0-lambda-max"]["data"]["values"] if value["line"] == "sam"]
    assert [(point["x"], point["mean"], point["n"]) for point in points] == [(4, 10.0, 10), (8, 5.0, 10)]
    assert all(point["symbol"] for point in points)
    assert "t0-sharpness-train-loss" in charts
    assert not {"t0-lpf", "t0-hessian-trace"} & charts.keys()  # no run was measured so along training
    text = page.read_text(encoding="utf-8")
    assert "The curves as numbers: sharpness (lambda_max)" in text


def test_a_run_deleted_from_the_store_meanwhile_keeps_what_was_listed(tmp_path: Path) -> None:
    some = seeds("sgd", [0.6, 0.7])
    store = sites.stored(tmp_path / "store", some[:1])
    made = site.write(tmp_path / "site", sites.board(some), sites.material(some, store)).parent
    assert data_of(made, some[1].run_id)["curve"] == {}
    assert data_of(made, some[0].run_id)["curve"]["epoch"]


def test_only_failed_runs_are_said_so(tmp_path: Path) -> None:
    some = [record("sgd", seed, failed=True) for seed in range(2)]
    made = site.write(tmp_path / "site", sites.board(some), sites.material(some)).parent
    assert "Every run here failed." in (made / "index.html").read_text(encoding="utf-8")
    assert len(known(made)["runs"]) == 2


def test_records_of_another_protocol_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    old = record("sgd", 0, protocol="fair-0.0")
    for some in ([*seeds("sgd", [0.6, 0.7]), old], [old]):
        made = site.write(tmp_path / "site", sites.board(some), sites.material(some)).parent
        page = (made / "index.html").read_text(encoding="utf-8")
        assert "1 record of protocol fair-0.0 left out" in page
        assert f"run.html?id={old.run_id}" in page
        assert ("No run is in a table." in page) == (len(some) == 1)


def test_pages_have_names_of_their_own_that_last() -> None:
    first = groups(sites.board(sites.records()).tables)
    slugs = [group.slug for group in first]
    assert len(set(slugs)) == len(slugs) == 4
    assert all(re.fullmatch("[a-z0-9-]{6,70}", slug) for slug in slugs)
    alone = groups(sites.board(seeds("sgd", [0.6])).tables)
    assert {group.slug for group in alone} <= set(slugs)


def index_of(some: list[Record]) -> str:
    board = sites.board(some)
    return pages.index(board, groups(board.tables), sites.material(some).records)


def test_every_table_has_its_notes_on_the_first_page() -> None:
    some = [
        record(optimizer, seed, 0.6, fingerprint=machine, train_loss=loss)
        for machine, first in (("cpu A", 0), ("gpu B", 10))
        for optimizer, loss in (("sgd", 0.5), ("nso", 0.9))
        for seed in range(first, first + 3)
    ]
    some += [record("sam", seed, 0.6, fingerprint="gpu B") for seed in range(3)]
    page = index_of(some)
    assert "Seconds compare only where the machine was otherwise idle" in page
    assert "No row is ranked by a measure" in page
    assert "Rows are not at matched training loss" in page
    assert re.search(r" \[b\]</td>", page)  # and what it means
    assert "<li>[a] cpu A</li>" in page
    assert "<li>[b] gpu B</li>" in page


def test_pages_of_one_task_are_told_apart() -> None:
    some = seeds("sgd", [0.6, 0.7]) + seeds("sgd", [0.6, 0.7], precision="bf16", device="cuda")
    some += seeds("sgd", [0.6, 0.7], task="digits")
    titles = {group.title for group in groups(sites.board(some).tables)}
    assert titles == {
        "images on images-jpeg, fp32, cpu",
        "images on images-jpeg, bf16, cuda",
        "digits on images-jpeg",
    }
    assert "<dt>Tasks</dt><dd>2</dd>" in index_of(some)


def test_headings_of_equal_seconds_tell_the_budget_and_the_machine() -> None:
    long = "cpu: Intel(R) Xeon(R) Processor, 1 of 2 threads, torch 2.15.0, python 3.1"
    some = [
        record(optimizer, seed + 10 * at, 0.6, fingerprint=f"{long}{at}", train_s=100.0 + at)
        for at in range(2)
        for optimizer in ("sgd", "adam")
        for seed in range(3)
    ]
    (group,) = groups(sites.board(some).tables)
    seconds = [heading for heading in group.headings if "seconds" in heading]
    assert [heading.partition(" on ")[0] for heading in seconds] == [
        "Equal seconds, 1x: 100 s",
        "Equal seconds, 1x: 101 s",
    ]
    assert len(set(group.headings)) == len(group.headings)
    assert all(len(heading) < 90 for heading in seconds)
    ids = re.findall(' id="([^"]*)"', index_of(some))
    assert len(set(ids)) == len(ids)


def test_names_are_sorted_by_the_numbers_in_them() -> None:
    names = ["sgd", "sam[rho=0.1]", "sam[rho=1e-05]", "sam[rho=10]", "sam", "sam[rho=0.02]", "sam[rho=-1]"]
    assert sorted(names, key=text.name_key) == [
        "sam", "sam[rho=-1]", "sam[rho=1e-05]", "sam[rho=0.02]", "sam[rho=0.1]", "sam[rho=10]", "sgd"
    ]  # fmt: skip


def test_runs_are_listed_once_by_optimizer(made: Path) -> None:
    assert len(runs_of(made, "images", "nso")) == 20  # at 40 epochs and at 20
    page = (made / page_of(made, "images")).read_text(encoding="utf-8")
    assert all(page.count(run_id) == 1 for run_id in runs_of(made, "images", "nso"))
