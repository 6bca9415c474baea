import json

import pytest
from msgspec.structs import replace

from suite.errors import SteppeError
from suite.space import Choice, LogUniform, Space, Uniform, Value
from suite.spec import EntryRef, Param, RunSpec, canonical_json, check_params, resolve_params

LR = Param(0.1, "learning rate", low=0, search=LogUniform(1e-3, 1.0))
PARAMS = {
    "base": Param(
        "sgd",
        "base optimizer",
        choices=("sgd", "adam"),
        implies={"adam": {"lr": 1e-3, "momentum": 0.0}},
    ),
    "lr": LR,
    "momentum": Param(0.9, "momentum", low=0, high=1, high_open=True),
    "k": Param(1, "pairs", low=1),
    "adaptive": Param(False, "adaptive"),
}


def spec(**changes: object) -> RunSpec:
    first = RunSpec(
        task=EntryRef("digits-cnn", "1", {}),
        optimizer=EntryRef("sgd", "1", {"lr": 0.1, "momentum": 0.9, "nesterov": False}),
        seed=3,
        data="digits",
        data_checksum="abc",
        epochs=20.0,
    )
    return replace(first, **changes)


def test_canonical_json_is_one_text() -> None:
    assert canonical_json({"b": 1, "a": [True, 1.5, "é"]}) == '{"a":[true,1.5,"\\u00e9"],"b":1}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_run_id_is_golden() -> None:
    # Stored runs are found by id: a change here orphans every store and needs a new protocol version.
    assert spec().run_id == "b5070fee834eb5bd"


def test_run_id_does_not_depend_on_the_order_of_parameters() -> None:
    turned = EntryRef("sgd", "1", {"nesterov": False, "momentum": 0.9, "lr": 0.1})
    assert spec(optimizer=turned).run_id == spec().run_id
    assert spec(optimizer=turned) == spec()
    assert hash(spec(optimizer=turned)) == hash(spec())


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"epochs": 40.0},
        {"data": "digits-2"},
        {"data_checksum": "abd"},
        {"protocol": "fair-0.1"},
        {"engine": 1},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"threads": 2},
        {"compile": True},
        {"ranks": 2},
        {"task": EntryRef("digits-cnn", "2", {})},
        {"optimizer": EntryRef("sgd", "1", {"lr": 0.2, "momentum": 0.9, "nesterov": False})},
        {"optimizer": EntryRef("sgd", "1", {"lr": 0.1, "momentum": 0.9, "nesterov": False}, "f00d")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_everything_that_shapes_a_run_enters_its_id(changes: dict[str, object]) -> None:
    assert spec(**changes).run_id != spec().run_id


def test_spec_survives_json() -> None:
    original = spec(
        optimizer=EntryRef("mine", "1", {"lr": 0.1, "k": 2, "adaptive": True, "base": "sgd"}, "f00d")
    )
    again = RunSpec.from_dict(json.loads(json.dumps(original.to_dict())))
    assert again == original
    assert again.run_id == original.run_id
    assert again.optimizer.plugin_source == "f00d"


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"seed": None}, "seed"),
        ({"task": None}, "task"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_spec_is_refused(broken: dict[str, object], named: str) -> None:
    raw = {**spec().to_dict(), **broken}
    raw = {key: value for key, value in raw.items() if value is not None}
    with pytest.raises(SteppeError, match=f"not a run spec.*{named}"):
        RunSpec.from_dict(raw)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-2", 0.01),
        ("lr", "1", 1.0),
        ("lr", 1, 1.0),
        ("k", " 3 ", 3),
        ("adaptive", "True", True),
        ("adaptive", "no", False),
        ("base", "adam", "adam"),
    ],
)
def test_text_is_read_in_the_type_of_the_default(name: str, text: Value, value: Value) -> None:
    read = PARAMS[name].resolve(name, text, "sam")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", "-0.1", r"sam: lr=-0.1 is out of range; valid: \[0, inf\)"),
        ("lr", "nan", "lr=nan is out of range"),
        ("lr", "inf", "lr=inf is out of range"),
        ("lr", "fast", "lr=fast is not a number"),
        ("lr", True, "lr=True is not a number"),
        ("momentum", "1", r"momentum=1 is out of range; valid: \[0, 1\)"),
        ("k", "1.5", "k=1.5 is not a whole number"),
        ("k", 2.0, "k=2.0 is not a whole number"),
        ("k", True, "k=True is not a whole number"),
        ("adaptive", "maybe", "adaptive=maybe is not a boolean"),
        ("base", "lion", "base=lion is not a choice; valid: sgd, adam"),
        ("base", 3, "base=3 is not a text"),
    ],
)
def test_bad_value_is_one_clear_line(name: str, value: Value, message: str) -> None:
    with pytest.raises(SteppeError, match=message) as caught:
        PARAMS[name].resolve(name, value, "sam")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "param",
    [
        Param(0.1),
        Param(0.1, low=0, search=LogUniform(1e-3, 1.0, zero=True)),
        Param(0.1, low=1e-3, high=1.0, search=LogUniform(1e-3, 1.0)),
        Param(0.1, low=0, high=1, high_open=True, search=Choice((0.5, 0.9))),
        Param(0.1, search=Choice((1, 10))),
        Param(1, low=1, search=Choice((1, 2, 4))),
        Param(False, search=Choice((False, True))),
        Param("a", choices=("a", "b", "c"), search=Choice(("a", "c"))),
    ],
    ids=repr,
)
def test_search_spaces_of_valid_values_are_taken(param: Param) -> None:
    check_params({"x": param}, "mine.py: mine")


