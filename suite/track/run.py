"""One run on W&B: begun, written from the store, and seen to be whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from suite.store.store import Store
from suite.track import content
from suite.track.content import Content, Labels
from suite.track.mode import Target
from suite.track.state import MirrorFolder

INIT_S, FINISH_S = 30.0, 30.0
"""Seconds that W&B gets to take a run up, and to take the rest of it at the end."""

WRITTEN_S = 10.0
"""Seconds in which an offline file must be whole after wandb ended it: it writes the end a moment later."""


class RunMirror:
    """One run on W&B, begun anew: what the store has of it is written from its first step on."""

    def __init__(self, store: Store, run_id: str, labels: Labels | None, target: Target) -> None:
        self._run_folder, self._labels, self._target = store.run(run_id), labels, target
        self._folder = MirrorFolder(store.root, run_id)
        self._lock = self._folder.lock()
        self._run: Any = None
        self._last_step = -1

    def feed(self) -> None:
        """Write the rows that came since."""
        now = content.read(self._run_folder)
        if now is not None and now.status != "completed":
            self._write(now)

    def finish(self) -> Literal["done", "nothing"]:
        """Write what is missing, see that it is whole, and remember that; return the outcome."""
        now = content.read(self._run_folder)
        # A run that `feed` opened must be ended, whether or not it is all there.
        if now is not None and (self._run is not None or not self._folder.holds(self._target, now.digest)):
            self._write(now)
            self._run.summary.update(now.summary)
            steps, code = [row["step"] for row in now.rows], 0 if now.status == "completed" else 1
            finish(self._run, self._folder, self._target, now.digest, steps, code)
        self.release()
        return "nothing" if now is None else "done"

    def release(self) -> None:
        """Let others mirror this run."""
        self._lock.close()

    def _write(self, now: Content) -> None:
        if self._run is None:
            self._run = init(self._folder, self._target, content.settings_of(now.spec, self._labels))
            self._run.define_metric("step", hidden=True)
            self._run.define_metric("*", step_metric="step")
        for row in now.rows:
            if row["step"] > self._last_step:
                self._run.log(row, step=row["step"], commit=True)
                self._last_step = row["step"]


def init(folder: MirrorFolder, target: Target, settings: dict[str, Any]) -> Any:
    """Begin a run: a fresh file offline; online the run of that id, whose server drops the steps it has."""
    import wandb

    return wandb.init(
        **settings,
        dir=str(folder.path),
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


def finish(
    run: Any, folder: MirrorFolder, target: Target, digest: str, steps: list[int], code: int = 0
) -> None:
    """End a run and mark it as mirrored; online wandb says that all arrived, an offline file is read back."""
    run.finish(code)
    if target.mode == "online":
        folder.complete(target, digest, keep=None)
        return
    from suite.track import reader

    segment, file = Path(run.settings.sync_dir), Path(run.settings.sync_file)
    until = time.monotonic() + WRITTEN_S
    while not reader.is_whole(file, steps):
        if time.monotonic() > until:
            raise RuntimeError(f"{segment.name} does not hold all that was written")
        time.sleep(0.05)
    folder.complete(target, digest, keep=segment)
