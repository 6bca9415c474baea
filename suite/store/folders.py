"""The local store, the source of truth: one folder per run, an index of records, and pinned entries.

    runs/RUN_ID/  spec.json  attempts/N/...  result.json (exists if the run is done)
                  error.json (reason for a missing record that needs the user's attention)
    entries/      the source hash of each built-in entry and version, pinned at its first use
    index.jsonl   a cache of the records, see suite.store.index

Importing it loads no torch; reading does not create a store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from suite.errors import SteppeError
from suite.files import StorageError, locked, make_folder, read_json, storing, write_whole
from suite.metric import Description
from suite.records.schema import Record, to_document
from suite.spec import EntryRef, RunSpec
from suite.store import index
from suite.store.attempt import Attempt, description_of, last_state
from suite.store.lease import RunBusy, RunDone, RunFenced, acquire, attempt_numbers, latest_lease
from suite.store.lines import read_lines

__all__ = ["Attempt", "RunBusy", "RunDone", "RunError", "RunFenced", "RunFolder", "Store"]

STORE = "runs"
"""The default store, if neither --store nor STEPPE_STORE names one."""

STATUSES = ("done", "failed", "running", "error", "interrupted", "queued")
_SPECS = msgspec.json.Decoder(RunSpec)
_PACKAGES = {"optimizer": "baselines", "task": "tasks"}


@dataclass(frozen=True)
class RunError:
    """Reason why a run ended without a record; valid until another attempt starts."""

    outcome: str
    """One of `suite.workers.serve.OUTCOMES`: mistake, error, lost or storage."""
    message: str
    """One line."""
    log: str
    """Path of the run's log; empty if the run printed nothing."""
    job: str
    """The scheduler's name of the job; empty without one."""
    time: float
    """Seconds since the epoch."""
    attempt: int
    """Number of the newest attempt; 0 if none."""


