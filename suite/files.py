"""Files that stay whole under `kill -9`: atomic replacement, one-line errors. Appends: `suite.store.lines`.

A file is written under a temporary name in its folder, flushed to disk and renamed. If the file system
refuses (full, read-only, over quota), a `StorageError` is raised and the previous file is unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from suite.errors import SteppeError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class StorageError(SteppeError):
    """The file system refused an operation: no file is left half-written, and a retry may succeed."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """Build the one-line error for a write that the file system refused."""
    if error.errno in _NO_SPACE:
        return StorageError(
            f"no space left to write {path}: free some, then give the same command again to resume"
        )
    if error.errno in _NO_RIGHT:
        return StorageError(
            f"cannot write {path}: it is read-only; make it writable or choose another --store"
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; check the disk or choose another --store"
    )


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Convert an OSError raised in the block to a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def write_whole(path: Path, data: bytes, *, flush: bool = True, mode: int = 0o666) -> None:
    """Create or replace `path` atomically: it holds the old bytes or all of `data`, never a part.

    `flush=False` skips the flush to disk, for files that can be regenerated. `mode` holds the permission bits
    of a new file before the umask applies.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    with storing(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                _write_all(descriptor, data)
                if flush:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if flush:
            flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush a folder, so that renames and links in it survive a power cut if the file system supports it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; StorageError if the file system refuses."""
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def locked(path: Path, say: Callable[[str], None], busy: str) -> Iterator[int]:
    """Hold an exclusive lock on the file at `path`, and yield its descriptor.

    If another process holds the lock, `say` gets `busy` and the call waits. On a file system without locks
    `say` gets a warning and the block runs unprotected. The file is never deleted: otherwise two processes
    could hold locks on two files of the same name.
    """
    make_folder(path.parent)
    with contextlib.ExitStack() as stack:
        with storing(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{busy}: waiting")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                say(f"the file system of {path.parent} has no locks: let no other process write there")
        yield descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """Return the JSON object in `path`; SteppeError with the hint if it is damaged.

    Raises FileNotFoundError if the file does not exist.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise SteppeError(f"{path} is half-written or corrupt: {hint}") from None
    if not isinstance(value, dict):
        raise SteppeError(f"{path} is not a JSON object: {hint}")
    return value
