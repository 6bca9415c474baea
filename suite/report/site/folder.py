"""The folder of a site: a build is staged in it and moved into place by renames, index.html last.

    DIR/.steppe-site.json   names every file of the site; other files in the folder are never touched
    DIR/.steppe-building/   the site while it is built

The marker names both builds before the first rename, so that the next build cleans up after a kill.
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
    """A folder that takes the files of a site."""

    root: Path

    def write(self, name: str, content: str | bytes) -> None:
        """Stage one file; its name is relative, with slashes."""
        path = self.root / STAGING / name
        with _writing(self.root / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def site_folder(root: Path) -> Iterator[SiteFolder]:
    """Claim a folder, create it if need be, and publish what the block wrote unless it raises."""
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
    with contextlib.suppress(OSError):  # some network file systems lock no folders
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
                f"{root / name} is not of the site and in the place of a page: move it away, or name "
                f"another folder with -o"
            )
    with _writing(root):
        _mark(root, old | new)
        for name in sorted(new, key=lambda name: (name == INDEX, name)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, root / name)
        for path in (root / name for name in old - new):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                os.removedirs(path.parent)
        _mark(root, new)


def _marked(root: Path) -> set[str]:
    """Files of the last build, but for names that lead out of the folder."""
    if not os.path.lexists(marker := root / MARKER):
        if any(path.name != STAGING for path in root.iterdir()):
            raise SteppeError(
                f"{root} is not empty and no site of ours (no {MARKER}): name another folder with -o"
            )
        return set()
    try:
        named = json.loads(marker.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        named = None
    if not isinstance(named, list):
        raise SteppeError(
            f"{marker} is damaged or not ours: remove {root} if it holds a site only, or name another "
            f"folder with -o"
        )
    names = {name for name in named if isinstance(name, str) and name and ".." not in name.split("/")}
    return {name for name in names if name[0] != "/" and not _link_above(root, name)}


def _mark(root: Path, names: set[str]) -> None:
    staged = root / STAGING / MARKER
    staged.write_text(json.dumps({"site": 1, "files": sorted(names)}, indent=0), encoding="utf-8")
    os.replace(staged, root / MARKER)


def _link_above(root: Path, name: str) -> Path | None:
    """Return the symbolic link on the way to the file, if there is one."""
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
