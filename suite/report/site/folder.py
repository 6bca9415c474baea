"""The folder of a site: a build is staged inside it and moved into place by renames, index.html last.

    DIR/.steppe-site.json   lists every file of the site; other files in the folder are never touched
    DIR/.steppe-building/   the staged build

Before the first rename, the marker lists the files of both builds, so the next build cleans up after a kill.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from suite.errors import SteppeError

MARKER = ".steppe-site.json"
STAGING = ".steppe-building"
INDEX = "index.html"


@dataclass(frozen=True)
class SiteFolder:
    """A folder claimed for a build."""

    root: Path

    def write(self, name: str, content: str | bytes) -> None:
        """Stage one file; its name is a relative path with slashes."""
        path = self.root / STAGING / name
        with _writing(self.root / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def site_folder(root: Path) -> Iterator[SiteFolder]:
    """Claim a folder, created if missing, and publish the staged files unless the block raises."""
    if root.exists() and not root.is_dir():
        raise SteppeError(f"{root} is a file: an HTML leaderboard is a folder of pages, name one with -o")
    with contextlib.ExitStack() as stack:
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
            _lock(root, stack)
            old, staging = _marked(root), root / STAGING
            if staging.is_symlink():
                staging.unlink()
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        yield SiteFolder(root)
        _publish(root, old)


def _lock(root: Path, stack: contextlib.ExitStack) -> None:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    with contextlib.suppress(OSError):  # some network file systems cannot lock folders
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SteppeError(
                f"another build is writing into {root}: wait for it, or name another folder with -o"
            ) from None


def _publish(root: Path, old: set[str]) -> None:
    staging = root / STAGING
    new = {path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()}
    for name in sorted(new):
        if link := _link_above(root, name):
            raise SteppeError(f"{link} is a symbolic link: remove it, or name another folder with -o")
        if name not in old and os.path.lexists(root / name):
            raise SteppeError(
                f"{root / name} is not part of the site and has the name of a page: move it away, or name "
                f"another folder with -o"
            )
    with _writing(root):
        _mark(root, old | new)
        for name in sorted(new, key=lambda name: (name == INDEX, name)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, root / name)
        for path in (root / name for name in old - new):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder is not empty
                os.removedirs(path.parent)
        _mark(root, new)


def _marked(root: Path) -> set[str]:
    """Return the files of the last build, without names that lead out of the folder."""
    if not os.path.lexists(marker := root / MARKER):
        if any(path.name != STAGING for path in root.iterdir()):
            raise SteppeError(
                f"{root} is not empty and not a site of steppe (no {MARKER}): name another folder with -o"
            )
        return set()
    try:
        named = json.loads(marker.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        named = None
    if not isinstance(named, list):
        raise SteppeError(
            f"{marker} is damaged or not written by steppe: remove {root} if it contains only a site, or "
            f"name another folder with -o"
        )
    names = {name for name in named if isinstance(name, str) and name and ".." not in name.split("/")}
    return {name for name in names if name[0] != "/" and not _link_above(root, name)}


def _mark(root: Path, names: set[str]) -> None:
    staged = root / STAGING / MARKER
    staged.write_text(json.dumps({"site": 1, "files": sorted(names)}, indent=0), encoding="utf-8")
    os.replace(staged, root / MARKER)


def _link_above(root: Path, name: str) -> Path | None:
    """Return the first symbolic link among the parents of the file, or None."""
    folders = (root / folder for folder in PurePosixPath(name).parents if folder.name)
    return next((folder for folder in folders if folder.is_symlink()), None)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SteppeError(
            f"cannot write {path}: {error.strerror or error}; fix that, or choose another folder with -o"
        ) from None
