"""Parameters, optimizer entries, and the fully resolved spec of a run, whose hash is the run's id."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from suite import ENGINE, PROTOCOL
from suite.errors import SteppeError, unknown
from suite.space import Choice, Space, Value

if TYPE_CHECKING:
    import torch

    from suite.parameters import Parameters
    from suite.seeds import NormalStream

TIERS = ("smoke", "small", "full")
PRECISIONS = ("fp32", "tf32", "bf16", "fp64")


@dataclass(frozen=True)
class Param:
    """One declared parameter of a task or an optimizer: its default, range and search space.

    `implies` gives conditional defaults: value v of this parameter replaces the defaults of the parameters
    named in implies[v] (an explicit value takes precedence), so that presets and base optimizers are options
    of an entry rather than separate entries.
    """

    default: Value
    help: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    search: Space | None = None
    implies: Mapping[Value, Mapping[str, Value]] = field(default_factory=dict)
    low_open: bool = False
    high_open: bool = False

    def resolve(self, name: str, value: Value | str, owner: str) -> Value:
        """Return `value` (text is parsed) in the type of the default, or raise a one-line error.

        >>> Param(0.1, low=0).resolve("lr", "5e-2", "optimizer sgd")
        0.05
        """
        where = f"{owner}: {name}={value}"
        parsed = _parse(value, self.default, where)
        if self.choices and parsed not in self.choices:
            raise SteppeError(f"{where} is not a choice; valid: {', '.join(map(str, self.choices))}")
        if isinstance(parsed, int | float) and not isinstance(parsed, bool) and not self._inside(parsed):
            raise SteppeError(f"{where} is out of range; valid: {self.range_text()}")
        return parsed

    def check_search(self, name: str, owner: str) -> None:
        """Raise a one-line error if the search space contains an invalid value of this parameter."""
        search: object = self.search
        if search is None:
            return
        if not isinstance(search, Space):  # a plugin's file is not type-checked
            raise SteppeError(
                f"{owner}: the search space of {name} is {search!r}; valid: LogUniform(low, high), "
                f"Uniform(low, high) or Choice(values) of suite.space"
            )
        try:
            if self.choices and not isinstance(search, Choice):
                raise SteppeError(f"{owner}: {name} is one of {', '.join(map(str, self.choices))}")
            for value in search.extremes():
                if isinstance(value, str) and not isinstance(self.default, str):  # `resolve` would parse it
                    raise SteppeError(f"{owner}: {name}={value!r} is not {_TYPE_NAMES[type(self.default)]}")
                self.resolve(name, value, owner)
        except SteppeError as error:
            raise SteppeError(f"{error}, but its search space is {search}: keep it to valid values") from None

    def _inside(self, value: float) -> bool:
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        below = self.high is None or (value < self.high if self.high_open else value <= self.high)
        return math.isfinite(value) and above and below

    def range_text(self) -> str:
        """Return the valid range in interval notation.

        >>> Param(0.9, low=0, high=1, high_open=True).range_text()
        '[0, 1)'
        """
        left = "(" if self.low_open or self.low is None else "["
        right = ")" if self.high_open or self.high is None else "]"
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{left}{low}, {high}{right}"


def _parse(value: Value | str, default: Value, where: str) -> Value:
    kind = type(default)
    if isinstance(value, str) and kind is not str:
        text = value.strip().lower()
        try:
            if kind is bool:
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text]
            return int(text) if kind is int else float(text)
        except (KeyError, ValueError):
            raise SteppeError(f"{where} is not {_TYPE_NAMES[kind]}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise SteppeError(f"{where} is not {_TYPE_NAMES[kind]}")
    return value


_TYPE_NAMES: dict[type, str] = {
    bool: "a boolean (true or false)",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def resolve_params(
    params: Mapping[str, Param], overrides: Mapping[str, Value | str], owner: str
) -> dict[str, Value]:
    """Resolve every declared parameter: its explicit value, else its implied default, else its default.

    >>> base = Param("sgd", choices=("sgd", "adam"), implies={"adam": {"lr": 1e-3}})
    >>> resolve_params({"base": base, "lr": Param(0.1)}, {"base": "adam"}, "optimizer sam")
    {'base': 'adam', 'lr': 0.001}
    """
    for name in overrides:
        if name not in params:
            raise unknown(f"parameter of {owner}", name, params)
    given = {name: params[name].resolve(name, value, owner) for name, value in overrides.items()}
    implied: dict[str, Value] = {}
    for name, param in params.items():
        implied.update(param.implies.get(given.get(name, param.default), {}))
    return {
        name: given[name] if name in given else param.resolve(name, implied.get(name, param.default), owner)
        for name, param in params.items()
    }


def check_params(params: Mapping[str, Param], owner: str) -> None:
    """Raise SteppeError if a search space contains an invalid value of its parameter."""
    for name, param in params.items():
        param.check_search(name, owner)


@dataclass(frozen=True)
class BuildContext:
    """Properties of the run that the engine passes to an optimizer's `build`, besides hyperparameters."""

    total_steps: int
    noise: NormalStream
    """The run's `perturb` stream: `noise.fill_(out, *counters)` writes standard normals."""


