"""Every built-in task, the members of families and the examples of other kinds, through the battery."""

import os
from pathlib import Path

import pytest

from suite.conformance import Check, check_task
from suite.entries.registry import Registry
from suite.entries.select import parse_selector
from suite.errors import SteppeError
from tests.conformance.plugins import write

PLUGINS = Path(__file__).parents[1] / "plugins"
DATA = os.environ.get("STEPPE_DATA")
REGISTRY = Registry(PLUGINS / f"{name}.py" for name in ("tiny", "edge", "pairs", "sensing", "tokens"))

OFFLINE = ["tiny", "digits-cnn", "edge", "pairs", "matrix-sensing", "tokens"]
CIFAR10 = [
    "cifar10-resnet8-5k",
    "cifar10-resnet8-5k-label-noise",
    "cifar10-resnet8-5k-label-noise[kind=uniform,noise=0.2]",
    "cifar10-resnet8-5k-width[width=4]",
    "cifar10-resnet20",
    "cifar10-resnet20[augment=false]",
    "cifar10-resnet18",
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def checks_of(text: str, root: Path | None, cache: Path | None = None) -> list[Check]:
    selector = parse_selector(text)
    (overrides,) = selector.grid()
    return check_task(REGISTRY.task(selector.pattern), root, overrides, cache)


def broken_in(checks: list[Check]) -> str:
    return "\n".join(f"{check.promise}: {check.message}" for check in checks if not check.ok)


@pytest.mark.parametrize("text", OFFLINE)
def test_offline_tasks_keep_their_promises(text: str) -> None:
    assert not broken_in(checks_of(text, None))


@pytest.mark.skipif(DATA is None, reason="STEPPE_DATA names no folder of data sets")
@pytest.mark.parametrize("text", CIFAR10)
def test_tasks_with_data_keep_their_promises(text: str, cache: Path) -> None:
    assert DATA is not None
    assert not broken_in(checks_of(text, Path(DATA), cache))


@pytest.mark.parametrize("text", CIFAR10)
def test_without_data_all_else_of_images_is_judged(text: str) -> None:
    broken = [check for check in checks_of(text, None) if not check.ok]
    assert [check.promise for check in broken] == ["finds its data whole"]
    name = parse_selector(text).pattern
    assert f"run `steppe prepare {name}`" in broken[0].message


def test_every_entry_is_covered() -> None:
    assert {parse_selector(text).pattern for text in OFFLINE + CIFAR10} == set(REGISTRY.tasks)


def test_what_is_said_of_tasks_of_other_kinds() -> None:
    def message(text: str, promise: str) -> str:
        return next(check.message for check in checks_of(text, None) if check.promise == promise)

    assert message("edge", "is well formed") == (
        "12 epochs, all examples in every step; compared by loss, lower is better"
    )
    assert message("edge", "concludes what it declares") == (
        "column lr_sharpness, fact rises, profile interpolation of 11 points"
    )
    assert message("pairs", "adds up over slices").startswith("a joint loss: ")
    assert message("pairs", "leaves the test splits alone").startswith("test, noisier, mirrored: not read")
    assert message("tokens", "sums its losses to its loss").endswith("a mean over 33 units")
    assert message("tokens", "names its last layer") == "head.weight, head.bias"
    assert message("tokens", "takes the last mini-batch") == (
        "a training step runs on the 8 examples at the end of an epoch"
    )
    assert message("matrix-sensing", "runs in its precisions") == "fp64, fp32"


def test_the_scaffold_of_a_task_fails_until_its_model_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, "task", "my-images")
    before = check_task(Registry([path]).task("my-images"), None)
    assert [check.ok for check in before] == [True, False]
    assert "the model is still to be written: fill in `model`" in before[-1].message
    text = path.read_text()
    start = text.index("    raise SteppeError(")
    end = text.index("\n", start)
    model = "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))"
    path.write_text(text[:start] + model + text[end:])
    assert not broken_in(check_task(Registry([path]).task("my-images"), None))


def test_unknown_parameters_are_the_users_mistake() -> None:
    (check,) = checks_of("tiny[epochs=0]", None)
    assert "epochs=0 is out of range" in check.message
    with pytest.raises(SteppeError, match="unknown task"):
        checks_of("tinny", None)
