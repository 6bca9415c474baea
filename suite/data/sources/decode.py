"""Decoding of image files into one array, shared by the sources of image files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.errors import SteppeError


def stack_images(
    files: Iterable[io.BytesIO | Path], n: int, shape: tuple[int, int, int], where: Path, *, resize: bool
) -> NDArray[np.uint8]:
    """Decode n images of `where` into one uint8 array (n, C, H, W).

    With `resize` an image is scaled until it just covers (H, W) and cropped at the centre; without it
    an image of another size raises SteppeError.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    out = np.empty((n, height, width, channels), dtype=np.uint8)
    for row, file in zip(out, files, strict=True):
        with Image.open(file) as opened:
            image = opened.convert(mode)
        if resize:
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        elif image.size != (width, height):
            size = f"{image.size[0]} x {image.size[1]}"
            raise SteppeError(f"{where}: an image is {size}, but the data set declares {width} x {height}")
        row[...] = np.asarray(image, dtype=np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2))
