"""The weights that are evaluated are those that an optimizer means: what breaks that, and what does not."""

import re
from pathlib import Path

import pytest

from suite.conformance import check_optimizer
from tests.conformance.plugins import EMA, INIT, UPDATE, UPDATE_LINE, broken, fill, found, judged, swap, write

AVERAGED = """\
    def evaluation_weights(self):
        return [self.state[p]["ema"] for group in self.param_groups for p in group["params"]]

    def update("""
PLAIN = "    def update("
COPIED_ONCE = UPDATE.replace(
    UPDATE_LINE, '        moments.setdefault("w0", p.detach().clone())\n' + UPDATE_LINE
)
COPIED_BEFORE = UPDATE.replace(UPDATE_LINE, '        moments["old"] = p.detach().clone()\n' + UPDATE_LINE)


@pytest.mark.parametrize(
    ("update", "method", "message"),
    [
        (UPDATE + EMA, AVERAGED, "evaluates weights other than the trained ones, which a checkpoint holds"),
        (
            UPDATE + EMA,
            "    def evaluation_weights(self):\n        return None\n\n    def update(",
            "evaluates the trained weights, as evaluation_weights says",
        ),
        (
            UPDATE + "        moments['ema'] = p\n",
            AVERAGED,
            "evaluation_weights never differ from the trained ones in 12 steps",
        ),
        (UPDATE, PLAIN, "evaluates the trained weights"),
        (UPDATE + "        moments['w'] = p.detach().clone()\n", PLAIN, "evaluates the trained weights"),
        (UPDATE + "        moments['w'] = p.detach().double()\n", PLAIN, "evaluates the trained weights"),
        (COPIED_BEFORE, PLAIN, "evaluates the trained weights"),
        (COPIED_ONCE, PLAIN, "evaluates the trained weights"),
    ],
    ids=["average", "none", "never others", "nothing", "now", "now in float64", "before", "the start"],
)
def test_weights_that_are_evaluated(tmp_path: Path, update: str, method: str, message: str) -> None:
    path = swap(fill(write(tmp_path), update), PLAIN, method)
    checks = {check.promise: check for check in check_optimizer(found(path))}
    assert not broken(checks), checks
    assert checks["evaluates the weights that it means"].message.startswith(message)


@pytest.mark.parametrize("period", [2, 5])
def test_weights_that_are_renewed_now_and_then_are_no_copies(tmp_path: Path, period: int) -> None:
    """Lookahead: slow weights, which the fast ones are put back to every few steps."""
    update = f"""\
        moments["n"] = moments.get("n", 0) + 1
        slow = moments.setdefault("slow", p.detach().clone())
        if moments["n"] % {period} == 0:
            p.copy_(slow.lerp_(p, 0.5))
"""
    path = fill(write(tmp_path), UPDATE.replace("if not moments", "if 'momentum' not in moments") + update)
    (check,) = [one for one in check_optimizer(found(path)) if not one.ok]
    assert check.promise == "evaluates the weights that it means"
    assert "(state[p]['slow'])" in check.message


@pytest.mark.parametrize(
    ("update", "method", "message"),
    [
        (
            "        self.averages.setdefault(p, p.detach().clone()).lerp_(p, 0.1)\n",
            AVERAGED.replace('self.state[p]["ema"]', "self.averages[p]"),
            r"are lost: continued from state_dict at step 6, those before step 6 differ: "
            r"KeyError: .{200} \.\.\. \(mine.py, line \d+\); it lacks averages\[0\]",
        ),
        (
            "        self.averages.setdefault(p, p.detach().clone()).lerp_(p, 0.1)\n",
            AVERAGED.replace('self.state[p]["ema"]', "self.averages.get(p, p)"),
            r"are lost: continued from state_dict at step 6, those before step 6 differ: . of 7 tensors",
        ),
        (
            EMA,
            AVERAGED.replace("        return", "        self.swap()\n        return"),
            "a call of evaluation_weights after step 1 changes the training: .* leave the parameters",
        ),
        (
            EMA,
            AVERAGED.replace(
                "        return", "        self.asked = getattr(self, 'asked', 0) + 1\n        return"
            ).replace('self.state[p]["ema"]', 'self.state[p]["ema"] + self.asked'),
            "two calls of evaluation_weights after step 0 return different weights",
        ),
        (
            EMA,
            AVERAGED.replace('["params"]]', '["params"][1:]]'),
            "gives 6 tensors, which are not those of the 7 parameters",
        ),
        (
            EMA,
            AVERAGED.replace("return [", "return (").replace('["params"]]', '["params"])'),
            "gives a generator: return a list of tensors, or None",
        ),
        (EMA, AVERAGED.replace('["ema"] for', '["ema"] / 0 for'), "not finite in 0.weight after step 0"),
    ],
    ids=["lost", "begun anew", "swapped in", "asked twice", "too few", "a generator", "infinite"],
)
def test_evaluation_weights_can_be_wrong(tmp_path: Path, update: str, method: str, message: str) -> None:
    path = swap(fill(write(tmp_path), UPDATE + update), PLAIN, SWAP + method)
    swap(path, INIT, INIT + "        self.averages = {}\n")
    (check,) = [one for one in check_optimizer(found(path)) if not one.ok]
    assert check.promise == "evaluates the weights that it means"
    assert re.search(message, check.message), check.message


