"""What is mirrored already: a folder a run next to the store's runs, with a marker a target and a lock.

wandb/RUN_ID/   mirror.json   wandb/ (wandb's own files)   lock
wandb/sidecar.log             all that wandb prints
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from suite.errors import SteppeError
from suite.files import make_folder, read_json, storing, write_whole
from suite.track.mode import Target

FOLDER = "wandb"
LOG = "sidecar.log"
_LOG_BYTES = 1 << 20


class MirrorBusy(Exception):  # noqa: N818 - a state of the mirror, not a mistake
    """Another process mirrors the run just now."""


@dataclass(frozen=True)
class Marker:
    """What was mirrored, and where to; written once it is whole there."""

    target: Target
    digest: str


class MirrorFolder:
    """The folder of one run's mirror."""

    def __init__(self, store_root: Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = store_root / FOLDER / run_id

    def markers(self) -> list[Marker]:
        """Read what is mirrored, one marker a target; none where they cannot be read."""
        try:
            found = read_json(self.path / "mirror.json", "delete it")
            return msgspec.convert(found.get("markers"), list[Marker])
        except (FileNotFoundError, SteppeError, msgspec.ValidationError):
            return []

    def holds(self, target: Target, digest: str) -> bool:
        """Whether just this was mirrored there."""
        same = [marker.target for marker in self.markers() if marker.digest == digest]
        if target.mode == "offline":  # a file may be uploaded anywhere, but it must still be there
            return any(known.mode == "offline" for known in same) and any(self.segments())
        return target in same

    def segments(self) -> list[Path]:
        """Folders that wandb made for this run, in order."""
        return sorted((self.path / "wandb").glob("*run-*"))

    def complete(self, target: Target, digest: str, keep: Path | None) -> None:
        """Write the marker, then remove every folder of wandb's but `keep`: offline files of before go."""
        others = (m for m in self.markers() if m.target != target and m.target.mode != "offline")
        markers = [asdict(marker) for marker in (*others, Marker(target, digest))]
        text = json.dumps({"markers": markers}, indent=1) + "\n"
        write_whole(self.path / "mirror.json", text.encode())
        for path in (self.path / "wandb").glob("*"):
            if path.is_symlink() or not path.is_dir():
                with contextlib.suppress(OSError):
                    path.unlink()
            elif keep is None or path.name != keep.name:
                shutil.rmtree(path, ignore_errors=True)

    def lock(self) -> BinaryIO:
        """Own the mirror of this run until the file is closed; MirrorBusy where another process owns it."""
        path = self.path / "lock"
        make_folder(self.path)
        with storing(path):
            file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise MirrorBusy(self.run_id) from None
        return file


def open_log(store_root: Path) -> BinaryIO:
    """Open the log for appending; one that grew large starts anew."""
    path = store_root / FOLDER / LOG
    make_folder(path.parent)
    with storing(path):
        log = path.open("ab")
        if log.tell() > _LOG_BYTES:
            log.truncate(0)
    return log
