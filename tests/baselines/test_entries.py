"""What every optimizer entry promises."""

import io
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from baselines.lpf_sgd import LPFSGD
from baselines.nso import NSO
from baselines.sam import SAM
from suite.errors import SteppeError
from suite.objective import as_objective
from suite.schedule import SHARED
from suite.space import LogUniform
from tests.baselines.helpers import (
    BASES,
    ENTRIES,
    REGISTRY,
    WRAPPERS,
    Training,
    assert_same,
    batch,
    entry,
    flat,
    loaded,
    network,
    resolve,
    watch,
)

BASED = [(name, base) for name in WRAPPERS for base in BASES]
VARIANTS: list[tuple[str, dict[str, object]]] = [
    ("sgd", {}),
    ("sgd", {"nesterov": True}),
    ("adam", {}),
    ("adam", {"decoupled": True, "amsgrad": True}),
    ("adabelief", {}),
    ("adabelief", {"preset": "0.2", "amsgrad": True}),
    ("sam", {}),
    ("sam", {"adaptive": True, "frozen_stats": False}),
    ("lpf-sgd", {}),
    ("lpf-sgd", {"M": 8, "alpha": 15.0}),
    ("lpf-sgd", {"scale": "tensor"}),
    ("nso", {}),
    ("nso", {"k": 3}),
    ("nso", {"clean_pass": True}),
    ("nso", {"lambda": 0.5, "k": 2}),
    ("nso", {"two_point": False, "k": 2}),
    ("nso", {"two_point": False, "lambda": 0.5}),
    *((name, {"base": base}) for name, base in BASED),
]
IDS = [f"{name}{overrides or ''}" for name, overrides in VARIANTS]
every_variant = pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=IDS)


def test_there_are_exactly_six() -> None:
    built_in = sorted(name for name, found in REGISTRY.optimizers.items() if not found.plugin)
    assert tuple(built_in) == ENTRIES


@pytest.mark.parametrize("name", ENTRIES)
def test_shared_parameters_are_declared(name: str) -> None:
    assert SHARED.items() <= entry(name).params.items()


SHARED_SPACES = {"lr": LogUniform(1e-4, 1.0), "weight_decay": LogUniform(1e-5, 1e-2, zero=True)}


@pytest.mark.parametrize("name", ENTRIES)
def test_search_spaces_follow_the_protocol(name: str) -> None:
    params = entry(name).params
    for shared, space in SHARED_SPACES.items():  # rule 10: the same for all
        assert params[shared].search == space
    for parameter, value in entry(name).zero.items():  # rule 11: zero is in the space
        search = params[parameter].search
        assert search is None or search.contains(value)


@every_variant
def test_meter_equals_declared_cost(name: str, overrides: dict) -> None:
    sizes = [20, 20, 7]  # the last batch is one that M = 8 does not divide, nor even reaches
    training = Training(name, overrides).run(0, 3, n=lambda step: sizes[step])
    assert training.objective.meter.sample_gradients == entry(name).cost(training.hyper) * sum(sizes)


@pytest.mark.parametrize(
    ("name", "overrides", "cost"),
    [
        ("sgd", {}, 1),
        ("adam", {}, 1),
        ("adabelief", {}, 1),
        ("sam", {}, 2),
        ("lpf-sgd", {"M": 8}, 1),
        ("nso", {}, 2),
        ("nso", {"k": 3}, 6),
        ("nso", {"k": 3, "clean_pass": True}, 7),
        ("nso", {"k": 3, "lambda": 0.5}, 7),
        ("nso", {"k": 3, "two_point": False}, 3),
        ("nso", {"k": 3, "two_point": False, "clean_pass": True}, 4),
    ],
)
def test_declared_cost(name: str, overrides: dict, cost: int) -> None:
    assert entry(name).cost(resolve(name, overrides)) == cost


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("name", "base"), BASED)
def test_equals_its_base_at_zero_bit_for_bit(name: str, base: str, channels_last: bool) -> None:
    zero = Training(name, {**entry(name).zero, "base": base}, channels_last=channels_last).run(0, 6)
    plain_name = "sgd" if base == "sgd" else "adam"
    plain = Training(
        plain_name, {} if base == "sgd" else {"decoupled": base == "adamw"}, channels_last=channels_last
    )
    for key, value in plain.hyper.items():
        assert zero.hyper.get(key, value) == value  # the same base settings, by default
    assert_same(zero.state(), plain.run(0, 6).state())


@pytest.mark.parametrize("name", WRAPPERS)
def test_does_something_away_from_zero(name: str) -> None:
    assert not torch.equal(
        flat(Training(name).run(0, 2).model.parameters()), flat(Training("sgd").run(0, 2).model.parameters())
    )


@every_variant
def test_learning_rate_zero_leaves_weights_bit_for_bit(name: str, overrides: dict) -> None:
    training = Training(name, {**overrides, "lr": 0.0})
    before = flat(training.model.parameters())
    training.run(0, 2)
    assert torch.equal(flat(training.model.parameters()), before)


