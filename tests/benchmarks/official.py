"""The official implementations, read from the folder that STEPPE_OFFICIAL names; none is kept here.

The folder holds clones named sam, LPF-SGD, Noise-stability-optimization and Adabelief-Optimizer.
Each function returns what takes one optimizer step, in the order of calls of the official training
loop, given `deliver(evaluation)`, which stands for a backward pass.
"""

import ast
import contextlib
import importlib.util
import io
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Deliver = Callable[[int], None]
Step = Callable[[], None]


def path(relative: str) -> Path:
    """The file of an official repository; skips the row by name where it is not at hand."""
    root = os.environ.get("STEPPE_OFFICIAL", "")
    file = Path(root) / relative
    if not root or not file.is_file():
        pytest.skip(f"no official implementation: STEPPE_OFFICIAL names no folder with {relative}")
    return file


def load(relative: str) -> Any:
    file = path(relative)
    spec = importlib.util.spec_from_file_location(f"official_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tabulate", "colorama"):  # AdaBelief's, for a banner that we switch off
            banner = types.ModuleType(name)
            vars(banner).update(dict.fromkeys(("tabulate", "Fore", "Back", "Style")))
            patch.setitem(sys.modules, name, banner)
        spec.loader.exec_module(module)
    return module


def sam(params: list[nn.Parameter], deliver: Deliver, base: dict[str, Any]) -> Step:
    optimizer = load("sam/sam.py").SAM(params, torch.optim.SGD, rho=0.05, **base)

    def step() -> None:
        deliver(0)
        optimizer.first_step(zero_grad=True)
        deliver(1)
        optimizer.second_step(zero_grad=True)

    return step


def nso(params: list[nn.Parameter], deliver: Deliver, base: dict[str, Any]) -> Step:
    file = "Noise-stability-optimization/exps_on_image_datasets/utils/nsm.py"
    optimizer = load(file).NSM(params, torch.optim.SGD, sigma=0.01, **base)

    def step() -> None:  # NSMTrainer._train_epoch with num_perturbs 1, use_neg, nsm_lam 0
        deliver(0)
        optimizer.store_gradients(zero_grad=True, store_weights=True, update_weight=0)
        optimizer.first_step(zero_grad=True, store_perturb=True)
        deliver(1)
        optimizer.store_gradients(zero_grad=True, store_weights=False, update_weight=0.5)
        optimizer.first_step(zero_grad=True, store_perturb=False)
        deliver(2)
        optimizer.store_gradients(zero_grad=True, store_weights=False, update_weight=0.5)
        optimizer.second_step(zero_grad=True)

    return step


def adabelief(params: list[nn.Parameter], deliver: Deliver, hyper: dict[str, Any]) -> Step:
    file = "Adabelief-Optimizer/pypi_packages/adabelief_pytorch0.2.1/adabelief_pytorch/AdaBelief.py"
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = load(file).AdaBelief(params, print_change_log=False, **hyper)

    def step() -> None:
        optimizer.zero_grad()
        deliver(0)
        optimizer.step()

    return step


def lpf_sgd(params: list[nn.Parameter], deliver: Deliver, base: dict[str, Any], parts: int) -> Step:
    """Run the training loop of `lpf_train.py` itself over one batch of M parts; its model only delivers."""
    tree = ast.parse(path("LPF-SGD/codes/wrn_dataaug/example/lpf_train.py").read_text())
    loops = [
        n for n in ast.walk(tree) if isinstance(n, ast.For) and ast.unparse(n.target) == "(batch_idx, batch)"
    ]
    code = compile(ast.Module(body=[loops[0]], type_ignores=[]), "lpf_train.py", "exec")

    def model(batch: Index) -> Index:
        return batch

    model.parameters = lambda: params  # type: ignore[attr-defined]
    ignored = types.SimpleNamespace(update=lambda *_: None, step=lambda *_: None)
    scope: dict[str, Any] = {
        "torch": torch,
        "np": np,
        "dataset": types.SimpleNamespace(
            train=[(Index(j, deliver), Index(j, deliver)) for j in range(parts)]
        ),
        "device": torch.device("cpu"),
        "model": model,
        "std": 0.002,
        "criterion": lambda predictions, targets: predictions,
        "args": types.SimpleNamespace(M=parts),
        "loss": ignored,
        "err1": ignored,
        "accuracy": lambda *_, **__: [0.0],
        "current_step": 0,
        "optimizer": torch.optim.SGD(params, **base),
        "std_scheduler": lambda step: 0.002,
        "scheduler": ignored,
        "epoch": 0,
    }
    return lambda: exec(code, scope)


@dataclass
class Index:
    """A batch, its predictions and its loss, all of which are only the number of the part."""

    part: int
    deliver: Deliver
    shape: tuple[int, ...] = (1,)

    def to(self, device: torch.device) -> "Index":
        return self

    def __truediv__(self, parts: int) -> "Index":
        return self

    def backward(self) -> None:
        self.deliver(self.part)
