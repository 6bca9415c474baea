"""The lock of a store: who changes what of it is in the queue does so alone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from slurm.submission import FOLDER
from suite.files import make_folder, storing

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the store's lock; who waits for it sees in the queue what the one before did.

    SLURM's commands inherit it (see `client.ask`): should this process be killed, it lasts until the `sbatch`
    that goes on without it has ended, too.
    """
    path = root / FOLDER / "lock"
    make_folder(path.parent)
    with contextlib.ExitStack() as stack:
        with storing(path):
            file = stack.enter_context(path.open("w"))
            os.set_inheritable(file.fileno(), True)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("somebody else is submitting or cancelling in this store: waiting")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                say(f"the file system of {root} has no locks: do not submit from it twice at a time")
        yield


def taken(root: Path) -> bool:
    """Whether somebody holds the lock just now."""
    try:
        with (root / FOLDER / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
