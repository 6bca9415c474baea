"""The leaderboard command: from the store and from published records, and the commands below it."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from suite.entries.registry import Registry
from suite.publishing.published import read_records
from suite.records.schema import Origin, to_line
from suite.report.commands import ranges, run_commands
from suite.spec import RunSpec
from suite.store.folders import Store
from tests.suite.cli.conftest import Cli
from tests.suite.cli.finished import record_of, stored, tiny_records
from tests.suite.runner import PLUGIN, tiny_specs

ELSEWHERE = Origin("d" * 64, "e" * 40, "cpu B")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return stored(tmp_path / "store", tiny_records())


def test_markdown_ends_with_the_commands_that_make_it_again(cli: Cli, store: Store, tmp_path: Path) -> None:
    page = tmp_path / "board.md"
    given = ("leaderboard", "-t", "tiny", "--plugin", PLUGIN, "--store", store.root, "-o", page)
    assert cli(*given).code == 0
    text = page.read_text()
    assert "| sam " in text
    assert re.search(r"\| sgd .* 84\.00 ± ", text)  # 40, 42 and 44 of 50
    assert re.search(r"\| sam .* 86\.00 ± ", text)  # 41, 43 and 45 of 50
    regenerate = " ".join(map(str, ("steppe", *given)))
    assert f"steppe leaderboard -t tiny --plugin {PLUGIN} --store {store.root} -o {page}" == regenerate
    assert f"```sh\n{regenerate}\n```" in text
    assert cli(*given).code == 0
    assert page.read_text() == text


def test_published_records_give_the_same_tables(cli: Cli, store: Store) -> None:
    cli("publish", "--store", store.root)
    here = cli("leaderboard", "--plugin", PLUGIN, "--store", store.root).out
    there = cli("leaderboard", "--plugin", PLUGIN, "--records", "results/records/tiny.jsonl").out
    cut = "This page is made by"
    assert here.partition(cut)[0] == there.partition(cut)[0]
    assert "--records results/records/tiny.jsonl" in there


def test_csv_and_filters(cli: Cli, store: Store) -> None:
    base = ("leaderboard", "--plugin", PLUGIN, "--store", store.root, "--format", "csv", "--view", "epochs")
    rows = list(csv.DictReader(io.StringIO(cli(*base).out)))
    assert [row["optimizer"] for row in rows] == ["sam", "sgd"]
    assert {row["view"] for row in rows} == {"epochs"}
    rows = list(csv.DictReader(io.StringIO(cli(*base, "--optimizer", "sg*").out)))
    assert [row["optimizer"] for row in rows] == ["sgd"]


def test_html_is_a_folder_beside_the_runs(cli: Cli, store: Store, tmp_path: Path) -> None:
    answer = cli("leaderboard", "--format", "html", "--plugin", PLUGIN, "--store", store.root)
    assert (answer.code, answer.out) == (0, f"{store.root / 'site' / 'index.html'}\n")
    page = next((store.root / "site" / "tasks").glob("tiny-*.html")).read_text()
    assert "steppe run -t tiny -o sam,sgd -s 0-2" in page
    assert f"steppe leaderboard --plugin {Path(PLUGIN).name} --format html" in page
    run = (store.root / "site" / "data" / "runs" / f"{store.run_ids()[0]}.js").read_text()
    assert "steppe run -t tiny -o" in run
    assert '"train_loss":[1.25]' in run
    assert len(store.run_ids()) == 6


def test_html_refuses_a_file_and_a_strangers_folder(cli: Cli, store: Store, tmp_path: Path) -> None:
    base = ("leaderboard", "--plugin", PLUGIN, "--store", store.root, "-o")
    answer = cli(*base, "board.html")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "give `--format html -o board`" in answer.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    answer = cli(*base, "mine", "--format", "html")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "is not empty and not a site of steppe" in answer.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_site_names_no_place_of_this_machine(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli("publish", "--store", store.root)
    records = tmp_path / "results" / "records" / "tiny.jsonl"
    site = tmp_path / "away" / "site"
    for given in (["--store", store.root, "--figures", tmp_path / "figures"], ["--records", records]):
        answer = cli("leaderboard", "--format", "html", "--plugin", PLUGIN, "-o", site, *given)
        assert answer.code == 0
        for path in site.rglob("*.*"):
            if path.is_file() and path.name not in ("vega.js", ".steppe-site.json"):
                assert str(tmp_path) not in path.read_text(encoding="utf-8"), path
    assert "steppe leaderboard --plugin tiny.py --records tiny.jsonl --format html" in (
        site / "index.html"
    ).read_text(encoding="utf-8")


def test_a_site_of_published_records_wants_a_folder_that_is_no_store(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    cli("publish", "--store", store.root)
    base = ("leaderboard", "--plugin", PLUGIN, "--store", store.root, "--format", "html")
    answer = cli(*base, "--records", "results/records/tiny.jsonl")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "needs a folder: name one with -o" in answer.err
    answer = cli(*base, "-o", store.root / "runs" / "site")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "is among the runs of the store" in answer.err
    assert not (store.root / "site").exists()
    assert not (store.root / "runs" / "site").exists()


def test_a_view_without_a_table_says_why(cli: Cli, store: Store) -> None:
    base = ("leaderboard", "--plugin", PLUGIN, "--store", store.root, "--view", "seconds",
            "--optimizer", "sgd")  # fmt: skip
    assert "No table at equal seconds: no two rows" in cli(*base).out
    assert cli(*base, "--format", "html").code == 0
    page = (store.root / "site" / "index.html").read_text(encoding="utf-8")
    assert "No table at equal seconds: no two rows" in page


def test_a_run_in_two_files_is_the_same_everywhere(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli("publish", "--store", store.root)
    first = tmp_path / "results" / "records" / "tiny.jsonl"
    other = tmp_path / "other.jsonl"
    slower = [replace(one, cost=replace(one.cost, train_s=987.0)) for one in read_records(first)]
    other.write_bytes(b"".join(map(to_line, slower)))
    shown = []
    for files in ([first, other], [other, first]):
        assert cli("leaderboard", "--plugin", PLUGIN, "--records", *files, "--format", "html",
                   "-o", "site").code == 0  # fmt: skip
        table = "987.0" in next((tmp_path / "site" / "tasks").glob("*.html")).read_text(encoding="utf-8")
        runs = {'"train_s":987' in path.read_text() for path in tmp_path.glob("site/data/runs/*.js")}
        assert runs == {table}
        shown.append(table)
    assert shown[0] == shown[1]


def test_a_run_with_other_results_in_store_and_file_is_said_and_shown_once(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    cli("publish", "--store", store.root)
    one = tiny_records()[0]
    other = replace(record_of(one.spec, 5), provenance=replace(one.provenance, origin=ELSEWHERE))
    store.run(one.run_id).replace_record(other)
    both = ("leaderboard", "--plugin", PLUGIN, "--records", "results/records/tiny.jsonl",
            "--store", store.root)  # fmt: skip
    said = "1 record left out: the same run with other results, from another source."
    assert said in cli(*both).out
    assert cli(*both, "--format", "html", "-o", "site").code == 0
    assert said in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    run = (tmp_path / "site" / "data" / "runs" / f"{one.run_id}.js").read_text(encoding="utf-8")
    shown = "10.00 %" in run  # else that of the file, 80.00 %, of which the store has no curves
    assert ('"curve":{}' in run) != shown
    (page,) = (tmp_path / "site" / "tasks").glob("*.html")
    mean = "60.67 ± " if shown else "84.00 ± "
    assert mean in page.read_text(encoding="utf-8")


def test_latex_and_figures(cli: Cli, store: Store, tmp_path: Path) -> None:
    base = ("leaderboard", "--plugin", PLUGIN, "--store", store.root, "--view", "epochs")
    answer = cli(*base, "-o", "board.tex", "--figures", "figures")
    assert answer.code == 0
    assert "\\toprule" in (tmp_path / "board.tex").read_text()
    names = {path.suffix for path in (tmp_path / "figures").iterdir()}
    assert names == {".png", ".svg"}


def test_tables_of_built_in_optimizers_load_no_torch(tmp_path: Path) -> None:
    registry = Registry()
    task = registry.reference("task", "digits-cnn", {})
    specs = [
        RunSpec(task, registry.reference("optimizer", name, {}), seed, "digits", "c" * 64, 20.0)
        for name in ("sgd", "sam")
        for seed in range(10)
    ]
    stored(tmp_path / "store", (record_of(spec, 40) for spec in specs))
    code = f"""
