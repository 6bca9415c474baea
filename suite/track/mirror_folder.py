"""The folder of a run's mirror: wandb's files, a marker of the mirrored content per target, and a lock.

wandb/RUN_ID/   mirror.json   wandb/ (wandb's own files)   lock
wandb/sidecar.log             wandb's output
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from suite.errors import SteppeError
from suite.files import make_folder, read_json, storing, write_whole
from suite.track import reader
from suite.track.mode import Target

FOLDER = "wandb"
LOG = "sidecar.log"
_LOG_BYTES = 1 << 20

INIT_S, FINISH_S = 30.0, 30.0
"""Timeouts of W&B for the start and for the end of a run, in seconds."""

_WRITTEN_S = 10.0
"""Seconds to wait for a complete offline file, as wandb writes its end shortly after `finish` returns."""


class MirrorBusy(Exception):  # noqa: N818 - a state of the mirror, not a mistake
    """Another process holds the lock of this run's mirror."""


@dataclass(frozen=True)
class Marker:
    """Digest of the content and its target, written once the mirror there is complete."""

    target: Target
    digest: str


class MirrorFolder:
    """The folder of one run's mirror."""

    def __init__(self, store_root: Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = store_root / FOLDER / run_id

    def markers(self) -> list[Marker]:
        """Read one marker per target; none if they cannot be read."""
        try:
            stored = read_json(self.path / "mirror.json", "delete it")
            return msgspec.convert(stored.get("markers"), list[Marker])
        except (FileNotFoundError, SteppeError, msgspec.ValidationError):
            return []

    def holds(self, target: Target, digest: str) -> bool:
        """Whether the content with this digest was mirrored to the target."""
        same = [marker.target for marker in self.markers() if marker.digest == digest]
        if target.mode == "offline":  # offline files serve any server, but they must still exist
            return any(known.mode == "offline" for known in same) and any(self.segments())
        return target in same

    def segments(self) -> list[Path]:
        """Return wandb's folders of this run, in order."""
        return sorted((self.path / "wandb").glob("*run-*"))

    def begin(self, target: Target, settings: dict[str, Any]) -> Any:
        """Start a run of wandb: offline in a new file; online the server ignores steps that it has."""
        import wandb

        return wandb.init(
            **settings,
            dir=str(self.path),
            project=target.project,
            entity=target.entity or None,
            mode=target.mode,  # type: ignore[arg-type]
            resume="allow" if target.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                program="steppe",
                host="",
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                init_timeout=INIT_S,
                finish_timeout=FINISH_S,
                finish_timeout_raises=True,
            ),
        )

    def end(self, run: Any, target: Target, digest: str, steps: list[int], code: int = 0) -> None:
        """End a run of wandb; once it is complete, write the marker and delete older offline files.

        Online wandb confirms that all data arrived; an offline file is read back.
        """
        run.finish(code)
        segment, file = Path(run.settings.sync_dir), Path(run.settings.sync_file)
        until = time.monotonic() + _WRITTEN_S
        while target.mode == "offline" and not reader.is_whole(file, steps):
            if time.monotonic() > until:
                raise RuntimeError(f"{segment.name} does not hold all that was written")
            time.sleep(0.05)
        others = (m for m in self.markers() if m.target != target and m.target.mode != "offline")
        markers = [asdict(marker) for marker in (*others, Marker(target, digest))]
        text = json.dumps({"markers": markers}, indent=1) + "\n"
        write_whole(self.path / "mirror.json", text.encode())
        for path in (self.path / "wandb").glob("*"):
            if path.is_symlink() or not path.is_dir():
                with contextlib.suppress(OSError):
                    path.unlink()
            elif target.mode == "online" or path.name != segment.name:
                shutil.rmtree(path, ignore_errors=True)

    def lock(self) -> BinaryIO:
        """Lock the mirror of this run until the file is closed; MirrorBusy if another process holds it."""
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
    """Open the log for appending; a large log is truncated."""
    path = store_root / FOLDER / LOG
    make_folder(path.parent)
    with storing(path):
        log = path.open("ab")
        if log.tell() > _LOG_BYTES:
            log.truncate(0)
    return log
