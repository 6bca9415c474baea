from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from suite.data.catalog import CIFAR10, CIFAR10_JPEG, DIGITS
from suite.data.sources import (
    DeclaredFile,
    DigitsSource,
    ImageFolderSource,
    ParquetSource,
    TorchvisionSource,
    folder_digest,
)
from suite.errors import SteppeError
from suite.files import file_digest

DATA = Path(os.environ["STEPPE_DATA"]) if os.environ.get("STEPPE_DATA") else None
needs_data = pytest.mark.skipif(DATA is None, reason="STEPPE_DATA is not set: no real data to read")
RNG = np.random.default_rng(0)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


# -- digits ------------------------------------------------------------------------------------------


def test_digits_have_a_fixed_balanced_test_set() -> None:
    one, again = DIGITS.source.load(None), DIGITS.source.load(None)
    assert one.train_x.shape == (1297, *DIGITS.shape)
    assert torch.bincount(one.test_y).tolist() == [50] * 10
    assert torch.equal(one.test_x, again.test_x)
    assert one.train_x.max() == 240  # 16 grey levels in steps of 15
    train = {image.numpy().tobytes() for image in one.train_x}
    assert not any(image.numpy().tobytes() in train for image in one.test_x)


def test_digits_normalisation_is_that_of_the_images() -> None:
    x = DIGITS.source.load(None).train_x / 255
    # Declared from all 1,797 images; 1,297 of them have the same moments to a few parts in a thousand.
    assert float(x.mean()) == pytest.approx(DIGITS.mean[0], abs=0.003)
    assert float(x.std()) == pytest.approx(DIGITS.std[0], abs=0.003)


def test_other_digits_than_declared_are_refused() -> None:
    with pytest.raises(SteppeError, match=r"declared is 0000.*requirements.lock"):
        DigitsSource(checksum="0" * 64).load(None)


