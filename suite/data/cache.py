"""Cache of decoded images as .npy files, so that tens of thousands of JPEGs are decoded once, not every run.

A data set's folder is written under a temporary name and renamed: it is complete or absent, even after a kill
or if two processes build it at once. Its files are verified against the SHA-256 stored with them once per
process; a folder that fails is rebuilt. Reads are memory-mapped and never unpickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite.data.source import Arrays, Images
from suite.errors import SteppeError
from suite.files import file_digest
from suite.spec import sha256_text

SUMS = "sha256.json"
_STALE_S = 3600.0

_verified: set[tuple[str, int, int]] = set()


def load_cached(dataset: Images, part: str, root: Path | None, cache: Path | None) -> tuple[Tensor, Tensor]:
    """Return images uint8 (N, C, H, W) and labels (N,) of `part`, train or test, decoded or from the cache.

    The images may be a private memory map of the cache: read them, and copy those that you store.
    """
    if cache is None:
        return _part(_load(dataset, root), part)
    folder = cache / _key(dataset)
    read = _read(folder, part)
    if read is not None:
        return read
    arrays = _load(dataset, root)
    try:
        _write(folder, arrays)
    except OSError as error:  # a full or read-only disk costs time, not the run
        warnings.warn(f"decoded images cannot be kept in {folder}: {error}", stacklevel=2)
    return _part(arrays, part)


def _key(dataset: Images) -> str:
    identity = f"{dataset.source.checksum} {dataset.shape}"
    return f"{dataset.name}-{sha256_text(identity)[:16]}"


def _load(dataset: Images, root: Path | None) -> Arrays:
    arrays = dataset.source.load(root)
    for images, labels in (_part(arrays, "train"), _part(arrays, "test")):
        if images.dtype != torch.uint8 or tuple(images.shape) != (len(labels), *dataset.shape):
            found = f"{images.dtype} {tuple(images.shape[1:])} for {len(labels)} labels"
            raise SteppeError(
                f"data set {dataset.name}: images are {found}, declared is torch.uint8 {dataset.shape}"
            )
    return arrays


def _part(arrays: Arrays, part: str) -> tuple[Tensor, Tensor]:
    return (arrays.train_x, arrays.train_y) if part == "train" else (arrays.test_x, arrays.test_y)


def _read(folder: Path, part: str) -> tuple[Tensor, Tensor] | None:
    """Read the tensors of one part; None if the folder is missing or fails its checksums."""
    try:
        sums: dict[str, str] = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        tensors = []
        for letter in "xy":
            path = folder / f"{part}_{letter}.npy"
            _verify(path, sums[path.name])
            # Copy-on-write: torch requires a writable buffer, and the file must not change.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            tensors.append(torch.from_numpy(array))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tensors[0], tensors[1]


def _verify(path: Path, expected: str) -> None:
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    if key in _verified:
        return
    if file_digest(path) != expected:
        raise ValueError(f"{path} does not match its checksum")
    _verified.add(key)


def _write(folder: Path, arrays: Arrays) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        sums = {}
        for name in ("train_x", "train_y", "test_x", "test_y"):
            path = building / f"{name}.npy"
            with path.open("wb") as file:
                np.save(file, getattr(arrays, name).numpy(), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            sums[path.name] = file_digest(path)
        (building / SUMS).write_text(json.dumps(sums), encoding="utf-8")
        building.chmod(0o755)  # mkdtemp permits its owner only, but other users may share the store
        _replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace(building: Path, folder: Path) -> None:
    """Rename a finished folder to its final name, unless another process was faster."""
    if folder.exists():
        if _read(folder, "train") is not None and _read(folder, "test") is not None:
            return
        with contextlib.suppress(FileNotFoundError):  # two processes may clear it at once
            folder.rename(building.with_name(building.name + "-bad"))
        shutil.rmtree(building.with_name(building.name + "-bad"), ignore_errors=True)
    try:
        building.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process just finished the same work
            raise


def _sweep(folder: Path) -> None:
    """Remove the temporary folders of processes killed while building this folder."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)
