"""What a cluster is to be asked for, in a TOML file of few lines: `steppe submit --profile NAME`.

A profile is looked for in the folder that STEPPE_PROFILES names, then in slurm/profiles/, where there is one
for each common set-up; a path names a file directly. Its keys are the fields of `Profile`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from suite.errors import SteppeError, unknown

FOLDER = Path(__file__).parent / "profiles"
VARIABLE = "STEPPE_PROFILES"

RESERVED = frozenset((
    "array", "job-name", "output", "error", "open-mode", "signal", "dependency", "requeue", "no-requeue",
    "ntasks", "export", "wrap", "parsable", "test-only", "wait",
    "quiet", "clusters", "cluster-constraint", "chdir",
))  # fmt: skip
"""Options of sbatch on which dispatch itself depends."""

_KEYS_OF = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint",
    "nodes": "nodes", "ntasks-per-node": "processes", "gres": "gpus", "gpus": "gpus", "gpus-per-node": "gpus",
    "cpus-per-task": "cpus", "mem": "memory", "time": "time_min",
}  # fmt: skip
"""Options of sbatch that have a key of their own."""


@dataclass(frozen=True)
class Profile:
    """What an array task asks for, and how runs are put into tasks."""

    name: str
    partition: str = ""
    """Empty is the cluster's default; several, separated by commas: whichever is free first."""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    """Features that a node must have, as `sbatch --constraint` takes them."""
    nodes: int = 1
    """Nodes of a task."""
    processes: int = 1
    """Of a task on each of its nodes. Where there are several in all, they share every run: its ranks."""
    gpus: int = 0
    """Of a task on each of its nodes."""
    gpu_type: str = ""
    """As `sinfo -o %G` lists it; empty is any."""
    cpus: int = 1
    """Of each process."""
    memory: str = ""
    """Of a task on each of its nodes, with its unit: 500M, 16G; empty is the partition's default."""
    time_min: int = 60
    """Time limit of a task. A run may take longer: it saves, and its task is requeued."""
    max_running: int = 0
    """Tasks of one submission that run at a time; 0 is as many as there is room for."""
    workers: int = 0
    """Runs side by side in a task; 0 is one a GPU, or one."""
    pack_min: float = 15.0
    """Short runs share a task until it is expected to take so many minutes."""
    pack: int = 0
    """Runs a task at most, whatever they take; 0 is by expected time."""
    signal_s: int = 120
    """Seconds before the time limit at which runs are told to save."""
    setup: tuple[str, ...] = ()
    """Shell lines that run on the node first, such as `module load cuda`."""
    python: str = ""
    """Command that starts Python on the node; empty is the one that submits."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further options of sbatch; an empty text is an option without a value."""

    def __post_init__(self) -> None:
        for key, (low, high) in _BOUNDS.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise SteppeError(f"profile {self.name}: {key} = {value} is outside {low}..{high}")
        if self.memory and not re.fullmatch(r"\d+[KMGT]?", self.memory):
            raise SteppeError(
                f"profile {self.name}: memory = {self.memory!r} is no amount; write 500M or 16G"
            )
        if self.gpu_type and not self.gpus:
            raise SteppeError(f"profile {self.name}: gpu_type = {self.gpu_type!r} without gpus; add gpus = 1")
        self._check_ranks()
        if self.signal_s >= 60 * self.time_min:
            raise SteppeError(
                f"profile {self.name}: signal_s = {self.signal_s} is not within time_min = {self.time_min}; "
                f"valid: below {60 * self.time_min}"
            )
        for key in self.extra:
            _check_extra(self.name, key)
        words = (self.partition, self.account, self.qos, self.constraint, self.gpu_type, self.python)
        for text in (*words, *self.setup, *self.extra.values()):
            if "\n" in text:
                raise SteppeError(
                    f"profile {self.name}: {text!r} has a line break in it; write it in one line"
                )

    def _check_ranks(self) -> None:
        if self.ranks == 1:
            return
        if self.gpus not in (0, self.processes):
            raise SteppeError(
                f"profile {self.name}: gpus = {self.gpus} for {self.processes} processes a node; each takes "
                f"one: valid: 0, {self.processes}"
            )
        if self.workers > 1:
            raise SteppeError(
                f"profile {self.name}: workers = {self.workers}, but the {self.ranks} processes of a task "
                f"share one run at a time; valid: 0, 1"
            )

    @property
    def ranks(self) -> int:
        """Processes that share a run."""
        return self.nodes * self.processes

    @property
    def device(self) -> str:
        """Device kind of its runs."""
        return "cuda" if self.gpus else "cpu"

    @property
    def side_by_side(self) -> int:
        """Runs at a time in a task."""
        return 1 if self.ranks > 1 else self.workers or max(1, self.gpus)

    @property
    def usable_s(self) -> float:
        """Seconds of a task before it is told to save."""
        return 60.0 * self.time_min - self.signal_s

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `from_dict` reads them."""
        return {**asdict(self), "setup": list(self.setup), "extra": dict(self.extra)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "") -> Profile:
        """Read a profile; SteppeError names the key that is wrong. `where` names the profile for that."""
        name = str(raw.get("name", where))
        known = {each.name: str(each.type) for each in fields(cls)}
        checked: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in known:
                raise unknown(f"key in profile {where or name}", key, known.keys() - {"name"})
            checked[key] = _typed(value, known[key], f"profile {where or name}: {key}")
        return cls(**{**checked, "name": name})


_BOUNDS: Mapping[str, tuple[int, int]] = {
    "nodes": (1, 10_000),
    "processes": (1, 1024),
    "gpus": (0, 1024),
    "cpus": (1, 100_000),
    "time_min": (1, 10_000_000),
    "max_running": (0, 1_000_000),
    "workers": (0, 1024),
    "pack_min": (0, 1_000_000),
    "pack": (0, 1_000_000),
    "signal_s": (1, 65_535),
}


def _check_extra(profile: str, key: str) -> None:
    if not re.fullmatch("[a-z][a-z0-9-]*", key):
        raise SteppeError(
            f"profile {profile}: extra.{key} is no long option of sbatch; write nice, not --nice"
        )
    if key in RESERVED:
        raise SteppeError(f"profile {profile}: extra.{key} is set by dispatch itself; remove it")
    if key in _KEYS_OF:
        raise SteppeError(f"profile {profile}: extra.{key} has a key of its own; use {_KEYS_OF[key]}")


def _typed(value: object, kind: str, where: str) -> object:
    """Check a value of a TOML file against a field's annotation."""
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "str" and isinstance(value, str):
        return value
    texts = isinstance(value, list | tuple) and all(isinstance(line, str) for line in value)
    if kind.startswith("tuple") and isinstance(value, list | tuple) and texts:
        return tuple(value)
    if kind.startswith("Mapping") and isinstance(value, Mapping):
        return {str(key): _option(inner, f"{where}.{key}") for key, inner in value.items()}
    raise SteppeError(f"{where} = {value!r} is not {_KINDS[kind.partition('[')[0]]}")


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "tuple": "a list of texts",
    "Mapping": "a table of options",
}


