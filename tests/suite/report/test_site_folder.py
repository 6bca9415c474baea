"""The folder of a site: nobody else's files are touched, and a build cut short is mended by the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite.errors import SteppeError
from suite.report.site.folder import MARKER, STAGING, SiteFolder


def publish(root: Path, **files: str) -> None:
    folder = SiteFolder(root)
    for name, content in files.items():
        folder.write(name.replace("__", "/") + ".html", content)
    folder.publish()


def listed(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {MARKER}


def test_stale_pages_go_and_a_strangers_files_stay(tmp_path: Path) -> None:
    publish(tmp_path / "site", index="1", tasks__old="1", data__x="1")
    (tmp_path / "site" / "tasks" / "notes.txt").write_text("mine")
    publish(tmp_path / "site", index="2", other="2")
    assert listed(tmp_path / "site") == {"index.html", "other.html", "tasks/notes.txt"}
    assert not (tmp_path / "site" / "data").exists()
    assert (tmp_path / "site" / "index.html").read_text() == "2"


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SteppeError, match=r"not empty and no site of ours.* -o"):
        SiteFolder(tmp_path)
    assert listed(tmp_path) == {"thesis.tex"}


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    publish(tmp_path, index="1")
    assert listed(tmp_path) == {"index.html"}


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SteppeError, match="is a file: an HTML leaderboard is a folder"):
        SiteFolder(tmp_path / "file")
    with pytest.raises(SteppeError, match=r"cannot write .*choose another folder with -o"):
        SiteFolder(tmp_path / "file" / "below")


def test_until_it_is_whole_the_build_before_it_stands(tmp_path: Path) -> None:
    root = tmp_path / "site"
    publish(root, index="1", old="1")
    cut_short = SiteFolder(root)
    cut_short.write("index.html", "2")
    cut_short.write("new.html", "2")
    assert (root / "index.html").read_text() == "1"
    assert not (root / "new.html").exists()
    publish(root, index="3")  # as after a kill: nobody discarded
    assert listed(root) == {"index.html"}
    assert not (root / STAGING).exists()


def test_a_publication_cut_short_is_mended(tmp_path: Path) -> None:
    root = tmp_path / "site"
    publish(root, index="1", old="1")
    (root / "new.html").write_text("moved just before the kill")
    (root / MARKER).write_text(json.dumps({"site": 1, "files": ["index.html", "old.html", "new.html"]}))
    publish(root, index="2")
    assert listed(root) == {"index.html"}


def test_discarding_leaves_the_old_site(tmp_path: Path) -> None:
    publish(tmp_path, index="1")
    folder = SiteFolder(tmp_path)
    folder.write("index.html", "2")
    folder.discard()
    assert listed(tmp_path) == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "1"


@pytest.mark.parametrize("name", ["../victim.html", "/etc/victim.html", "a/../../victim.html", ""])
def test_a_marker_that_points_elsewhere_deletes_nothing_there(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim.html"
    victim.write_text("keep")
    root = tmp_path / "site"
    publish(root, index="1")
    (root / MARKER).write_text(json.dumps({"site": 1, "files": [name, 7, "index.html"]}))
    publish(root, index="2")
    assert victim.read_text() == "keep"
