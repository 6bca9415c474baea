"""Every promise of the battery can be broken, and says so: one mistake, one cross."""

import re
from pathlib import Path

import pytest

from suite.conformance import check_optimizer
from tests.conformance.plugins import UPDATE, fill, found, swap, write

OBJECTIVE = "        loss = objective()\n"
PERTURBED = """\
        noise = [torch.full_like(p, 0.1) for g in self.param_groups for p in g["params"]]
        ps = [p for g in self.param_groups for p in g["params"]]
        with torch.no_grad():
            torch._foreach_add_(ps, noise)
        loss = objective()
        with torch.no_grad():
            torch._foreach_sub_(ps, noise)
"""
COPIED = """\
        ps = [p for g in self.param_groups for p in g["params"]]
        clean = [p.detach().clone() for p in ps]
        with torch.no_grad():
            torch._foreach_add_(ps, 0.1)
        loss = objective()
        with torch.no_grad():
            torch._foreach_copy_(ps, clean)
"""
INIT = '        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})\n'
UPDATE_LINE = '        p.add_(moments["momentum"], alpha=-group["lr"])\n'
STATE_DICT = """\

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": {}}

"""

# What is broken, the piece of the filled-in file, what it becomes, the promise and words of its message.
BROKEN = [
    (
        "a wrong sign",
        UPDATE_LINE,
        UPDATE_LINE.replace("-group", "group"),
        "goes downhill",
        "the loss rose from .* the update goes uphill, so its sign is likely wrong",
    ),
    (
        "a step too small",
        UPDATE_LINE,
        UPDATE_LINE.replace("-group", "-1e-4 * group"),
        "goes downhill",
        "the loss only went from .* too small",
    ),
    (
        "state kept outside state_dict",
        "moments = self.state[p]",
        'moments = self.__dict__.setdefault("kept", {}).setdefault(p, {})',
        "resumes exactly",
        r"continued from its state_dict at step 3, step 3 differs: .*; it lacks kept\[0\]\[momentum\]",
    ),
    (
        "state left out of state_dict",
        "    def update(",
        STATE_DICT.lstrip("\n") + "    def update(",
        "resumes exactly",
        r"step 3 differs: .*; it lacks state\[0\]\[momentum\]",
    ),
    (
        "a gradient too many",
        OBJECTIVE,
        OBJECTIVE + "        self.zero_grad()\n" + OBJECTIVE,
        "costs what it declares",
        "declares 1 sample-gradient per example and step, the meter counted 2 on a batch of 8",
    ),
    (
        "a gradient less than declared",
        "cost=lambda hyper: 1,",
        "cost=lambda hyper: 2,",
        "costs what it declares",
        "declares 2 sample-gradients per example and step, the meter counted 1",
    ),
    (
        "weights restored by subtraction",
        OBJECTIVE,
        PERTURBED,
        "restores the weights",
        "a step at lr = 0 without weight decay moves the weights: .* restore perturbed weights from a copy",
    ),
    (
        "a perturbation that is not declared",
        OBJECTIVE,
        COPIED,
        "declares its perturbation",
        "gradients are taken at perturbed weights, but the entry has perturbs=False",
    ),
    (
        "a function in state_dict",
        UPDATE_LINE,
        UPDATE_LINE + '        moments["rule"] = lambda: None\n',
        "has a weights-only checkpoint",
        "state_dict cannot be saved and loaded without pickled objects",
    ),
    (
        "a draw from torch's global generator",
        OBJECTIVE,
        OBJECTIVE + "        loss = loss + 0 * torch.randn(())\n",
        "draws only its own noise",
        "step draws from torch's global generator",
    ),
    (
        "a draw from Python's global generator",
        OBJECTIVE,
        "        __import__('random').random()\n" + OBJECTIVE,
        "draws only its own noise",
        "step draws from Python's global generator",
    ),
    (
        "gradients not zeroed",
        "        self.zero_grad()\n",
        "",
        "zeroes gradients itself",
        "gradients left in p.grad change step 0: .* call self.zero_grad()",
    ),
    (
        "a learning rate of its own",
        UPDATE_LINE,
        UPDATE_LINE.replace('-group["lr"]', "-0.1"),
        "reads lr at each step",
        r"halving group\['lr'\] before step 0 changes nothing: read lr from self.param_groups",
    ),
    (
        "a learning rate read once",
        UPDATE_LINE,
        UPDATE_LINE.replace('-group["lr"]', '-self.__dict__.setdefault("first", group["lr"])'),
        "reads lr at each step",
        "halving group.* before step 1 changes nothing",
    ),
    (
        "an object in state_dict",
        UPDATE_LINE,
        UPDATE_LINE + '        moments["half"] = __import__("fractions").Fraction(1, 2)\n',
        "has a weights-only checkpoint",
        "state_dict cannot be saved and loaded without pickled objects: .* keep tensors and plain numbers",
    ),
    (
        "gradients read in another memory order",
        'moments["momentum"].mul_(0.9).add_(grad)',
        'moments["momentum"].mul_(0.9).add_(grad.permute(0, 2, 3, 1).reshape(grad.shape)'
        " if grad.dim() == 4 and grad.is_contiguous(memory_format=torch.channels_last) else grad)",
        "works with channels_last",
        "with channels_last weights .* different memory orders",
    ),
    (
        "weights of another memory format",
        UPDATE_LINE,
        UPDATE_LINE + "        p.data = p.data.contiguous()\n",
        "works with channels_last",
        "a step changes the memory format of weights",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "promise", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_one_mistake_breaks_one_promise(
    tmp_path: Path, old: str, new: str, promise: str, message: str
) -> None:
    path = swap(fill(write(tmp_path)), old, new)
    if promise == "restores the weights":
        swap(path, "build=build,", "build=build, perturbs=True,")
    broken = [check for check in check_optimizer(found(path)) if not check.ok]
    assert [check.promise for check in broken] == [promise], broken
    assert "\n" not in broken[0].message
    assert re.search(message, broken[0].message), broken[0].message


@pytest.mark.parametrize(
    ("old", "new", "promise", "message"),
    [
        ("        return loss\n", "", "takes a step", "step returns nothing: return the batch loss"),
        (
            "        return loss\n",
            "        return loss.clone().requires_grad_()\n",
            "takes a step",
            "return it detached",
        ),
        (OBJECTIVE, "        loss = objective.gradient()\n", "takes a step", "AttributeError: .* line "),
        (
            "    return Mine(params,",
            "    return object() if params else Mine(params,",
            "builds a torch optimizer",
            "build returns a object, not a torch.optim.Optimizer",
        ),
        (
            "return Mine(params,",
            "return Mine(params[1:],",
            "builds a torch optimizer",
            "param_groups lack 0.weight",
        ),
        (
            UPDATE_LINE,
            UPDATE_LINE + "        p.mul_(1 + 1e-6 * __import__('time').perf_counter_ns() % 1000)\n",
            "is deterministic",
            "two runs of one seed differ: .* a draw that does not come from context.noise",
        ),
        ("**SHARED,", "", "is well formed", "params lack schedule, warmup: merge suite.schedule.SHARED"),
        (" search=LogUniform(1e-3, 1.0)", "", "is well formed", "lr has no search space"),
        ('"learning rate",', '"",', "is well formed", "no help text for lr"),
        ('source="unpublished"', 'source=" "', "is well formed", "the entry's source is empty"),
        ('version="1"', 'version="one"', "is well formed", "the version 'one' is not a number"),
        ("cost=lambda hyper: 1,", "cost=lambda hyper: 0,", "is well formed", "cost.* is 0.0"),
        ("build=build,", 'build=build, zero={"rho": 0.0},', "is well formed", "zero names rho, which"),
    ],
)
def test_what_cannot_run_is_not_judged_further(
    tmp_path: Path, old: str, new: str, promise: str, message: str
) -> None:
    checks = check_optimizer(found(swap(fill(write(tmp_path)), old, new)))
    assert [check.ok for check in checks] == [True] * (len(checks) - 1) + [False]
    assert checks[-1].promise == promise
    assert re.search(message, checks[-1].message), checks[-1].message


WRAPPED = """\
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9, weight_decay=weight_decay)
"""


@pytest.mark.parametrize(
    ("init", "update", "message"),
    [
        (WRAPPED, UPDATE, ""),
        (INIT, UPDATE, "declares zero .lr=0.05. but its optimizer has no `base`"),
        (WRAPPED, UPDATE.replace("0.9", "0.8"), "at lr=0.05 step 1 does not equal the base SGD bit for bit"),
    ],
    ids=["equal", "no base", "unequal"],
)
def test_zero_must_be_the_base(tmp_path: Path, init: str, update: str, message: str) -> None:
    path = swap(fill(write(tmp_path), update), INIT, init)
    swap(path, "build=build,", 'build=build, zero={"lr": 0.05},')
    (check,) = (c for c in check_optimizer(found(path)) if c.promise == "equals its base at zero")
    assert check.ok == (not message), check
    assert re.search(message, check.message), check.message


def test_a_docstring_is_asked_for(tmp_path: Path) -> None:
    path = fill(write(tmp_path))
    path.write_text(path.read_text().split('"""', 2)[2])
    (check,) = check_optimizer(found(path))
    assert not check.ok
    assert "mine.py has no docstring: state the update rule" in check.message
