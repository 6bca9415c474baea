"""The folder of a site: built aside, moved into place at the end, and never at a stranger's cost.

    DIR/.steppe-site.json   marks the folder as ours and names every file that we put there
    DIR/.steppe-building/   the site while it is being built

Until a build is whole, the pages of the one before it stand untouched. Moving them is a rename a file,
index.html last. A build that was cut short is mended by the next one: the marker names what either may have
left. Files that the marker does not name are not ours and stay; a page that would take the place of one of
them is refused, and so is one behind a symbolic link. A lock on the folder keeps a second build out until the
first has published, discarded or died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from suite.errors import SteppeError

MARKER = ".steppe-site.json"
STAGING = ".steppe-building"
INDEX = "index.html"
_NEW = f"{MARKER}.new"


class SiteFolder:
    """A folder that takes the files of a site: `write` each, then `publish` all."""

    def __init__(self, root: Path) -> None:
        """Claim the folder and make it if need be; SteppeError where it holds what is not ours."""
        self.root = root
        self._staging = root / STAGING
        self._written: set[str] = set()
        if root.exists() and not root.is_dir():
            raise SteppeError(f"{root} is a file: an HTML leaderboard is a folder of pages, name one with -o")
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = _locked(root)
        try:
            self._claim()
        except BaseException:
            self._unlock()
            raise

    def _claim(self) -> None:
        with _writing(self.root):
            # A kill at the very first marker leaves its temporary file alone.
            strange = any(path.name != _NEW for path in self.root.iterdir())
            if strange and not (self.root / MARKER).exists():
                raise SteppeError(
                    f"{self.root} is not empty and no site of ours (no {MARKER}): name another folder with -o"
                )
            self._mark(self._marked())
            if self._staging.is_symlink():
                self._staging.unlink()
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir()

    def write(self, name: str, content: str | bytes) -> None:
        """Stage one file; its name is relative, with slashes."""
        path = self._staging / name
        with _writing(self.root / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._written.add(name)

    def publish(self) -> None:
        """Move every staged file into place and take away those of the build before it that are stale."""
        old = self._marked()
        for name in sorted(self._written):
            self._refuse_strangers(name, old)
        with _writing(self.root):
            self._mark(old | self._written)
            for name in sorted(self._written, key=lambda name: (name == INDEX, name)):
                target = self.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._staging / name, target)
            self._remove(old - self._written)
            self._mark(self._written)
            shutil.rmtree(self._staging)
        self._unlock()

    def discard(self) -> None:
        """Take away what was staged; the pages of the build before it stay."""
        if self._lock is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _refuse_strangers(self, name: str, ours: set[str]) -> None:
        if (link := self._link_above(name)) is not None:
            raise SteppeError(f"{link} is a symbolic link: remove it, or name another folder with -o")
        if name not in ours and os.path.lexists(self.root / name):
            raise SteppeError(
                f"{self.root / name} is not of the site and in the place of a page: move it away, or name "
                f"another folder with -o"
            )

    def _link_above(self, name: str) -> Path | None:
        """Return a folder on the way to the file that leads elsewhere."""
        folders = (self.root / folder for folder in PurePosixPath(name).parents if folder.name)
        return next((folder for folder in folders if folder.is_symlink()), None)

    def _marked(self) -> set[str]:
        """Files that the marker names; names that would lead out of the folder are passed over."""
        marker = self.root / MARKER
        try:
            named = json.loads(marker.read_bytes())["files"]
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, KeyError, TypeError):
            named = None
        if not isinstance(named, list):
            raise SteppeError(
                f"{marker} is damaged or not ours: remove {self.root} if it holds a site only, or name "
                f"another folder with -o"
            )
        return {name for name in named if isinstance(name, str) and _inside(name)}

    def _mark(self, names: Iterable[str]) -> None:
        temporary = self.root / _NEW
        if temporary.is_symlink():
            temporary.unlink()
        temporary.write_text(json.dumps({"site": 1, "files": sorted(names)}, indent=0), encoding="utf-8")
        os.replace(temporary, self.root / MARKER)

    def _remove(self, names: Iterable[str]) -> None:
        folders = set()
        for name in names:
            if self._link_above(name) is not None:
                continue
            (self.root / name).unlink(missing_ok=True)
            folders |= {folder for folder in PurePosixPath(name).parents if folder.name}
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):  # not empty: others of ours, or a stranger's
                (self.root / folder).rmdir()


def _locked(root: Path) -> int:
    """Lock the folder itself for as long as the descriptor returned is open."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SteppeError(
            f"another build is writing into {root}: wait for it, or name another folder with -o"
        ) from None
    except OSError:
        pass  # some network file systems lock no folders: a build goes on there without
    return descriptor


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SteppeError(
            f"cannot write {path}: {reason}; mend that, or choose another folder with -o"
        ) from None
