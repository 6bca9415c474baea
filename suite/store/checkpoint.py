"""Checkpoints: plain data and tensors in torch's file format, followed by the SHA-256 of the archive.

torch does not always check the CRCs and the length of its archive, so training could resume from corrupt
weights. `torch.load` ignores the digest after the archive, so it can load the file without this module.
Loading unpickles only tensors and plain containers.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from suite.files import write_whole

_MARK = b"\nsteppe-sha256:"
_TAIL = len(_MARK) + 64


class CorruptCheckpointError(Exception):
    """The checkpoint is truncated, altered or unreadable, or holds objects of other types."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`, atomically and flushed to disk; SteppeError if the write fails."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    archive = buffer.getvalue()
    write_whole(path, archive + _MARK + hashlib.sha256(archive).hexdigest().encode())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint written by `save` onto `device`.

    Raises FileNotFoundError if it does not exist, CorruptCheckpointError with the reason if it is damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptCheckpointError(f"it cannot be read: {error.strerror or error}") from error
    archive, tail = raw[:-_TAIL], raw[-_TAIL:]
    if not tail.startswith(_MARK):
        raise CorruptCheckpointError("it is truncated")
    if tail[len(_MARK) :] != hashlib.sha256(archive).hexdigest().encode():
        raise CorruptCheckpointError("its SHA-256 does not agree")
    try:
        state = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CorruptCheckpointError(f"torch cannot load it: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise CorruptCheckpointError("it does not hold a dictionary")
    return state
