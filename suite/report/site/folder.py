"""The folder of a site: built aside, moved into place at the end, and never at a stranger's cost.

    DIR/.steppe-site.json   marks the folder as ours and names every file that we put there
    DIR/.steppe-building/   the site while it is being built

Until a build is whole, the pages of the one before it stand untouched. Moving them is a rename a file,
index.html last. A build that was cut short is mended by the next one: the marker names what either may have
left. Files that the marker does not name are not ours and stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from suite.errors import SteppeError

MARKER = ".steppe-site.json"
STAGING = ".steppe-building"
INDEX = "index.html"


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
            if not (root / MARKER).exists() and any(root.iterdir()):
                raise SteppeError(
                    f"{root} is not empty and no site of ours (no {MARKER}): name another folder with -o"
                )
            self._mark(self._marked())
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
        with _writing(self.root):
            self._mark(old | self._written)
            for name in sorted(self._written, key=lambda name: (name == INDEX, name)):
                target = self.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._staging / name, target)
            self._remove(old - self._written)
            self._mark(self._written)
            shutil.rmtree(self._staging)

    def discard(self) -> None:
        """Take away what was staged; the pages of the build before it stay."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _marked(self) -> set[str]:
        """Files that the marker names; names that would lead out of the folder are passed over."""
        try:
            named = json.loads((self.root / MARKER).read_bytes())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        return {name for name in named if isinstance(name, str) and _inside(name)}

    def _mark(self, names: Iterable[str]) -> None:
        temporary = self.root / f"{MARKER}.new"
        temporary.write_text(json.dumps({"site": 1, "files": sorted(names)}, indent=0), encoding="utf-8")
        os.replace(temporary, self.root / MARKER)

    def _remove(self, names: Iterable[str]) -> None:
        folders = set()
        for name in names:
            (self.root / name).unlink(missing_ok=True)
            folders |= {folder for folder in PurePosixPath(name).parents if folder.name}
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):  # not empty: others of ours, or a stranger's
                (self.root / folder).rmdir()


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SteppeError(
            f"cannot write {path}: {reason}; mend that, or choose another folder with -o"
        ) from None