INT = "is not a whole number"


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (Param(0.1, high=0.5, search=LogUniform(1e-3, 1)), r"x=1.0 is out of range; valid: \(-inf, 0.5\]"),
        (Param(0.1, low=0.01, search=LogUniform(1e-3, 1)), r"x=0.001 is out of range; valid: \[0.01, inf\)"),
        (Param(0.1, low=0, low_open=True, search=LogUniform(1e-3, 1, zero=True)), r"x=0.0 is out of range"),
        (Param(0.1, low=0, high=1, high_open=True, search=Uniform(0, 1)), r"x=1.0 is out of range"),
        (Param(0.1, low=0, search=Uniform(-1, 1)), r"x=-1.0 is out of range"),
        (Param(0.1, high=1, search=Choice((0.5, 2.0, 1.0))), r"x=2.0 is out of range"),
        (Param(0.1, choices=(0.1, 1.0), search=LogUniform(0.1, 1)), "x is one of 0.1, 1.0"),
        (Param(0.1, choices=(0.1, 1.0), search=Choice((0.1, 0.5))), "x=0.5 is not a choice; valid: 0.1, 1.0"),
        (Param(0.1, search=Choice(("0.1", "0.2"))), "x='0.1' is not a number"),
        (Param(0.1, search=Choice((True, False))), "x=True is not a number"),
        (Param(4, search=LogUniform(1, 8)), f"x=1.0 {INT}"),
        (Param(4, search=Choice((1, 2.0))), f"x=2.0 {INT}"),
        (Param(False, search=Choice((0, 1))), "x=0 is not a boolean"),
        (Param(False, search=Choice(("no", "yes"))), "x='no' is not a boolean"),
        (Param("a", search=Uniform(0, 1)), "x=0.0 is not a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_search_space_with_a_value_that_is_not_valid_is_one_clear_line(param: Param, message: str) -> None:
    # The error names the invalid value, even if the space also has valid ones.
    params = {"other": LR, "x": param}
    with pytest.raises(SteppeError, match=rf"^mine\.py: mine: {message}") as caught:
        check_params(params, "mine.py: mine")
    assert str(caught.value).endswith(f", but its search space is {param.search}: keep it to valid values")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("search", ["log-uniform [1e-3, 1]", "", (0.1, 0.2)])
def test_search_that_is_no_space_is_refused(search: Space) -> None:
    with pytest.raises(
        SteppeError, match=r"^mine: the search space of x is .*; valid: LogUniform\(low, high\)"
    ):
        check_params({"x": Param(0.1, search=search)}, "mine")


def test_range_text() -> None:
    assert Param(0.5, low=0, high=1, low_open=True).range_text() == "(0, 1]"
    assert Param(0.5).range_text() == "(-inf, inf)"


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(SteppeError, match="unknown parameter of sam 'momentun'; did you mean 'momentum'"):
        resolve_params(PARAMS, {"momentun": "0.5"}, "sam")


def test_implied_defaults_give_way_to_explicit_values() -> None:
    assert resolve_params(PARAMS, {}, "sam")["lr"] == 0.1
    adam = resolve_params(PARAMS, {"base": "adam"}, "sam")
    assert (adam["lr"], adam["momentum"], adam["k"]) == (1e-3, 0.0, 1)
    explicit = resolve_params(PARAMS, {"base": "adam", "lr": "0.01"}, "sam")
    assert (explicit["lr"], explicit["momentum"]) == (0.01, 0.0)


def test_implied_defaults_are_checked_too() -> None:
    bad = {"mode": Param("a", choices=("a", "b"), implies={"b": {"lr": -1.0}}), "lr": LR}
    with pytest.raises(SteppeError, match=r"lr=-1\.0 is out of range"):
        resolve_params(bad, {"mode": "b"}, "x")


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ({}, "sam"),
        ({"lr": "0.2"}, "sam[lr=0.2]"),
        ({"adaptive": "true", "k": "2"}, "sam[adaptive=true,k=2]"),
        ({"base": "adam"}, "sam[base=adam]"),
        ({"base": "adam", "lr": "0.1"}, "sam[base=adam,lr=0.1]"),
        ({"base": "adam", "lr": "0.001"}, "sam[base=adam]"),
    ],
)
def test_label_is_the_shortest_selector_that_gives_the_entry(
    overrides: dict[str, Value | str], label: str
) -> None:
    reference = EntryRef("sam", "1", resolve_params(PARAMS, overrides, "sam"))
    assert reference.label(PARAMS) == label
    inside = label[4:-1]
    again = resolve_params(PARAMS, dict(pair.split("=") for pair in inside.split(",") if pair), "sam")
    assert again == reference.params


def test_label_without_declarations_shows_everything() -> None:
    assert EntryRef("sgd", "1", {"nesterov": True, "lr": 0.1}).label() == "sgd[lr=0.1,nesterov=true]"
    assert EntryRef("sgd", "1", {}).label() == "sgd"
