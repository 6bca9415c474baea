"""The lock of a store: one process at a time changes what of it is in the queue."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from slurm.submission import FOLDER
from suite.files import locked


@contextlib.contextmanager
def exclusive(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the store's lock; who waits for it sees in the queue what the one before did.

    SLURM's commands inherit it (see `client.ask`): should this process be killed, it lasts until the `sbatch`
    that goes on without it has ended, too.
    """
    busy = "somebody else is submitting or cancelling in this store"
    with locked(root / FOLDER / "lock", say, busy) as descriptor:
        os.set_inheritable(descriptor, True)
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
