"""One attempt at a run: a folder with a heartbeat, fenced once a newer attempt exists.

    attempts/N/  provenance.json  metrics.jsonl  timings.jsonl  events.jsonl
                 checkpoint.pt  checkpoint.prev.pt  heartbeat  result.json

An attempt writes only to its own folder and publishes its result by an atomic link. The newest attempt owns
the run: an older one checks this before it saves or publishes, and stops.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from suite.errors import SteppeError
from suite.files import flush_folder, storing, write_whole
from suite.metric import Description
from suite.records.schema import Record, read, to_document
from suite.store import index
from suite.store.heartbeat import Heartbeat
from suite.store.lease import RunFenced, attempt_numbers
from suite.store.lines import LineWriter, finite, read_lines, to_line

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.prev.pt"


class Attempt:
    """Ownership of a run until a newer attempt takes over; use it as a context manager or `close` it.

    metrics.jsonl is equal in identical runs; times, events and hardware differ and go to other files.
    """

    def __init__(self, run: Path, number: int) -> None:
        """Open attempts/`number`, which this process has claimed."""
        self.run_id = run.name
        self.number = number
        self.path = run / "attempts" / str(number)
        self._run = run
        self._newest: Path | None = None  # newest checkpoint that this process wrote or loaded
        try:
            self._metrics = LineWriter(self.path / "metrics.jsonl")
            self._timings = LineWriter(self.path / "timings.jsonl")
        except SteppeError:
            # A heartbeat file without a live attempt would block the run.
            with contextlib.suppress(OSError):
                (self.path / "heartbeat").unlink(missing_ok=True)
            raise
        self._heartbeat = Heartbeat(self.path / "heartbeat")

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def provenance(self, content: Mapping[str, Any]) -> None:
        """Write provenance.json: the hardware, software and task of this attempt."""
        write_whole(self.path / "provenance.json", _document(content))

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row of deterministic metrics: identical runs give identical bytes."""
        self._metrics.append(row)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl, including those restored by `resume`."""
        return list(read_lines(self.path / "metrics.jsonl"))

    def timing(self, row: Mapping[str, Any]) -> None:
        """Append a row of measured times."""
        self._timings.append(row)

    def event(self, kind: str, **data: Any) -> None:
        """Append an event with the current time; a failed write is ignored."""
        with contextlib.suppress(OSError), (self.path / "events.jsonl").open("ab", buffering=0) as file:
            file.write(to_line({"time": time.time(), "event": kind, **data}))

    def fenced(self) -> bool:
        """Return whether a newer attempt owns the run or the run's folder was deleted."""
        with storing(self._run / "attempts"):
            numbers = attempt_numbers(self._run)
        return not numbers or numbers[-1] != self.number

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Save tensors and plain data, atomically and flushed to disk; keep the previous checkpoint.

        Checkpoints of older attempts are deleted once this one has two: resuming never needs more.
        Raises RunFenced if a newer attempt owns the run, SteppeError if the write fails.
        """
        from suite.store import checkpoint  # loads torch; planning and listing do not need it

        self._check_ownership()
        offset, digest = self._metrics.mark()
        fresh, last, previous = (self.path / name for name in (f".{CHECKPOINT}", CHECKPOINT, PREVIOUS))
        whole = {"run_id": self.run_id, "metrics_offset": offset, "metrics_sha256": digest, "state": state}
        checkpoint.save(fresh, whole)
        with storing(last):
            is_second = last.exists() and not previous.exists()
            if last.exists():
                os.replace(last, previous)
            os.replace(fresh, last)
            flush_folder(self.path)
        self._newest = last
        if is_second:
            self._keep_only(last, previous)

    def _check_ownership(self) -> None:
        if self.fenced():
            raise RunFenced(
                f"run {self.run_id} was taken over from attempt {self.number} by a newer one: this copy stops"
            )

    def resume(self) -> dict[str, Any] | None:
        """Return the state of the run's newest sound checkpoint; None if the run has none.

        Restores metrics.jsonl as of that checkpoint. A damaged checkpoint is reported on stderr and in
        events.jsonl, and the previous one is used.
        """
        with storing(self._run / "attempts"):
            found = next(_sound_checkpoints(self._run, self._damaged), None)
        if found is None:
            return None
        self._newest, state, head = found
        self._metrics.close()
        self._metrics = LineWriter(self.path / "metrics.jsonl", head)
        self.event("resume", checkpoint=str(self._newest.relative_to(self._run)))
        return state

    def _damaged(self, path: Path, reason: str) -> None:
        self.event("damaged checkpoint", checkpoint=str(path.relative_to(self._run)), reason=reason)
        print(
            f"steppe: {path} is damaged ({reason}): going back to the one before it, else to the start",
            file=sys.stderr,
        )

    def publish(self, record: Record) -> bool:
        """Publish the run's record; return False if another attempt has published one.

        The record is written to the attempt's folder and then linked, so an existing result.json is complete.
        Raises RunFenced if a newer attempt owns the run and has no record yet, SteppeError if the record
        does not read back: the run can be finished once the entry is corrected.
        """
        if record.run_id != self.run_id:
            raise SteppeError(f"run {self.run_id} cannot take the record of run {record.run_id}")
        document = _readable(record)
        mine, public = self.path / "result.json", self._run / "result.json"
        with storing(public):
            if public.exists():
                return False
        self._check_ownership()
        write_whole(mine, document)
        with storing(public):
            try:
                os.link(mine, public)
            except FileExistsError:
                if not public.samefile(mine):  # same file: our link succeeded, a network lost the reply
                    mine.unlink()
                    return False
            flush_folder(self._run)
        self.event("end", status=record.status)
        index.append(self._run.parent.parent, self.run_id)
        if self._newest is not None:
            self._keep_only(self._newest)
        return True

    def _keep_only(self, *kept: Path) -> None:
        """Delete all other checkpoints of this attempt and older ones, and temporary files of killed writes.

        Files of a newer attempt, which may have just taken over, are kept. A failed deletion is ignored:
        the file only takes up space.
        """
        with contextlib.suppress(OSError):
            for number in attempt_numbers(self._run):
                folder = self._run / "attempts" / str(number)
                if number > self.number:
                    break
                # hidden files: temporary files of killed writes
                for path in {*folder.glob(".*"), folder / CHECKPOINT, folder / PREVIOUS}.difference(kept):
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the run for the next attempt; closing twice is harmless."""
        self._heartbeat.stop()
        self._metrics.close()
        self._timings.close()