SCHEDULE_FREE = '''\
class ScheduleFree(torch.optim.Optimizer):
    """SGD on z, gradients at y = (1 - b) z + b x, evaluation at the mean x of z (Defazio et al. 2024)."""

    def __init__(self, params, lr, beta=0.9):
        super().__init__(params, {{"lr": lr, "beta": beta, "k": 0}})

    def step(self, objective):
        self.zero_grad()
        loss = objective()
        group = self.param_groups[0]
        group["k"] += 1
        with torch.no_grad():
            for p, x in zip(group["params"], self.mean(), strict=True):
                z = self.state[p]["z"].sub_(p.grad, alpha=group["lr"])
                p.copy_((1 - group["beta"]) * z + group["beta"] * x.lerp(z, 1 / group["k"]))
        return loss

    def mean(self):
        group = self.param_groups[0]
        for p in group["params"]:
            self.state[p].setdefault("z", p.detach().clone())
        return [(p - (1 - group["beta"]) * self.state[p]["z"]) / group["beta"] for p in group["params"]]

    {name} = mean


def build(params, hyper, context):
    return ScheduleFree(params.tensors, hyper["lr"])
'''


def test_weights_that_are_computed_from_the_trained_ones(tmp_path: Path) -> None:
    """They are in no state, but what they are computed from is; y is rounded, which is no perturbation."""
    checks = judged(tmp_path, SCHEDULE_FREE.format(name="evaluation_weights"), lr="0.5")
    assert not broken(checks), checks
    assert "moves the weights by rounding alone" in checks["restores the weights"].message
    checks = judged(tmp_path, SCHEDULE_FREE.format(name="average"), lr="0.5")
    assert broken(checks) == {"evaluates the weights that it means"}
    assert "(state[p]['z'])" in checks["evaluates the weights that it means"].message


SWAP = """\
    @torch.no_grad()
    def swap(self):
        for p in self.param_groups[0]["params"]:
            p.copy_(self.state[p]["ema"])

"""
FLAT = '''\
class Averaged(torch.optim.SGD):
    """SGD with the running sum of its weights in one vector."""

    def step(self, objective):
        self.zero_grad()
        loss = objective()
        super().step()
        weights = torch.cat([{flat} for p in self.param_groups[0]["params"]])
        self.total = getattr(self, "total", 0) + {kept}
        return loss

    def state_dict(self):
        return {{**super().state_dict(), "extra": {{"total": getattr(self, "total", None)}}}}

    def load_state_dict(self, state):
        super().load_state_dict({{key: state[key] for key in ("state", "param_groups")}})
        self.total = state["extra"]["total"]


def build(params, hyper, context):
    return Averaged(params.tensors, lr=hyper["lr"])
'''


@pytest.mark.parametrize(
    ("flat", "kept", "found_there"),
    [
        ("p.detach().flatten()", "weights", True),
        (
            "p.detach().permute(0, 2, 3, 1).flatten() if p.dim() == 4 else p.detach().flatten()",
            "weights",
            True,
        ),
        ("p.grad.flatten()", "weights", False),
        ("p.detach().flatten()", "torch.sign(weights - weights.mean())", False),
    ],
    ids=["by rows", "by memory", "gradients", "no weights"],
)
def test_a_flat_average_is_found(tmp_path: Path, flat: str, kept: str, found_there: bool) -> None:
    checks = judged(tmp_path, FLAT.format(flat=flat, kept=kept))
    assert broken(checks) == ({"evaluates the weights that it means"} if found_there else set())
    if found_there:
        assert "(extra['total'])" in checks["evaluates the weights that it means"].message
