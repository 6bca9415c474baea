"""The folder of a site: nobody else's files are touched, and a build cut short is mended by the next."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from suite.errors import SteppeError
from suite.report.site.folder import MARKER, STAGING, site_folder


def publish(root: Path, **files: str) -> None:
    with site_folder(root) as folder:
        for name, content in files.items():
            folder.write(name.replace("__", "/") + ".html", content)


def killed(root: Path, **files: str) -> None:
    """Stage files in a process that then dies."""
    child = os.fork()
    if child == 0:
        building = site_folder(root)
        folder = building.__enter__()
        for name, content in files.items():
            folder.write(f"{name}.html", content)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


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
    with pytest.raises(SteppeError, match=r"not empty and not a site of steppe.* -o"):
        publish(tmp_path, index="1")
    assert listed(tmp_path) == {"thesis.tex"}


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    publish(tmp_path, index="1")
    assert listed(tmp_path) == {"index.html"}


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SteppeError, match="is a file: an HTML leaderboard is a folder"):
        publish(tmp_path / "file")
    with pytest.raises(SteppeError, match=r"cannot write .*choose another folder with -o"):
        publish(tmp_path / "file" / "below")


def test_until_it_is_whole_the_build_before_it_stands(tmp_path: Path) -> None:
    root = tmp_path / "site"
    publish(root, index="1", old="1")
    killed(root, index="2", new="2")
    assert (root / STAGING / "new.html").exists()
    assert (root / "index.html").read_text() == "1"
    assert not (root / "new.html").exists()
    publish(root, index="3")
    assert listed(root) == {"index.html"}
    assert not (root / STAGING).exists()


def test_a_publication_cut_short_is_mended(tmp_path: Path) -> None:
    root = tmp_path / "site"
    publish(root, index="1", old="1")
    (root / "new.html").write_text("moved just before the kill")
    (root / MARKER).write_text(json.dumps({"site": 1, "files": ["index.html", "old.html", "new.html"]}))
    publish(root, index="2")
    assert listed(root) == {"index.html"}


def test_a_build_that_fails_leaves_the_old_site(tmp_path: Path) -> None:
    publish(tmp_path, index="1")
    building = site_folder(tmp_path)
    building.__enter__().write("index.html", "2")
    assert not building.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
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


def test_two_builds_do_not_mix(tmp_path: Path) -> None:
    with site_folder(tmp_path) as first:
        first.write("index.html", "1")
        with pytest.raises(SteppeError, match=r"another build is writing into .*: wait for it"):
            publish(tmp_path, index="2")
    assert (tmp_path / "index.html").read_text() == "1"
    with pytest.raises(KeyboardInterrupt), site_folder(tmp_path):
        raise KeyboardInterrupt
    publish(tmp_path, index="3")
    assert (tmp_path / "index.html").read_text() == "3"


def test_the_death_of_a_build_lets_the_next_one_in(tmp_path: Path) -> None:
    killed(tmp_path, index="1")
    publish(tmp_path, index="2")
    assert listed(tmp_path) == {"index.html"}


def test_a_kill_at_the_first_marker_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / MARKER).write_text("{")
    publish(tmp_path, index="1")
    assert listed(tmp_path) == {"index.html"}


@pytest.mark.parametrize("content", ['{"files": 5}', '{"files": "index.html"}', "[]", "{", ""])
def test_a_damaged_marker_is_one_line_and_nothing_is_touched(tmp_path: Path, content: str) -> None:
    publish(tmp_path, index="1")
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(SteppeError, match="is damaged or not written by steppe: remove"):
        publish(tmp_path, index="2")
    assert listed(tmp_path) == {"index.html"}
    assert (tmp_path / MARKER).read_text() == content


def test_a_strangers_file_in_the_place_of_a_page_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, index="1")
    (tmp_path / "run.html").write_text("mine")
    with pytest.raises(SteppeError, match=r"run.html is not part of the site .* move it away"):
        publish(tmp_path, index="2", run="2")
    assert (tmp_path / "run.html").read_text() == "mine"
    assert (tmp_path / "index.html").read_text() == "1"


def test_nothing_is_written_or_deleted_through_a_link(tmp_path: Path) -> None:
    root, victim = tmp_path / "site", tmp_path / "victim"
    publish(root, index="1", tasks__a="1")
    (root / "tasks").rename(victim)
    (root / "tasks").symlink_to(victim)
    with pytest.raises(SteppeError, match="tasks is a symbolic link: remove it"):
        publish(root, index="2", tasks__a="2")
    (root / STAGING).symlink_to(victim)
    publish(root, index="3")
    assert (victim / "a.html").read_text() == "1"
    assert (root / "index.html").read_text() == "3"