def _readable(record: Record) -> bytes:
    """Encode a record as JSON that reads back; SteppeError names the invalid field and the entries."""
    spec = record.spec
    where = f"the record of run {record.run_id}"
    hint = f"correct task {spec.task.name} or optimizer {spec.optimizer.name}, which gave it"
    try:
        document = to_document(record)
    except (TypeError, ValueError, OverflowError) as error:
        raise SteppeError(f"{where}: {_unwritable(record)} cannot be written ({error}): {hint}") from None
    read(document, where, hint, record.run_id)
    return document


def _unwritable(record: Record) -> str:
    """Return the name of the first field that JSON cannot encode."""
    for name in record.__struct_fields__:
        try:
            msgspec.json.encode(getattr(record, name))
        except (TypeError, ValueError, OverflowError):
            return name
    return "it"


class _Provenance(msgspec.Struct):
    """The part of provenance.json that is read back."""

    task: Description


_PROVENANCE = msgspec.json.Decoder(_Provenance)


def description_of(folder: Path) -> Description | None:
    """Read the task's description from provenance.json; None if it is missing or damaged."""
    try:
        return _PROVENANCE.decode((folder / "provenance.json").read_bytes()).task
    except (OSError, msgspec.MsgspecError):
        return None


def last_state(run: Path) -> dict[str, Any] | None:
    """Return the state of a run's newest sound checkpoint without starting an attempt, or None."""
    return next((state for _, state, _ in _sound_checkpoints(run, lambda _path, _reason: None)), None)


def _sound_checkpoints(
    run: Path, damaged: Callable[[Path, str], None]
) -> Iterator[tuple[Path, dict[str, Any], bytes]]:
    """Yield sound checkpoints, newest first: path, state, and the bytes of metrics.jsonl at that time."""
    from suite.store import checkpoint  # loads torch; planning and listing do not need it

    for number in reversed(attempt_numbers(run)):
        folder = run / "attempts" / str(number)
        for name in (CHECKPOINT, PREVIOUS):
            try:
                whole = checkpoint.load(folder / name)
                if whole.get("run_id") != run.name:
                    raise checkpoint.CorruptCheckpointError("it belongs to another run")
                head = _metrics_head(folder, whole["metrics_offset"], whole["metrics_sha256"])
                if head is None:
                    raise checkpoint.CorruptCheckpointError("metrics.jsonl does not agree with it")
            except FileNotFoundError:
                continue
            except checkpoint.CorruptCheckpointError as error:
                damaged(folder / name, str(error))
                continue
            yield folder / name, whole["state"], head


def _metrics_head(folder: Path, size: int, digest: str) -> bytes | None:
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            head = file.read(size)
    except OSError:
        return None
    return head if hashlib.sha256(head).hexdigest() == digest else None


def _document(content: Mapping[str, Any]) -> bytes:
    return json.dumps(finite(content), indent=1, allow_nan=False).encode() + b"\n"
