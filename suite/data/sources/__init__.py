"""Sources of images. Each declares its checksum and verifies it before it decodes.

Importing this loads no torch, torchvision, scikit-learn or pyarrow, so that `plan` and `list` are quick.
"""

from suite.data.sources.digits import DigitsSource
from suite.data.sources.image_folder import ImageFolderSource, folder_digest
from suite.data.sources.parquet import DeclaredFile, ParquetSource
from suite.data.sources.torchvision_batches import TorchvisionSource

__all__ = [
    "DeclaredFile",
    "DigitsSource",
    "ImageFolderSource",
    "ParquetSource",
    "TorchvisionSource",
    "folder_digest",
]