def _nothing(hyper: Mapping[str, Any]) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class OptimizerSpec:
    """An entry of baselines/: a training algorithm with defaults, search space, version and declared cost.

    `cost(hyper)` is in sample-gradients per example and step and is checked against the meter. `build`
    gets the parameters of the model with their names and modules, the resolved hyperparameters and the
    context. At the overrides `zero` the method must equal its base optimizer bit for bit (rule 11).
    """

    name: str
    version: str
    summary: str
    source: str
    params: Mapping[str, Param]
    cost: Callable[[Mapping[str, Any]], float]
    build: Callable[[Parameters, Mapping[str, Any], BuildContext], torch.optim.Optimizer]
    zero: Mapping[str, Value] = field(default_factory=dict)
    perturbs: bool = False
    """Whether gradients are taken at perturbed weights (low precision then records a cosine, rule 6)."""
    needs: Callable[[Mapping[str, Any]], Collection[str]] = _nothing
    """Capabilities that the method needs at these hyperparameters: names in `suite.task.CAPABILITIES`."""


_Said = TypeVar("_Said")


def cost_of(entry: OptimizerSpec, hyper: Mapping[str, Any]) -> float:
    """Return the cost that an entry declares, in sample-gradients per example and step."""
    cost = _told(entry, "cost", lambda: float(entry.cost(hyper)))
    if not 0 < cost < math.inf:
        raise SteppeError(
            f"optimizer {entry.name}: its cost is {cost:g}; valid: a number above 0, of sample-gradients per "
            "example and step; correct the `cost` of its entry"
        )
    return cost


def needs_of(entry: OptimizerSpec, hyper: Mapping[str, Any]) -> list[str]:
    """Return the sorted names of the capabilities that an entry needs of a task."""
    return _told(entry, "needs", lambda: _names_of(entry, entry.needs(hyper)))


def _names_of(entry: OptimizerSpec, needs: Collection[str]) -> list[str]:
    if isinstance(needs, str):  # a str is a collection of one-letter names
        raise SteppeError(
            f"optimizer {entry.name}: its needs are the text {needs!r}; valid: a tuple of names, ({needs!r},)"
        )
    return sorted(needs)


def _told(entry: OptimizerSpec, what: str, ask: Callable[[], _Said]) -> _Said:
    """Call `ask`; an error in it becomes a SteppeError that names the entry."""
    try:
        return ask()
    except SteppeError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SteppeError(
            f"optimizer {entry.name} cannot tell its {what}: {reason}; correct the `{what}` of its entry"
        ) from error


def canonical_json(value: object) -> str:
    """Return the canonical text of a JSON value, the input of every hash of a spec.

    >>> canonical_json({"seed": 1, "params": [0.1, True]})
    '{"params":[0.1,true],"seed":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


EntryName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*\Z")]
"""Name of a task or an optimizer; it is part of file names, so it contains no path separator."""


class EntryRef(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A resolved entry of a run: name, version, every parameter, and for a plugin its source hash."""

    name: EntryName
    version: str
    params: Mapping[str, Value]
    plugin_source: str | None = None

    def label(self, declared: Mapping[str, Param] | None = None) -> str:
        """Return the selector of this entry, with only the parameters that differ from their defaults."""
        shown = dict(self.params)
        if declared is not None:
            # Defaults depend on the parameters with `implies`, so these are resolved first.
            defaults = resolve_params(
                declared, {k: v for k, v in shown.items() if declared[k].implies}, self.name
            )
            shown = {
                k: v
                for k, v in shown.items()
                if v != (declared[k].default if declared[k].implies else defaults[k])
            }
        inside = ",".join(f"{key}={_text(value)}" for key, value in sorted(shown.items()))
        return f"{self.name}[{inside}]" if inside else self.name


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One task x optimizer x hyperparameters x seed, fully resolved; equal specs are the same run.

    `epochs` is the budget after stretching (1x, 2x, 4x, or equal sample-gradients) and may be
    fractional. A plugin's path is not included: its source hash identifies it.
    """

    task: EntryRef
    optimizer: EntryRef
    seed: Annotated[int, Meta(ge=0)]
    data: str
    data_checksum: str
    epochs: Annotated[float, Meta(gt=0)]
    protocol: str = PROTOCOL
    engine: Annotated[int, Meta(ge=1)] = ENGINE
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Meta(ge=1)] = 1
    compile: bool = False
    ranks: Annotated[int, Meta(ge=1)] = 1
    """Processes that share every mini-batch; BatchNorm normalises over the slice of each process."""

    def to_dict(self) -> dict[str, Any]:
        """Convert the spec to plain JSON data, the content of spec.json."""
        out: dict[str, Any] = msgspec.to_builtins(self)
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunSpec:
        """Parse the output of `to_dict`; raises SteppeError that names the invalid field."""
        try:
            return msgspec.convert(raw, cls)
        except msgspec.ValidationError as error:
            raise SteppeError(f"not a run spec: {error}") from None

    def __hash__(self) -> int:
        return hash(self.run_id)

    @cached_property
    def run_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of the spec."""
        return sha256_text(canonical_json(self.to_dict()))[:16]
