from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.data import cache as cache_module
from suite.data.cache import load_cached
from suite.data.dataset import Dataset
from suite.data.source import Arrays
from suite.errors import SteppeError
from tests.suite.data.fakes import FakeSource, fake_dataset

DATASET = fake_dataset()


def folder_of(cache: Path) -> Path:
    (folder,) = [path for path in cache.iterdir() if not path.name.startswith(".")]
    return folder


def assert_right(cache: Path, dataset: Dataset = DATASET) -> None:
    truth = dataset.source.load(None)
    for part, x, y in (("train", truth.train_x, truth.train_y), ("test", truth.test_x, truth.test_y)):
        images, labels = load_cached(dataset, part, None, cache)
        assert torch.equal(images, x)
        assert torch.equal(labels, y)


def test_a_filled_cache_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = load_cached(DATASET, "train", None, tmp_path)
    monkeypatch.setattr(FakeSource, "load", lambda self, root: pytest.fail("decoded again"))
    for _ in range(2):
        again, labels_again = load_cached(DATASET, "train", None, tmp_path)
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    assert len(load_cached(DATASET, "test", None, tmp_path)[1]) == 40


def test_writing_to_what_was_read_does_not_reach_the_file(tmp_path: Path) -> None:
    assert_right(tmp_path)
    load_cached(DATASET, "train", None, tmp_path)[0].zero_()
    assert_right(tmp_path)


def test_another_checksum_or_shape_is_another_folder(tmp_path: Path) -> None:
    assert_right(tmp_path)
    assert_right(tmp_path, fake_dataset(checksum="fake-2", n_train=100))
    assert_right(tmp_path, fake_dataset(shape=(3, 4, 4)))


@pytest.mark.parametrize("name", ["train_x.npy", "train_y.npy", "test_x.npy", "sha256.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty", "other"])
def test_a_damaged_cache_is_built_anew(tmp_path: Path, name: str, damage: str) -> None:
    assert_right(tmp_path)
    path = folder_of(tmp_path) / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        spoiled = bytearray(content)
        spoiled[-3] ^= 0x40
        half = content[: len(content) // 2]
        path.write_bytes({"truncate": half, "flip": spoiled, "empty": b"", "other": b"[1]"}[damage])
        os.utime(path, ns=(1, 1))  # a damage within the clock's tick of the writing
    assert_right(tmp_path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [folder_of(tmp_path).name]


def test_a_pickle_in_the_cache_is_never_loaded(tmp_path: Path) -> None:
    assert_right(tmp_path)
    folder = folder_of(tmp_path)
    np.save(folder / "train_y.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    sums = folder / "sha256.json"
    sums.write_text(sums.read_text().replace(_sum(sums, "train_y.npy"), _digest(folder / "train_y.npy")))
    assert_right(tmp_path)


def _sum(sums: Path, name: str) -> str:
    return str(json.loads(sums.read_text())[name])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_killed_while_writing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        load_cached(DATASET, "train", None, tmp_path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    os.utime(left, (1, 1))  # long ago: nobody works on it any more
    assert_right(tmp_path)
    assert not left.exists()


def test_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(4)
    load = FakeSource.load

    def slow(self: FakeSource, root: Path | None) -> Arrays:
        barrier.wait()  # all find the cache empty, all write
        return load(self, root)

    got: list[bool] = []
    truth = DATASET.source.load(None).train_x
    monkeypatch.setattr(FakeSource, "load", slow)

    def read() -> None:
        got.append(torch.equal(load_cached(DATASET, "train", None, tmp_path)[0], truth))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(FakeSource, "load", load)
    assert got == [True] * 4
    assert_right(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_costs_time_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, array: object, allow_pickle: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "save", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert_right(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_its_declaration_is_named(tmp_path: Path) -> None:
    honest = fake_dataset()
    liar = Dataset("liar", FakeSource(shape=(3, 6, 6)), 4, honest.shape, honest.mean, honest.std)
    with pytest.raises(SteppeError, match=r"liar.*\(3, 6, 6\).*\(3, 8, 8\)"):
        load_cached(liar, "train", None, tmp_path)
