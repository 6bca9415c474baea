"""Every built-in optimizer, in its settings that run other code, and examples of other kinds."""

from pathlib import Path

import pytest

from suite.conformance import check_optimizer
from suite.entries.registry import Registry
from suite.entries.select import parse_selector
from suite.spec import resolve_params

REGISTRY = Registry()

SELECTORS = [
    "sgd",
    "sgd[nesterov=true]",
    "sgd[momentum=0]",
    "adam",
    "adam[amsgrad=true]",
    "adam[decoupled=true]",
    "sam",
    "sam[base=adam]",
    "sam[base=adamw]",
    "sam[adaptive=true]",
    "sam[frozen_stats=false]",
    "sam[ascent=rank]",
    "sam[clip=0.1]",
    "lpf-sgd",
    "lpf-sgd[M=8]",
    "lpf-sgd[M=8,scale=tensor,alpha=15]",
    "lpf-sgd[scale=element,nesterov=true]",
    "lpf-sgd[scale=absolute,base=adam]",
    "nso",
    "nso[k=2]",
    "nso[clean_pass=true]",
    "nso[lambda=0.5]",
    "nso[two_point=false]",
    "nso[base=adamw]",
    "adabelief",
    "adabelief[preset=0.0.5]",
    "adabelief[preset=0.2]",
    "adabelief[decoupled=true,fixed_decay=true]",
    "adabelief[rectify=true,degenerated_to_sgd=false]",
    "adabelief[amsgrad=true]",
]


@pytest.mark.parametrize("text", SELECTORS)
def test_built_in_optimizers_keep_their_promises(text: str) -> None:
    selector = parse_selector(text)
    (overrides,) = selector.grid()
    broken = [
        check for check in check_optimizer(REGISTRY.optimizer(selector.pattern), overrides) if not check.ok
    ]
    assert not broken, "\n".join(f"{check.promise}: {check.message}" for check in broken)


PLUGINS = Path(__file__).parents[1] / "plugins"
EXAMPLES = {
    "curvature": "the loss as a function",
    "ema": "weights that are evaluated and not trained",
    "muon": "parameters by their place in the model",
    "no-decay": "a group for each parameter",
    "spsa": "losses alone",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_other_kinds_keep_their_promises(name: str) -> None:
    found = Registry([PLUGINS / f"{name.replace('-', '_')}.py"]).optimizer(name)
    broken = [check for check in check_optimizer(found) if not check.ok]
    assert not broken, "\n".join(f"{check.promise}: {check.message}" for check in broken)


def test_every_entry_is_covered() -> None:
    assert {parse_selector(text).pattern for text in SELECTORS} == set(REGISTRY.optimizers)


@pytest.mark.parametrize("name", sorted(REGISTRY.optimizers))
def test_every_switch_and_choice_is_well_formed(name: str) -> None:
    # Every choice of every parameter resolves with what it implies, so that no preset is out of range.
    entry = REGISTRY.optimizer(name).entry
    for key, param in entry.params.items():
        for value in param.choices or ((True, False) if isinstance(param.default, bool) else ()):
            assert resolve_params(entry.params, {key: value}, name)[key] == value
