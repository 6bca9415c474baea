"""Every page of docs/ is executed, top to bottom: what it says to type works and prints what it shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeGuard

import pytest

from tests.docs.markdown import ROOT, Block, blocks, pages
from tests.docs.test_command_lines import check_line, steppe_lines
from tests.docs.transcript import LANGUAGES, OPTIONS, Desk

ON_A_CLUSTER = {"slurm.md"}
"""Pages that tests/slurm follows, as they need a cluster."""

TRAINING = {"add-a-task.md", "add-an-optimizer.md", "tutorial.md"}
"""Pages that train for a minute or so: `pytest -m docs` follows them."""

PAGES = [page for page in pages() if page.parent.name == "docs" and page.name not in ON_A_CLUSTER]
BLOCKS = [block for page in pages() if page.parent.name == "docs" for block in blocks(page)]
NOT_RUN = [block for block in BLOCKS if "no-run" in block.options]


@pytest.fixture(scope="module")
def followed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[None]]]:
    """The pages that were asked for, two at a time: most of what they do takes one core."""
    chosen = [
        Path(str(item.callspec.params["page"])) for item in request.session.items if is_test_of_page(item)
    ]
    chosen.sort(key=lambda page: page.name != "tutorial.md")  # the longest first
    with ThreadPoolExecutor(2) as pool:
        yield {page: pool.submit(follow, page, tmp_path_factory.mktemp(page.stem)) for page in chosen}


def is_test_of_page(item: pytest.Item) -> TypeGuard[pytest.Function]:
    return isinstance(item, pytest.Function) and item.function is test_page


def follow(page: Path, folder: Path) -> None:
    with Desk(folder) as desk:
        desk.follow(page)
        if page.name == "tutorial.md":
            ends_in_the_leaderboard(desk)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.docs] * (page.name in TRAINING)) for page in PAGES],
    ids=lambda page: page.name,
)
def test_page(page: Path, followed: dict[Path, Future[None]]) -> None:
    followed[page].result()


def ends_in_the_leaderboard(desk: Desk) -> None:
    printed, code = desk.type("steppe leaderboard -t digits-cnn --view epochs --format csv")
    assert code == 0
    row = next(row for row in csv.DictReader(io.StringIO(printed)) if row["optimizer"] == "mine")
    assert (row["n"], row["failed"], row["verdict"]) == ("3", "0", "undecided")
    assert float(row["test_accuracy_mean"]) > 0.9  # a blind guess is 0.1


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_block_is_of_a_known_kind(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.options.keys() <= OPTIONS
    if block.language == "text":
        assert not block.text.startswith("$ "), "a command is shown in a console block"
    if block.language == "diff":
        assert "file" in block.options


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.where)
def test_block_that_is_not_run(block: Block) -> None:
    reason = block.options["no-run"]
    assert len(reason.split()) > 1, "say why it is not run"
    for line in steppe_lines(block.text):
        check_line(line)
    pytest.skip(f"{block.where} is not executed: {reason}")


def test_there_are_pages() -> None:
    assert {"README.md", *TRAINING} <= {page.name for page in PAGES}
    assert all((ROOT / "docs" / page.name).is_file() for page in PAGES)