# -- parquet -----------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path) -> tuple[Path, ParquetSource, dict[str, Any]]:
    """A data root with a parquet data set of 6 and 3 lossless images, and the truth."""
    (tmp_path / "set").mkdir()
    truth: dict[str, Any] = {}
    files = {}
    for part, n in (("train", 6), ("test", 3)):
        images = RNG.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)
        labels = RNG.integers(0, 10, n)
        rows = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]
        path = tmp_path / "set" / f"{part}.parquet"
        pq.write_table(pa.table({"img": rows, "label": labels}), path)
        truth[part] = (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
        files[part] = DeclaredFile(path.name, file_digest(path))
    return tmp_path, ParquetSource("set", shape=(3, 4, 5), **files), truth


def test_parquet_images_and_labels(parquet: tuple[Path, ParquetSource, dict[str, Any]]) -> None:
    root, source, truth = parquet
    assert source.available(root)
    arrays = source.load(root)
    for x, y, part in ((arrays.train_x, arrays.train_y, "train"), (arrays.test_x, arrays.test_y, "test")):
        assert x.dtype == torch.uint8
        assert y.dtype == torch.int64
        assert torch.equal(x, truth[part][0])
        assert torch.equal(y, truth[part][1])


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_corrupt_parquet_file_is_named(
    parquet: tuple[Path, ParquetSource, dict[str, Any]], damage: str
) -> None:
    root, source, _ = parquet
    path = root / "set" / "test.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-20])
    with pytest.raises(SteppeError, match=r"corrupt data file .*test\.parquet.*fresh copy") as raised:
        source.load(root)
    assert "\n" not in str(raised.value)


def test_a_missing_parquet_file(parquet: tuple[Path, ParquetSource, dict[str, Any]]) -> None:
    root, source, _ = parquet
    (root / "set" / "train.parquet").unlink()
    assert not source.available(root)
    assert not source.available(None)
    with pytest.raises(SteppeError, match=r"missing data file .*train\.parquet"):
        source.prepare(root)
    with pytest.raises(SteppeError, match="STEPPE_DATA"):
        source.load(None)


def test_parquet_images_of_another_size_are_refused(
    parquet: tuple[Path, ParquetSource, dict[str, Any]],
) -> None:
    root, source, _ = parquet
    wrong = ParquetSource("set", source.train, source.test, shape=(3, 5, 5))
    with pytest.raises(SteppeError, match="an image is 5 x 4, but the data set declares 5 x 5"):
        wrong.load(root)


def test_the_checksum_of_parquet_depends_on_both_files() -> None:
    files = [DeclaredFile("a", "1"), DeclaredFile("b", "2"), DeclaredFile("c", "3")]
    sums = {ParquetSource("f", a, b, (3, 4, 4)).checksum for a in files for b in files if a is not b}
    assert len(sums) == 6


@needs_data
def test_real_parquet() -> None:
    assert DATA is not None
    CIFAR10_JPEG.source.prepare(DATA)  # the declared checksums are those of the files
    folder = DATA / "cifar10-lossless-6k"
    names = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    train, test = (DeclaredFile(name, file_digest(folder / name)) for name in names)
    arrays = ParquetSource(folder.name, train, test, CIFAR10_JPEG.shape).load(DATA)
    assert arrays.train_x.shape == (5085, 3, 32, 32)
    assert arrays.test_x.shape == (1017, 3, 32, 32)
    # The first images of the official batches: a frog and a cat.
    assert (int(arrays.train_y[0]), int(arrays.test_y[0])) == (6, 3)
    means = (arrays.train_x.double() / 255).mean(dim=(0, 2, 3))
    # 5,085 of 50,000 images: the means of the whole set within three standard errors of about 0.002.
    np.testing.assert_allclose(means, CIFAR10.mean, atol=0.007)


# -- torchvision -------------------------------------------------------------------------------------


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder of batches as torchvision extracts them, tiny, with the sums that its class declares."""
    datasets = pytest.importorskip("torchvision.datasets")
    base = tmp_path / "cifar10" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    truth = {}

    def dump(name: str, content: dict[str, Any]) -> str:
        (base / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((base / name).read_bytes()).hexdigest()

    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for key, name in (
        ("train_list", "data_batch_1"),
        ("train_list", "data_batch_2"),
        ("test_list", "test_batch"),
    ):
        data = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
        truth[name] = data.reshape(-1, 3, 32, 32)
        lists[key].append([name, dump(name, {"data": data, "labels": [1, 2, 3, 4]})])
    meta = {"filename": "batches.meta", "key": "label_names"}
    meta["md5"] = dump("batches.meta", {"label_names": list("abcdefghij")})
    for key, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    return tmp_path, truth


def test_torchvision_batches(batches: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, truth = batches
    assert CIFAR10.source.available(root)
    arrays = CIFAR10.source.load(root)
    want = np.concatenate([truth["data_batch_1"], truth["data_batch_2"]])
    assert torch.equal(arrays.train_x, torch.from_numpy(want))
    assert torch.equal(arrays.test_x, torch.from_numpy(truth["test_batch"]))
    assert arrays.train_y.tolist() == [1, 2, 3, 4] * 2


def explode() -> None:
    pytest.fail("a stranger's pickle was loaded")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (explode, ())


def test_a_corrupt_batch_is_named_and_never_unpickled(batches: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, _ = batches
    path = root / "cifar10" / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        SteppeError, match=r"corrupt data file .*data_batch_2: delete .* run .steppe prepare"
    ) as raised:
        CIFAR10.source.load(root)
    assert "\n" not in str(raised.value)


def test_a_missing_batch_is_named(batches: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, _ = batches
    (root / "cifar10" / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(SteppeError, match=r"missing data file .*test_batch"):
        CIFAR10.source.load(root)


def test_a_failed_download_is_one_line(
    batches: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def download(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", download)
    with pytest.raises(SteppeError, match=r"cannot download CIFAR10.*no route to host"):
        CIFAR10.source.prepare(tmp_path / "elsewhere")


def test_the_declared_archive_is_torchvisions() -> None:
    from torchvision import datasets

    source = CIFAR10.source
    assert isinstance(source, TorchvisionSource)
    assert (source.checksum, source.base_folder) == (datasets.CIFAR10.tgz_md5, datasets.CIFAR10.base_folder)


# -- image folder ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, ImageFolderSource]:
    """Two classes; each image is one grey level with a white left edge that cropping to a square removes."""
    base = tmp_path / "pictures"
    for part, n in (("train", 3), ("val", 1)):
        for c, name in enumerate(("ant", "bee")):
            (base / part / name).mkdir(parents=True)
            for i in range(n):
                image = np.full((20, 40, 3), 50 + 100 * c + i, dtype=np.uint8)
                image[:, :5] = 255
                Image.fromarray(image).save(base / part / name / f"{i}.png")
    (base / "train" / "ant" / "notes.txt").write_text("not an image")
    return tmp_path, ImageFolderSource("pictures", (3, 10, 10), folder_digest(base))


def test_image_folder(folder: tuple[Path, ImageFolderSource]) -> None:
    root, source = folder
    arrays = source.load(root)
    assert arrays.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert arrays.test_y.tolist() == [0, 1]
    levels = torch.tensor([50, 51, 52, 150, 151, 152], dtype=torch.uint8)
    assert torch.equal(arrays.train_x, levels.view(6, 1, 1, 1).expand(6, 3, 10, 10))


def test_grey_images_of_a_folder(folder: tuple[Path, ImageFolderSource]) -> None:
    root, source = folder
    grey = ImageFolderSource(source.folder, (1, 8, 16), source.checksum)
    assert grey.load(root).train_x.shape == (6, 1, 8, 16)


def test_a_changed_image_folder_is_refused(folder: tuple[Path, ImageFolderSource]) -> None:
    root, source = folder
    shutil.copy(root / "pictures/train/ant/0.png", root / "pictures/train/ant/9.png")
    with pytest.raises(SteppeError, match=r"pictures has checksum .*declared is"):
        source.load(root)


def test_a_missing_image_folder(tmp_path: Path) -> None:
    source = ImageFolderSource("nowhere", (3, 10, 10), "")
    assert not source.available(tmp_path)
    with pytest.raises(SteppeError, match="no image folder nowhere with train/ and val/"):
        source.load(tmp_path)


def test_a_class_that_only_the_test_folder_has(folder: tuple[Path, ImageFolderSource]) -> None:
    root, source = folder
    shutil.copytree(root / "pictures/val/bee", root / "pictures/val/wasp")
    changed = ImageFolderSource(source.folder, source.shape, folder_digest(root / "pictures"))
    with pytest.raises(SteppeError, match=r"val/wasp has no counterpart in .*train"):
        changed.load(root)


@needs_data
def test_real_image_folder() -> None:
    assert DATA is not None
    name = "imagenet-sample"
    # The sample has no held-out part: its training part stands in for it.
    digest = folder_digest(DATA / name, ("train", "train"))
    arrays = ImageFolderSource(name, (3, 64, 64), digest, test="train").load(DATA)
    assert arrays.train_x.shape == (97, 3, 64, 64)
    assert sorted(arrays.train_y.tolist()) == list(range(97))
    assert 80 < float(arrays.train_x.float().mean()) < 160  # photographs, neither black nor white
