"""The parsed options of a command and the objects built from them."""

from __future__ import annotations

import argparse
import glob
import os
import shlex
import shutil
from functools import cached_property
from pathlib import Path

from suite.entries.cached_registry import CachedRegistry
from suite.entries.registry import Registry
from suite.entries.select import parse_seeds
from suite.entries.selection import Selection
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import STORE, Store

GPU_TRACES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/dxg", "/dev/kfd", "/proc/driver/nvidia")
"""Files of GPU drivers on Linux, Jetson, WSL and ROCm."""


class Arguments(argparse.Namespace):
    """Namespace of the parsed options, with cached properties for the objects built from them."""

    @cached_property
    def store(self) -> Store:
        """The store of --store, STEPPE_STORE, or ./runs."""
        return Store(self.store_folder or Path(os.environ.get("STEPPE_STORE") or STORE))

    @cached_property
    def registry(self) -> Registry:
        """All entries, those of --plugin included."""
        return Registry(self.plugin)

    @cached_property
    def cached_registry(self) -> Registry:
        """The registry for commands that do not train: avoids loading torch if possible."""
        return CachedRegistry(self.plugin)

    @cached_property
    def data_root(self) -> Path | None:
        """The folder of the data sets: --data, STEPPE_DATA, or None. SteppeError if it does not exist."""
        text = self.data or os.environ.get("STEPPE_DATA") or None
        if text is None:
            return None
        root = Path(text)
        if not root.is_dir():
            named_by = "--data" if self.data else "STEPPE_DATA"
            raise SteppeError(
                f"no folder {root}, which {named_by} names; create it, then `steppe prepare TASK`"
            )
        return root

    @cached_property
    def selection(self) -> Selection:
        """The runs selected by the options of `options.add_selectors`."""
        return Selection(
            self.task,
            self.optimizer,
            parse_seeds(self.seeds),
            budget=self.budget,
            view=self.view,
            precision=self.precision,
            device=device(self.device),
            threads=self.threads,
            compile=self.compile,
            ranks=self.ranks,
            data_root=self.data_root,
            data_name=self.data_set,
        )

    def n_workers(self, spec: RunSpec) -> int:
        """Return --workers, else the number of runs that fit: a core per thread, or a GPU per process."""
        if self.workers:
            return int(self.workers)
        if spec.device == "cuda":
            from suite.workers.process import visible_gpus

            return max(1, len(visible_gpus()) // spec.ranks)
        return max(1, len(os.sched_getaffinity(0)) // (spec.threads * spec.ranks))

    def command(self, *words: str) -> str:
        """Return a `steppe` command for a message, with --store if it was given."""
        return shlex.join(["steppe", *words, *self.store_option])

    @property
    def store_option(self) -> list[str]:
        """The option --store if it was given, else nothing."""
        return ["--store", str(self.store_folder)] if self.store_folder else []

    def run_options(self) -> list[str]:
        """Return the options of a command that selects runs as arguments, without defaults."""
        out = [piece for task in self.task for piece in ("-t", task)]
        out += [piece for optimizer in self.optimizer for piece in ("-o", optimizer)]
        out += ["-s", self.seeds]
        defaults = {
            "budget": 1.0,
            "view": "epochs",
            "precision": "",
            "device": "auto",
            "threads": 1,
            "ranks": 1,
            "data": None,
            "data_set": "",
        }
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default:
                out += [f"--{name.replace('_', '-')}", str(value)]
        out += self.store_option
        out += ["--workers", str(self.workers)] if self.workers is not None else []
        out += ["--compile"] if self.compile else []
        out += ["--records", *map(str, self.records)] if self.records else []
        return out + [piece for plugin in self.plugin for piece in ("--plugin", str(plugin))]


def device(chosen: str) -> str:
    """Return the device type of the runs; `auto` imports torch only if a GPU driver may be installed."""
    if chosen != "auto":
        return chosen
    if not _gpu_possible():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpu_possible() -> bool:
    """Whether a GPU driver may be installed and CUDA_VISIBLE_DEVICES shows a GPU; else torch sees none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    files = (path for pattern in GPU_TRACES for path in glob.iglob(pattern))
    return any(files) or shutil.which("nvidia-smi") is not None
