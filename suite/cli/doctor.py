"""Check python, torch, device, data and checksums; print ticks, or commands that fix problems."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.data.dataset import Data
from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.store.folders import Store
from suite.terminal.output import is_utf8
from suite.track import mode

MINIMUM = {"torch": (2, 11), "torchvision": (0, 26), "timm": (1, 0)}
REINSTALL = "python3 bootstrap.py steppe doctor"


@dataclass(frozen=True)
class Finding:
    """Result of one check; `ok` is None if something optional is missing."""

    what: str
    ok: bool | None
    found: str
    hint: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_data(parser)
    options.add_store(parser)
    options.add_plugins(parser)
    parser.add_argument("--quick", action="store_true", help="check that the data exist without reading them")
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print the findings; return 1 if a required check failed, else 0."""
    findings = []
    for finding in diagnose(args):
        findings.append(finding)
        if not args.json:
            print(line(finding), flush=True)
    if args.json:
        options.print_json(list(map(asdict, findings)))
    return 1 if any(finding.ok is False for finding in findings) else 0


def line(finding: Finding) -> str:
    """Write one finding: tick, cross or dash, the facts, and the command that fixes the problem."""
    good, bad, absent = ("✓", "✗", "–") if is_utf8() else ("ok", "NO", "--")
    mark = {True: good, False: bad, None: absent}[finding.ok]
    hint = f"; hint: {finding.hint}" if finding.hint else ""
    return f"{mark} {finding.what:<17} {finding.found}{hint}"


def diagnose(args: Arguments) -> Iterator[Finding]:
    """Yield the findings one by one, those of quick checks first."""
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version(), "")
    yield from (_package(name, minimum) for name, minimum in MINIMUM.items())
    yield _guard("device", _device)
    yield _guard("store", lambda: _store(args.store))
    root = None
    try:
        root = args.data_root
        if root:
            yield Finding("data folder", True, str(root))
        else:
            hint = "export STEPPE_DATA=DIR, then `steppe prepare TASK`"
            yield Finding("data folder", None, "not set: only built-in data are available", hint)
    except SteppeError as error:
        yield Finding("data folder", False, str(error))
    for dataset, task in _datasets(args.registry):
        yield _guard(f"data {dataset.name}", partial(_data, dataset, task, root, quick=args.quick))
    sbatch = shutil.which("sbatch")
    yield Finding("slurm", True if sbatch else None, sbatch or "no sbatch on the PATH: only local runs")
    yield _guard("wandb", _wandb)


def _guard(what: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; return an error that it raises as a finding."""
    try:
        return check()
    except SteppeError as error:
        return Finding(what, False, str(error))
    except (OSError, ImportError) as error:
        return Finding(what, False, f"{type(error).__name__}: {error}", REINSTALL)


def _package(name: str, minimum: tuple[int, int]) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", REINSTALL)
    numbers = tuple(int(piece) for piece in found.split("+")[0].split(".")[:2])
    wanted = ".".join(map(str, minimum))
    if numbers < minimum:
        return Finding(name, False, f"{found}, {wanted} or newer is needed", REINSTALL)
    return Finding(name, True, found)


def _device() -> Finding:
    import torch

    n_cores = len(os.sched_getaffinity(0))
    if not torch.cuda.is_available():
        return Finding("device", True, f"cpu, {n_cores} cores; torch sees no GPU")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("device", True, f"cuda: {names}; {n_cores} CPU cores")


def _store(store: Store) -> Finding:
    folder = store.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        hint = f"chmod u+w {folder}, or --store DIR"
        return Finding("store", False, f"{store.root} is not writable", hint)
    free_gb = shutil.disk_usage(folder).free / 1e9
    records = store.index()
    if records.skipped:
        damaged = f"{store.root}: {len(records.skipped)} damaged records"
        return Finding("store", False, damaged, "steppe status")
    return Finding("store", True, f"{store.root}: {len(records)} records, {free_gb:.0f} GB free")


def _wandb() -> Finding:
    """Find out where runs are mirrored. wandb is not imported, so a broken installation goes unnoticed."""
    try:
        found = version("wandb")
    except PackageNotFoundError:
        found = ""
    if not found or find_spec("wandb") is None:
        return Finding("wandb", None, "not installed: runs stay in the local store", REINSTALL)
    target = mode.choose(None)
    if target is None:
        return Finding("wandb", None, f"{found}, switched off by WANDB_MODE or WANDB_DISABLED")
    if target.mode == "online":
        return Finding("wandb", True, f"{found}, a key for {target.server}: runs are mirrored there")
    if mode.has_key(target.server):
        return Finding("wandb", True, f"{found}, offline files by WANDB_MODE, a key for {target.server}")
    hint = mode.login(target.server).strip("`")
    return Finding("wandb", None, f"{found}, no key for {target.server}: offline files only", hint)


def _datasets(registry: Registry) -> Iterator[tuple[Data, str]]:
    """Yield every data set once, with the first task that uses it."""
    seen = set()
    for name in sorted(registry.tasks):
        reference = registry.reference("task", name, {})
        for dataset in registry.resolve_task(reference).data:
            if dataset.name not in seen:
                seen.add(dataset.name)
                yield dataset, name


def _data(dataset: Data, task: str, root: Path | None, *, quick: bool) -> Finding:
    what = f"data {dataset.name}"
    if not dataset.source.available(root):
        hint = f"steppe prepare {task} --data-set {dataset.name}"
        return Finding(what, None, "missing; only its tasks need it", hint)
    if quick:
        return Finding(what, True, "found (not read)")
    dataset.source.verify(root)
    return Finding(what, True, f"found, checksums agree ({dataset.source.checksum[:12]})")