def _option(value: object, where: str) -> str:
    if value is True:
        return ""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise SteppeError(f"{where} = {value!r} is not a text, a number or true")


def names() -> dict[str, Path]:
    """Every profile by name, with its file; one in STEPPE_PROFILES hides a built-in one of its name."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    own = os.environ.get(VARIABLE)
    if own:
        if not Path(own).is_dir():
            raise SteppeError(f"no folder {own}, which {VARIABLE} names; create it, or unset the variable")
        found |= {path.stem: path for path in sorted(Path(own).glob("*.toml"))}
    return found


def load(name: str) -> Profile:
    """Read the profile of that name, or in the file of that path."""
    path = Path(os.path.expanduser(name))  # Path's own raises where ~somebody is nobody here
    if path.suffix != ".toml" and os.sep not in name:
        known = names()
        if name not in known:
            mend = f"or the path of a TOML file; your own belong into ${VARIABLE}/NAME.toml"
            raise unknown("profile", name, known, mend)
        path = known[name]
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SteppeError(f"no profile {path}; there are: {', '.join(sorted(names()))}") from None
    except OSError as error:
        raise SteppeError(f"cannot read profile {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SteppeError(f"profile {path} is not TOML: {error}") from None
    if "name" in raw:
        raise SteppeError(f"profile {path}: its name is that of its file; remove the key name")
    return Profile.from_dict({**raw, "name": path.stem}, str(path))