@every_variant
def test_state_dict_round_trip_continues_bit_for_bit(name: str, overrides: dict) -> None:
    whole = Training(name, overrides).run(0, 7)
    first = Training(name, overrides).run(0, 4)
    file = io.BytesIO()
    torch.save({"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = Training(name, overrides, seed=0)
    second.run(10, 11)  # whatever it did before must not show
    second.model.load_state_dict(saved["model"])
    second.optimizer.load_state_dict(saved["optimizer"])
    assert_same(second.run(4, 7).state(), whole.state())


@pytest.mark.parametrize("name", ENTRIES)
def test_channels_last_agrees_with_row_major(name: str) -> None:
    # Without noise: the same normals fall on other coordinates there.
    overrides = entry(name).zero if name in ("lpf-sgd", "nso") else {}
    rows = Training(name, overrides).run(0, 2)
    last = Training(name, overrides, channels_last=True).run(0, 2)
    assert last.model[0].weight.stride() == (27, 1, 9, 3)  # type: ignore[index]
    for a, b in zip(rows.model.parameters(), last.model.parameters(), strict=True):
        # float32 sums in another order: differences stay below 1e-6, a transposed gradient gives 1e-2
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENTRIES)
def test_gradients_in_another_memory_order(name: str) -> None:
    """A closure may assign gradients in whatever order; the numbers must land where they belong."""

    def trained(channels_last_gradients: bool) -> torch.Tensor:
        training = Training(name)
        model = training.model
        x, y = batch(0)
        model.eval()

        def closure() -> torch.Tensor:
            loss = nn.functional.cross_entropy(model(x), y)
            params = list(model.parameters())
            for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
                if channels_last_gradients and g.dim() == 4:
                    g = g.contiguous(memory_format=torch.channels_last)
                p.grad = g if p.grad is None else p.grad + g
            return loss

        for _ in range(2):
            training.optimizer.step(as_objective(closure, model))  # type: ignore[arg-type]
        return flat(model.parameters())

    # elementwise work on the same numbers; only a norm may be summed in another order
    torch.testing.assert_close(trained(True), trained(False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_noise_shifts_no_other_stream(name: str) -> None:
    """Whatever an optimizer draws, dropout's masks and torch's global generator stay where they were."""
    left = []
    for each in (Training(name), Training("sgd")):
        masks: list[torch.Tensor] = []
        each.model[5].register_forward_hook(lambda layer, _, out, kept=masks: kept.append(layer._masks[0]))  # type: ignore[index]
        each.run(0, 3)
        left.append([*{id(mask): mask for mask in masks}.values(), torch.default_generator.get_state()])
    assert len(left[0]) == 4  # a mask a step, and the generator
    assert all(torch.equal(a, b) for a, b in zip(*left, strict=True))


@pytest.mark.parametrize("name", WRAPPERS)
def test_serves_in_an_ordinary_loop(name: str) -> None:
    """Plain closure, torch scheduler on the wrapper, frozen parameters, one that never gets a gradient."""
    model = network()
    model[0].weight.requires_grad_(False)
    unused = nn.Parameter(torch.ones(3))
    base = torch.optim.SGD([*model.parameters(), unused], lr=0.1, momentum=0.9)
    optimizer = {"sam": SAM, "lpf-sgd": LPFSGD, "nso": NSO}[name](base)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    x, y = batch(0)
    frozen = model[0].weight.clone()

    def closure() -> torch.Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    first = optimizer.step(as_objective(closure, model))
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.05  # the base steps with what the scheduler set
    for _ in range(10):
        last = optimizer.step(as_objective(closure, model))
    assert last < first
    assert not first.requires_grad
    assert torch.equal(model[0].weight, frozen)
    assert torch.equal(unused, torch.ones(3))


@pytest.mark.parametrize("name", WRAPPERS)
def test_follows_a_model_that_was_moved(name: str) -> None:
    """`model.to(...)` or loading with assign after the optimizer was built gives parameters new memory."""
    training, moved = Training(name).run(5, 6), Training(name).run(5, 6)
    for p, q in zip(training.model.parameters(), moved.model.parameters(), strict=True):
        p.data.mul_(1.5)
        q.data = q.data * 1.5
    assert_same(training.run(0, 3).state(), moved.run(0, 3).state())


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_error_in_the_objective_leaves_clean_weights(name: str) -> None:
    training = Training(name)
    before = flat(training.model.parameters())
    calls = 0

    def failing(*args: object, **options: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == (2 if name == "sam" else 1):
            raise KeyboardInterrupt
        return training.objective(*args, **options)  # type: ignore[arg-type]

    training.objective.load(0, loaded(0))
    with pytest.raises(KeyboardInterrupt):
        training.optimizer.step(failing)  # type: ignore[arg-type]
    assert torch.equal(flat(training.model.parameters()), before)


@pytest.mark.parametrize("name", WRAPPERS)
def test_perturbed_evaluations_are_at_finite_weights_elsewhere(name: str) -> None:
    training = Training(name)
    seen: list[float] = []
    watch(training.optimizer, lambda w, v: seen.append(float((v - w).norm())))
    training.run(0, 1)
    assert len(seen) == (2 if name == "nso" else 1)
    assert all(math.isfinite(norm) and norm > 0 for norm in seen)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("sam", {"rho": -0.1}),
        ("nso", {"k": 0}),
        ("nso", {"lambda": 1.0}),
        ("lpf-sgd", {"scale": "row"}),
        ("sgd", {"momentum": 1.0}),
    ],
)
def test_bad_hyperparameters_are_one_line(name: str, override: dict) -> None:
    with pytest.raises(SteppeError) as error:
        resolve(name, override)
    assert "\n" not in str(error.value)
    assert "valid" in str(error.value)