class Store:
    """A folder of runs, created by the first write."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, which need not exist."""
        return RunFolder(self, run_id)

    def find(self, prefix: str) -> RunFolder:
        """Return the only run whose id starts with `prefix`; SteppeError if none or several do."""
        names = [name for name in self.run_ids() if name.startswith(prefix)]
        if len(names) == 1:
            return self.run(names[0])
        if names:
            raise SteppeError(f"run {prefix!r} is ambiguous: {', '.join(names[:5])}; give more digits")
        raise SteppeError(f"no run {prefix!r} in the store {self.root}; `steppe status` lists the runs")

    def run_ids(self) -> list[str]:
        """List the ids of all run folders, sorted."""
        try:
            return sorted(name for name in os.listdir(self.root / "runs") if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def is_done(self, run_id: str) -> bool:
        """Return whether a record exists, without reading it: callers check thousands."""
        return os.path.exists(f"{self.root}/runs/{run_id}/result.json")

    def index(self) -> index.Records:
        """Return all records, slim, by run id; `.skipped` of the result reports damaged ones."""
        return index.load(self.root)

    def pin_entry(self, kind: str, name: str, version: str, source_hash: str) -> None:
        """Pin an entry to the source hash of its first use; SteppeError if it has changed since.

        `kind` is optimizer or task. The code may change until a run of the entry trains.
        """
        package = _PACKAGES[kind]
        path = self.root / "entries" / package / quote(f"{name}@{version}", safe="@")
        content = source_hash.encode() + b"\n"
        if not path.exists():
            make_folder(path.parent)
            fresh = path.with_name(f".{uuid.uuid4().hex}")
            write_whole(fresh, content)
            with storing(path):
                try:
                    os.link(fresh, path)
                except FileExistsError:
                    pass  # another process pinned it first
                finally:
                    fresh.unlink(missing_ok=True)
        pinned = path.read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch("[0-9a-f]{64}", pinned):
            raise SteppeError(f"{path} is corrupt: delete it to pin the {package} entry {name} anew")
        if pinned != source_hash and not self._has_trained(kind, name, version):
            write_whole(path, content)
        elif pinned != source_hash:
            raise SteppeError(
                f"{package} entry {name} changed under version {version} (pinned in this store): "
                f"raise its version, or restore the file"
            )

    def _has_trained(self, kind: str, name: str, version: str) -> bool:
        """Return whether a run of the entry is running or left any results; True if unreadable."""
        done: dict[str, EntryRef] = {record.run_id: getattr(record.spec, kind) for record in self.index()}
        if any((ref.name, ref.version) == (name, version) for ref in done.values()):
            return True
        for folder in (self.run(run_id) for run_id in self.run_ids() if run_id not in done):
            try:
                ref: EntryRef = getattr(folder.spec(), kind)
                used = (ref.name, ref.version) == (name, version)
                if used and (
                    folder.status() not in ("queued", "interrupted", "error") or folder.has_progress()
                ):
                    return True
            except SteppeError:
                return True
        return False


class RunFolder:
    """The folder of one run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self.path = store.root / "runs" / run_id

    def write_spec(self, spec: RunSpec) -> None:
        """Write spec.json atomically unless it is up to date; replace a damaged one."""
        if spec.run_id != self.run_id:
            raise SteppeError(f"run folder {self.path} cannot take the spec of run {spec.run_id}")
        text = json.dumps(spec.to_dict(), indent=1, sort_keys=True) + "\n"
        path = self.path / "spec.json"
        try:
            if path.read_bytes() == text.encode():
                return
        except OSError:
            make_folder(self.path)
        write_whole(path, text.encode(), flush=False)

    def spec(self) -> RunSpec:
        """Read spec.json; SteppeError if it is missing, damaged, or of another run."""
        path = self.path / "spec.json"
        hint = "give the same `steppe run` again, which writes it anew"
        try:
            spec = _SPECS.decode(path.read_bytes())
        except FileNotFoundError:
            raise SteppeError(f"no {path}: {hint}") from None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        except msgspec.ValidationError as error:
            raise SteppeError(f"{path} is corrupt ({error}): {hint}") from None
        except (msgspec.DecodeError, RecursionError):
            raise SteppeError(f"{path} is half-written or corrupt: {hint}") from None
        if spec.run_id != self.run_id:
            raise SteppeError(f"{path} is corrupt (it gives run id {spec.run_id}): {hint}")
        return spec

    def description(self) -> Description | None:
        """Read the task's description from the record, else from `attempt_path`; None without either."""
        record = self.record()
        if record is not None:
            return record.task
        folder = self.attempt_path()
        return None if folder is None else description_of(folder)

    def record(self) -> Record | None:
        """Read the whole record; None if the run is not done, SteppeError if it is damaged."""
        return index.read_record(self.path)

    def replace_record(self, record: Record) -> None:
        """Replace the run's record; the attempt's folder keeps the original."""
        if record.run_id != self.run_id:
            raise SteppeError(f"run {self.run_id} cannot take the record of run {record.run_id}")
        write_whole(self.path / "result.json", to_document(record))

    def amend_record(self, change: Callable[[Record], Record]) -> None:
        """Replace the record by `change(record)` under an exclusive lock; the run must be done."""
        path = self.path / ".lock"
        with locked(path, lambda _: None, ""):  # held for milliseconds: no message
            record = self.record()
            if record is None:
                raise SteppeError(
                    f"run {self.run_id} has no record any more: give the same `steppe run` again"
                )
            self.replace_record(change(record))

    def status(self) -> str:
        """Return one of `STATUSES`; after an attempt without result or error it is interrupted."""
        record = self.record()
        if record is not None:
            return "failed" if record.failed else "done"
        lease = latest_lease(self.path)
        if lease is not None and lease.alive:
            return "running"
        if self.error() is not None:
            return "error"
        return "interrupted" if attempt_numbers(self.path) else "queued"

    def error(self) -> RunError | None:
        """Read the reason why the newest attempt gave no record; None if unknown."""
        try:
            run_error = RunError(**read_json(self.path / "error.json", ""))
            current = run_error.attempt >= max(attempt_numbers(self.path), default=0)
        except (FileNotFoundError, SteppeError, TypeError):  # a damaged file counts as missing
            return None
        return run_error if current else None

    def record_error(self, outcome: str, message: str, log: str = "", job: str = "") -> None:
        """Write the reason for the missing record; SteppeError if the write fails."""
        path = self.path / "error.json"
        with storing(path):
            newest = max(attempt_numbers(self.path), default=0)
        run_error = RunError(outcome, message, log, job, time.time(), newest)
        write_whole(path, json.dumps(asdict(run_error), indent=1).encode() + b"\n")

    def start(self, restart_count: int = 0, job: str = "") -> Attempt:
        """Claim the run's next attempt.

        Args:
            restart_count: number of restarts of `job`; if higher than the owner's, this attempt takes over.
            job: the scheduler's name of the job, empty without one.

        Raises RunDone if there is a result, RunBusy if a live process works on the run, SteppeError if the
        result is damaged or the store cannot be written.

        """
        if self.record() is not None:
            raise RunDone(f"run {self.run_id} is done")
        with contextlib.ExitStack() as stack:  # an attempt left open would block the run
            attempt = stack.enter_context(Attempt(self.path, acquire(self.path, restart_count, job)))
            if self.record() is not None:  # published between the check and the claim
                raise RunDone(f"run {self.run_id} is done")
            stack.pop_all()
        return attempt

    def last_state(self) -> dict[str, Any] | None:
        """Return the state of the newest sound checkpoint without starting an attempt, or None."""
        return last_state(self.path)

    def attempt_path(self) -> Path | None:
        """Return the folder of the attempt that made the record, else of the newest with rows of metrics.

        An attempt that is still loading has no rows, so an earlier one represents the run. If no attempt has
        rows, return the newest; None before the first.
        """
        numbers = attempt_numbers(self.path)
        folders = [self.path / "attempts" / str(number) for number in reversed(numbers)]
        published = (folder for folder in folders if (folder / "result.json").exists())
        begun = (folder for folder in folders if any(read_lines(folder / "metrics.jsonl")))
        return next(chain(published, begun, folders), None)

    def has_progress(self) -> bool:
        """Return whether an attempt left a checkpoint or an epoch's metrics."""
        left = (
            path
            for name in ("checkpoint*.pt", "metrics.jsonl")
            for path in self.path.glob(f"attempts/*/{name}")
        )
        return any(path.stat().st_size for path in left)

    def metrics(self) -> list[dict[str, Any]]:
        """Read the rows of metrics.jsonl in `attempt_path`; a torn last line is skipped."""
        return self._rows("metrics.jsonl")

    def _rows(self, name: str) -> list[dict[str, Any]]:
        folder = self.attempt_path()
        return list(read_lines(folder / name)) if folder is not None else []

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of every attempt, in order, each with its attempt's number."""
        for number in attempt_numbers(self.path):
            for row in read_lines(self.path / "attempts" / str(number) / "events.jsonl"):
                yield {"attempt": number, **row}