import sys
from pathlib import Path
from suite.entries import cached_registry
cached_registry.CACHE = Path({str(tmp_path)!r}) / "declared"
from suite.cli import main
code = main(["leaderboard", "--store", {str(tmp_path / "store")!r}, "-o", sys.argv[1]])
print(code, "torch" in sys.modules)
"""
    said, pages = [], []
    for name in ("first.md", "second.md"):
        page = tmp_path / name
        command = [sys.executable, "-c", code, str(page)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        pages.append(page.read_text().replace(name, "page"))
    assert said == ["0 True\n", "0 False\n"]  # the first caches what the optimizers declare
    assert pages[0] == pages[1]
    assert "steppe run -t digits-cnn -o sam,sgd -s 0-9" in pages[0]


def test_nothing_to_show_is_one_line(cli: Cli, store: Store) -> None:
    answer = cli("leaderboard", "-t", "digits-cnn", "--store", store.root)
    assert answer.code == 2
    assert answer.err.startswith("steppe: error: no finished run matches these tasks and optimizers")
    answer = cli("leaderboard", "--store", store.root.parent / "none")
    assert answer.err.startswith("steppe: error: no finished run to show")
    assert cli("leaderboard", "--records", "nowhere.jsonl").code == 2


def test_run_commands_merge_seeds_and_optimizers() -> None:
    registry = Registry([PLUGIN])
    specs = tiny_specs(["sgd", "sam[rho=0.1]"], [0, 1, 2, 5]) + tiny_specs(["nso"], [0])
    tail = "--data-set synthetic --device cpu --plugin FILE"
    assert run_commands(specs, registry) == [
        f"steppe run -t tiny -o nso -s 0 {tail}",
        f"steppe run -t tiny -o 'sam[rho=0.1],sgd' -s 0-2,5 {tail}",
    ]


def test_what_no_command_makes_is_said() -> None:
    specs = tiny_specs(["sgd"], [0, 1])
    (line,) = run_commands(specs, Registry())
    assert line.startswith("# sgd")
    assert ", seeds 0-1: unknown task 'tiny'" in line
    assert "--plugin FILE" in line


@pytest.mark.parametrize("name", ["board", "board.pdf"])
def test_an_ending_that_is_no_format_is_refused(cli: Cli, store: Store, tmp_path: Path, name: str) -> None:
    answer = cli("leaderboard", "--store", store.root, "-o", tmp_path / name)
    assert answer.code == 2
    assert f"unknown ending of -o {tmp_path / name}" in answer.err
    assert "or give --format" in answer.err
    assert not (tmp_path / name).exists()


def test_ranges() -> None:
    assert ranges([3, 0, 1, 7]) == "0-1,3,7"
