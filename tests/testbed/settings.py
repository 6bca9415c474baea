"""Settings of a testbed: sizes, times, ports and its folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import read_json, write_whole

MARKER = "testbed.json"
"""The file that marks a folder as a testbed; without it the folder is neither removed nor used."""

FIRST_PORTS = range(20_000, 32_000, 100)
"""First ports of the blocks to choose from, all below the kernel's ephemeral ports (32768 and up)."""

BOUNDS: Mapping[str, tuple[int, int]] = {
    "base_port": (1024, 65_000),
    "nodes": (1, 64),
    "cpus": (1, 1024),
    "memory": (128, 10_000_000),
    "gpus": (0, 64),
    "grace": (0, 86_400),
    "kill_wait": (1, 3600),
    "slurmd_timeout": (2, 3600),
    "max_array_size": (2, 100_001),
    "min_job_age": (2, 86_400),
}

MAX_FOLDER = 70
"""Maximum characters of the folder: a UNIX socket's 107 minus `/spool/n64/n64_1234567.4294967291`."""


@dataclass(frozen=True)
class Settings:
    """Sizes of a testbed. `memory` (MB), `cpus` and `gpus` are per node; times are in seconds."""

    base_port: int
    first_job_id: int
    accounting: bool = False
    nodes: int = 4
    cpus: int = 4
    memory: int = 8000
    gpus: int = 2
    grace: int = 0
    kill_wait: int = 5
    slurmd_timeout: int = 10
    max_array_size: int = 1001
    min_job_age: int = 300

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                option = name.replace("_", "-")
                raise SteppeError(f"--{option} {value} is outside {low}..{high}")

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes: n1, n2, ..."""
        return [f"n{i}" for i in range(1, self.nodes + 1)]

    @property
    def ports(self) -> dict[str, int]:
        """Port of each listening daemon."""
        ports = {"slurmctld": self.base_port}
        if self.accounting:
            ports["slurmdbd"] = self.base_port + 1
        return ports | {f"slurmd-{name}": self.base_port + 2 + i for i, name in enumerate(self.node_names)}


def checked_folder(folder: Path) -> Path:
    """Return the absolute path of the folder; SteppeError if it cannot hold a testbed."""
    folder = folder.resolve()
    text = str(folder)
    if not re.fullmatch(r"[A-Za-z0-9._/+-]+", text):
        raise SteppeError(
            f"{text!r}: SLURM wants a path of letters, digits and ._+- only; choose another --folder"
        )
    if len(text) > MAX_FOLDER:
        raise SteppeError(
            f"{text}: {len(text)} characters are too long for its UNIX sockets (at most {MAX_FOLDER}); "
            "choose another --folder"
        )
    return folder


def load(folder: Path) -> Settings | None:
    """Read the settings of the testbed in `folder`; None if there is no testbed."""
    path = folder / MARKER
    hint = "give `python -m tests.testbed down`, remove the folder and start anew"
    try:
        stored = read_json(path, hint)
    except FileNotFoundError:
        return None
    known = {field.name for field in fields(Settings)}
    try:
        return Settings(**{name: value for name, value in stored.items() if name in known})
    except TypeError:
        raise SteppeError(f"{path} is not a testbed's marker: {hint}") from None


def save(folder: Path, settings: Settings) -> None:
    """Write the marker."""
    text = json.dumps({"what": "a one-machine SLURM of Steppe", **asdict(settings)}, indent=2)
    write_whole(folder / MARKER, text.encode() + b"\n")


def refuse_strange(folder: Path) -> None:
    """Raise SteppeError if the folder contains anything but a testbed."""
    if not folder.is_dir() or (folder / MARKER).exists():
        return
    half_made = re.compile(rf"lock|\.{re.escape(MARKER)}\..*")
    if not all(half_made.fullmatch(name) for name in os.listdir(folder)):
        raise SteppeError(f"{folder} is not empty and no testbed; choose another --folder")


def settle(folder: Path, chosen: Mapping[str, Any], taken: set[int]) -> Settings:
    """Return the settings for `up`: the chosen ones, else the stored ones, else defaults; stores nothing.

    `taken` holds the ports in use. A new testbed gets the first free block after a start that its path
    determines, and random first job ids, so that no two testbeds share them.
    """
    stored = load(folder)
    if stored is not None:
        return replace(stored, **chosen)
    first = random.SystemRandom().randrange(1000, 60_000) * 100
    fresh = {"base_port": FIRST_PORTS[0], "first_job_id": first} | dict(chosen)
    if "base_port" not in chosen:
        fresh["base_port"] = _free_block(folder, Settings(**fresh), taken)
    return Settings(**fresh)


def _free_block(folder: Path, settings: Settings, taken: set[int]) -> int:
    start = int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4], "big") % len(FIRST_PORTS)
    for i in range(len(FIRST_PORTS)):
        base = FIRST_PORTS[(start + i) % len(FIRST_PORTS)]
        if not taken & set(replace(settings, base_port=base).ports.values()):
            return base
    raise SteppeError("no free block of ports between 20000 and 32000; choose one with --base-port")
