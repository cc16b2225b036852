"""Where inputs come from: sources, the decoded sets, the cache between them.

source ──> open_images ──> Stored(splits of ImageSet) ──> carve ──> train, val, test
"""

from ssl_lab.data.datamodule import ImageData
from ssl_lab.data.digits import DigitsSource
from ssl_lab.data.errors import DataError
from ssl_lab.data.folder import FolderSource
from ssl_lab.data.image_set import ImageSet
from ssl_lab.data.loader import BatchLoader
from ssl_lab.data.masks import MaskSource
from ssl_lab.data.photos import PhotosSource
from ssl_lab.data.shards import ShardSource, write_shards
from ssl_lab.data.source import Source
from ssl_lab.data.splits import Carved, carve, divide, set_aside
from ssl_lab.data.store import Stored, open_images
from ssl_lab.data.torchvision_source import TorchvisionSource

__all__ = [
    "BatchLoader",
    "Carved",
    "DataError",
    "DigitsSource",
    "FolderSource",
    "ImageData",
    "ImageSet",
    "MaskSource",
    "PhotosSource",
    "ShardSource",
    "Source",
    "Stored",
    "TorchvisionSource",
    "carve",
    "divide",
    "open_images",
    "set_aside",
    "write_shards",
]
