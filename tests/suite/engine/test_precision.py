"""The numerical settings of a run, and what a cast to low precision leaves of a weight perturbation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from suite.code_hash import ROOT
from suite.engine.precision import PerturbationProbe, low_precision_cast
from suite.objective import as_objective
from tests.suite.fake_records import make_spec

HOST = (
    "torch.set_flush_denormal(True)",
    "torch.set_num_threads(2)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_device('meta')",
    "torch.set_grad_enabled(False)",
    "torch.use_deterministic_algorithms(False)",
    "torch.use_deterministic_algorithms(True, warn_only=True)",
    "torch.utils.deterministic.fill_uninitialized_memory = True",
    "torch.set_float32_matmul_precision('medium')",
    "backends.fp32_precision = 'tf32'",
    "backends.mkldnn.fp32_precision = 'bf16'",
    "backends.mkldnn.enabled = False",
    "backends.mkldnn.deterministic = True",
    "backends.mkldnn.conv.fp32_precision = 'bf16'",
    "backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "backends.cudnn.enabled = False",
    "backends.cudnn.benchmark = True",
    "backends.cudnn.deterministic = True",
    "backends.cudnn.allow_tf32 = True",
    "backends.cudnn.conv.fp32_precision = 'tf32'",
    "backends.cuda.matmul.allow_tf32 = True",
    "backends.cuda.matmul.fp32_precision = 'tf32'",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False",
    "backends.cuda.matmul.allow_fp16_accumulation = True",
    "backends.cuda.enable_flash_sdp(False)",
    "backends.cuda.enable_mem_efficient_sdp(False)",
    "backends.cuda.enable_cudnn_sdp(False)",
    "backends.cuda.enable_math_sdp(False)",
    "backends.mha.set_fastpath_enabled(False)",
)
"""What the process that hosts a run, a run before it, or a plugin may have done."""


def settings() -> list[Any]:
    """All of torch's settings that these change."""
    backends: Any = torch.backends
    cuda, cudnn, mkldnn, matmul = backends.cuda, backends.cudnn, backends.mkldnn, backends.cuda.matmul
    smallest = torch.ones(1, dtype=torch.int64, device="cpu").view(torch.float64)
    return [
        (smallest * 1.0).view(torch.int64).tolist(),
        torch.get_num_threads(),
        str(torch.get_default_dtype()),
        str(torch.get_default_device()),
        torch.is_grad_enabled(),
        torch.get_deterministic_debug_mode(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        *(one.fp32_precision for one in (backends, cudnn, cudnn.conv, cudnn.rnn, matmul)),
        *(one.fp32_precision for one in (mkldnn, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)),
        *(mkldnn.enabled, mkldnn.deterministic, cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_fp16_accumulation,
        *(cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()),
        *(cuda.math_sdp_enabled(), backends.mha.get_fastpath_enabled()),
    ]


IMPORTS = """
import json
import torch
from msgspec.structs import replace
from torch import backends
from suite.engine.precision import configure
from tests.suite.fake_records import make_spec
from tests.suite.engine.test_precision import HOST, settings
"""


def in_a_process(code: str) -> str:
    """Run code in a process of its own, whose settings are nobody else's."""
    command = [sys.executable, "-c", IMPORTS + code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_a_run_states_every_setting_that_its_host_may_have_changed() -> None:
    code = """\
configure(make_spec())
usual, found = settings(), {}
for line in HOST:
    exec(line)
    had_effect = settings() != usual
    configure(make_spec())
    found[line] = (had_effect, settings() == usual)
print(json.dumps(found))
"""
    found = json.loads(in_a_process(code))
    assert found == {line: [True, True] for line in HOST}


def test_a_host_whose_threads_drop_denormals_is_refused() -> None:
    code = """\
torch.set_num_threads(2)
torch.set_flush_denormal(True)
torch.ones(1 << 20) * 2  # starts the second thread, which keeps the setting
configure(make_spec())  # on one thread it is no matter
try:
    configure(replace(make_spec(), threads=2))
except Exception as error:
    print(type(error).__name__, error)
"""
    assert in_a_process(code).startswith(
        "SteppeError a thread of this process takes denormal numbers for zero"
    )


def cast(precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    found = low_precision_cast(replace(make_spec(), precision=precision))
    assert found is not None
    return found


def test_tf32_rounds_to_eleven_significant_bits() -> None:
    ulp = 2.0**-10
    x = torch.tensor([1 + 0.4 * ulp, 1 + 0.6 * ulp, -1 - 0.6 * ulp, 3.0, 0.0])
    assert cast("tf32")(x).tolist() == [1.0, 1 + ulp, -1 - ulp, 3.0, 0.0]
    assert low_precision_cast(make_spec()) is None


def probe(epsilon: float) -> PerturbationProbe:
    torch.manual_seed(0)
    model = nn.Linear(200, 200)
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, cast("bf16"))
    with torch.no_grad():
        model.weight += epsilon * torch.randn_like(model.weight)
    seen()
    return seen


def test_a_small_perturbation_is_lost_in_bf16_and_a_large_one_is_not() -> None:
    # Weights are up to 0.07, so neighbours in bf16 (8 bits) lie about 3e-4 apart: 1e-5 is mostly lost.
    small, large = probe(1e-5).cosine, probe(1e-1).cosine
    assert small is not None
    assert large is not None
    assert small < 0.7
    assert large > 0.999


def test_an_unperturbed_step_has_no_cosine() -> None:
    model = nn.Linear(3, 3)
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, cast("bf16"))
    seen()
    assert seen.cosine is None
