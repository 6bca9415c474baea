"""Profiles: those that come along, one's own, and each way in which a file can be wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from slurm import profiles
from slurm.profiles import Profile
from suite.errors import SteppeError

ROOT = Path(profiles.__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_own_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(profiles.VARIABLE, raising=False)


@pytest.mark.parametrize("name", sorted(path.stem for path in profiles.FOLDER.glob("*.toml")))
def test_every_example_is_sound_and_survives_the_way_to_disk_and_back(name: str) -> None:
    profile = profiles.load(name)
    assert profile.name == name
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile


def test_the_examples_are_installed_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "profiles/*.toml" in project["tool"]["setuptools"]["package-data"]["slurm"]


def test_what_a_profile_says_is_what_it_means() -> None:
    profile = profiles.load("multi-gpu")
    assert (profile.device, profile.gpus, profile.side_by_side) == ("cuda", 4, 4)
    assert profile.extra == {"exclusive": True}
    assert Profile(name="x", gpus=2).side_by_side == 2
    assert Profile(name="x").device == "cpu"
    assert Profile(name="x", time_min=10, signal_s=90).usable_s == 510


def test_ones_own_folder_comes_first_and_a_path_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu.toml").write_text("partition = 'mine'\npack_min = 5")
    monkeypatch.setenv(profiles.VARIABLE, str(tmp_path))
    assert profiles.load("gpu").partition == "mine"
    assert profiles.load("gpu").pack_min == 5.0
    assert profiles.load("cpu").partition == ""
    monkeypatch.delenv(profiles.VARIABLE)
    assert profiles.load(str(tmp_path / "gpu.toml")).partition == "mine"


def test_an_unknown_name_gets_the_nearest_and_all_there_are() -> None:
    with pytest.raises(SteppeError, match=r"unknown profile 'testbet'; did you mean 'testbed'\?.*cpu, gpu"):
        profiles.load("testbet")


def test_a_path_without_a_file_is_named() -> None:
    with pytest.raises(SteppeError, match=r"no profile /nowhere/a\.toml; there are: .*testbed"):
        profiles.load("/nowhere/a.toml")


def test_a_home_of_nobody_is_no_profile() -> None:
    with pytest.raises(SteppeError, match=r"no profile ~nobody-such/x\.toml; there are: .*testbed"):
        profiles.load("~nobody-such/x.toml")


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profiles.VARIABLE, "/nowhere")
    with pytest.raises(SteppeError, match="no folder /nowhere, which STEPPE_PROFILES names"):
        profiles.load("cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition = ", r"mine\.toml is not TOML"),
        ("partitions = 'x'", "unknown key in profile .*'partitions'; did you mean 'partition'"),
        ("name = 'x'", "remove the key name"),
        ("gpus = 'two'", "gpus = 'two': Expected `int`, got `str`"),
        ("gpus = true", "gpus = True: Expected `int`, got `bool`"),
        ("gpus = -1", "gpus = -1: Expected `int` >= 0"),
        ("time_min = 0", "time_min = 0: Expected `int` >= 1"),
        ("pack_min = 'long'", "pack_min = 'long': Expected `float`"),
        ("pack_min = nan", "pack_min = nan: Expected `float` >= 0"),
        ("partition = 3", "partition = 3: Expected `str`, got `int`"),
        ("setup = 'module load cuda'", "setup = 'module load cuda': Expected `array`"),
        ('setup = ["a\\nb"]', "line break"),
        ("memory = '16 gigs'", "memory = '16 gigs' is no amount; write 500M or 16G"),
        ("gpu_type = 'a100'", "gpu_type = 'a100' without gpus"),
        ("signal_s = 0", "signal_s = 0: Expected `int` >= 1"),
        ("time_min = 2", "signal_s = 120 is not within time_min = 2"),
        ("extra = 3", "extra = 3: Expected `object`"),
        ("extra = {nice = false}", "extra.nice = False is not a text"),
        ("extra = {array = '0-3'}", "extra.array is set by dispatch itself"),
        ("extra = {mem = '3G'}", "extra.mem has a key of its own; use memory"),
        ("extra = {'--nice' = '3'}", "write nice, not --nice"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SteppeError, match=words) as caught:
        profiles.load(str(path))
    assert "\n" not in str(caught.value)
    assert "mine" in str(caught.value)
