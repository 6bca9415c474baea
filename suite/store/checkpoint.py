"""Checkpoints: plain data and tensors in torch's own file format, followed by a SHA-256 of the whole.

torch checks neither the CRCs of its archive nor its length in every case, so a flipped bit would be trained
on. The digest is appended to the archive, where `torch.load` does not look: the file can be opened by anybody
without this module. Loading never unpickles anything but tensors and plain containers.
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
    """A checkpoint that is truncated, altered, or holds more than tensors and plain data."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` whole to `path`, flushed to the disk; raises SteppeError where the disk refuses."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    archive = buffer.getvalue()
    write_whole(path, archive + _MARK + hashlib.sha256(archive).hexdigest().encode())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save` wrote, onto `device`.

    Raises FileNotFoundError where there is none, CorruptCheckpointError with the reason where it is damaged.
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
