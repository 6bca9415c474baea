"""Every promise of the battery can be broken, and says so: one mistake, one cross."""

import re
from pathlib import Path

import pytest

from suite.conformance import Check, check_optimizer
from tests.conformance.plugins import (
    EMA,
    HESSIAN,
    INIT,
    SPSA,
    TWO_CALLS,
    UPDATE,
    UPDATE_LINE,
    broken,
    fill,
    found,
    judged,
    plugin,
    swap,
    write,
)

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
        "a state_dict of a form that it does not load",
        "    def update(",
        """\
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["base"])

    def update(""",
        "resumes exactly",
        r"load_state_dict refuses what state_dict gave: KeyError: 'base' \(mine.py, line \d+\)",
    ),
    (
        "a gradient too many",
        OBJECTIVE,
        OBJECTIVE + "        self.zero_grad()\n" + OBJECTIVE.replace("()", "(track_stats=False)"),
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
        "parts of the mini-batch that are not declared",
        OBJECTIVE,
        "        loss = objective(0, 2) + objective(1, 2)\n",
        "declares its needs",
        r"splits the mini-batch into 2 parts, which needs\(hyper\) does not name: return \('parts',\)",
    ),
    (
        "an average that nobody evaluates",
        UPDATE_LINE,
        UPDATE_LINE + EMA,
        "evaluates the weights that it means",
        r"keeps weights other than the trained ones \(state\[p\]\['ema'\]\).*define evaluation_weights\(\)",
    ),
    (
        "BatchNorm's statistics of two points",
        OBJECTIVE + "        with",
        OBJECTIVE + "        objective()\n        with",
        "counts a batch once in BatchNorm",
        "take up a mini-batch 2 times a step: give track_stats=False to each evaluation but one",
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
    if promise == "counts a batch once in BatchNorm":
        swap(path, "cost=lambda hyper: 1", "cost=lambda hyper: 2")
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
            OBJECTIVE,
            OBJECTIVE + "        raise KeyError('beta')\n",
            "takes a step",
            r"KeyError: 'beta' \(mine.py, line \d+\)$",
        ),
        (
            "        loss = objective()\n",
            "        loss = objective.function()(torch.zeros(633))\n",
            "takes a step",
            "was not declared: let the entry's `needs` name 'function'",
        ),
        (
            "    return Mine(params.tensors,",
            "    return object() if params else Mine(params.tensors,",
            "builds a torch optimizer",
            "build returns a object, not a torch.optim.Optimizer",
        ),
        (
            "return Mine(params.tensors,",
            "return Mine(params.tensors[1:],",
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
        (
            "build=build,",
            'build=build, needs=lambda hyper: ("functions",),',
            "is well formed",
            "unknown need 'functions'; did you mean 'function'",
        ),
        (
            "build=build,",
            'build=build, needs=lambda hyper: "function",',
            "is well formed",
            r"needs\(hyper\) is 'function': return a tuple of names",
        ),
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


def test_the_two_call_shape_loses_its_base_and_counts_each_batch_twice(tmp_path: Path) -> None:
    body = TWO_CALLS.format(
        first="        self.zero_grad()\n        loss = closure()\n", last="        return loss\n"
    )
    checks = judged(tmp_path, body, cost="2", rest="perturbs=True,")
    assert broken(checks) == {"counts a batch once in BatchNorm", "resumes exactly"}
    assert "take up a mini-batch 2 times a step" in checks["counts a batch once in BatchNorm"].message
    assert "it lacks base_optimizer.state[0][momentum_buffer]" in checks["resumes exactly"].message


def test_a_gradient_that_a_loop_would_have_computed_is_asked_for(tmp_path: Path) -> None:
    checks = judged(tmp_path, TWO_CALLS.format(first="", last=""), cost="2", rest="perturbs=True,")
    assert broken(checks) == {"takes a step"}
    message = checks["takes a step"].message
    assert "step had not called the objective yet, and nothing else computes gradients" in message


def test_statistics_of_two_points_may_be_an_option_and_no_default(tmp_path: Path) -> None:
    path = fill(write(tmp_path))
    swap(path, OBJECTIVE, OBJECTIVE + "        objective(0, 1, self.twice)\n")
    swap(path, "    return Mine(", "    Mine.twice = hyper['twice']\n    return Mine(")
    swap(path, "cost=lambda hyper: 1", "cost=lambda hyper: 2")
    swap(path, "            **SHARED,", "            'twice': Param(False, 'count twice'), **SHARED,")
    promise = "counts a batch once in BatchNorm"

    def verdict(**overrides: str) -> Check:
        return next(c for c in check_optimizer(found(path), overrides) if c.promise == promise)

    assert verdict().message == "running statistics take up each example once a step"
    chosen = verdict(twice="true")
    assert (chosen.ok, chosen.message) == (
        True,
        "2 times a step, as twice=true chooses; at the defaults once",
    )
    swap(path, "Param(False, 'count twice')", "Param(True, 'count twice')")
    assert not verdict().ok
    assert not verdict(lr="0.05").ok  # nothing that is given here chooses it
    assert verdict(twice="false").ok


def test_losses_alone_serve_a_method_without_gradients(tmp_path: Path) -> None:
    checks = judged(tmp_path, SPSA, cost="2 / 3", lr="0.05", rest="perturbs=True,")
    assert not broken(checks)
    assert "in 90 steps" in checks["goes downhill"].message  # as many gradients as 60 steps of one each
    assert checks["declares its perturbation"].message == "losses at perturbed weights, as declared"
    assert "no evaluation counts" in checks["counts a batch once in BatchNorm"].message


@pytest.mark.parametrize(
    ("old", "new", "promise", "message"),
    [
        ("sub_(z", "add_(z", "goes downhill", "the loss rose"),
        ("perturbs=True,", "", "declares its perturbation", "losses are taken at perturbed weights"),
        ("cost=lambda hyper: 2 / 3", "cost=lambda hyper: 2", "costs what it declares", "counted 0.666667"),
        (
            "self.noise.fill_(torch.empty_like(self.flat.theta), self.n_steps)",
            "torch.randn_like(self.flat.theta)",
            "draws only its own noise",
            "torch's global generator",
        ),
    ],
)
def test_a_method_without_gradients_can_break_its_promises(
    tmp_path: Path, old: str, new: str, promise: str, message: str
) -> None:
    path = swap(plugin(tmp_path, SPSA, cost="2 / 3", lr="0.05", rest="perturbs=True,"), old, new)
    checks = {check.promise: check for check in check_optimizer(found(path))}
    assert message in checks[promise].message
    # Noise of the global generator has the same cause in the layouts: it knows no even noise.
    assert broken(checks) - {"works with channels_last"} == {promise}


FUNCTION = 'needs=lambda hyper: ("function",),'


def test_the_loss_as_a_function_is_charged_by_operations(tmp_path: Path) -> None:
    checks = judged(tmp_path, HESSIAN, cost="4", rest=FUNCTION)
    assert not broken(checks)
    assert "4 per example and step, 4 on batches of 8, 8 and 5" in checks["costs what it declares"].message
    near = judged(tmp_path, HESSIAN, cost="3.9", rest=FUNCTION)  # 2.5 % off, of 5 allowed
    assert not broken(near)
    far = judged(tmp_path, HESSIAN, cost="3.7", rest=FUNCTION)  # 8 % off
    assert broken(far) == {"costs what it declares"}
    assert "the meter counted 4 on a batch of 8" in far["costs what it declares"].message
    assert "(allowed are 5%)" in far["costs what it declares"].message


def test_an_optimizer_of_full_batches_is_tried_on_one(tmp_path: Path) -> None:
    path = fill(
        write(tmp_path),
        UPDATE
        + """\
        if moments.setdefault("n", grad.new_tensor(self.n)) != self.n:
            raise ValueError("another mini-batch")
""",
    )
    swap(
        path,
        OBJECTIVE,
        OBJECTIVE + "        self.n = len(objective._batch) if hasattr(objective, '_batch') else 21\n",
    )
    assert {c.promise for c in check_optimizer(found(path)) if not c.ok} == {"is deterministic"}
    swap(path, "build=build,", 'build=build, needs=lambda hyper: ("full-batch",),')
    checks = {check.promise: check for check in check_optimizer(found(path))}
    assert not broken(checks), checks
    assert checks["costs what it declares"].message == "1 per example and step, on a batch of 21"
    assert checks["declares its needs"].message == "needs full-batch"
