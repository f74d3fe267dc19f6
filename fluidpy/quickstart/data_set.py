"""A small but real data set, made by code: JPEG images by class, a Parquet table, tar shards.

The same seed gives the same bytes. Random pixels do not compress, so sizes are as in real life.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

SEED: Final = 20
CLASSES: Final = ("cats", "dogs", "foxes", "owls")
IMAGES: Final = 720
IMAGE_PIXELS: Final = 224
"""Width and height; what most image classifiers take."""
TABLE_ROWS: Final = 900_000
SHARDS: Final = 4
SHARD_SAMPLES: Final = 40
SAMPLE_BYTES: Final = 200_000


def images() -> Iterator[tuple[str, bytes]]:
    """`CLASS/NUMBER.jpg` and its bytes, about 31 KB each."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(SEED)
    for number in range(IMAGES):
        pixels: NDArray[numpy.uint8] = random.integers(
            0, 256, (IMAGE_PIXELS, IMAGE_PIXELS, 3), dtype=np.uint8
        )
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=75)
        yield f"{CLASSES[number % len(CLASSES)]}/{number:04d}.jpg", stream.getvalue()


def write_table(path: Path) -> None:
    """A Parquet table of three random columns, about 20 MB."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(SEED)
    table = pd.DataFrame(
        {
            "sample": np.arange(TABLE_ROWS, dtype=np.int64),
            "score": random.random(TABLE_ROWS),
            "weight": random.random(TABLE_ROWS),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, row_group_size=TABLE_ROWS // 8)


def write_shards(directory: Path) -> None:
    """Tar files as WebDataset has them: samples of a binary and a text file, 8 MB a shard."""
    import numpy as np

    random = np.random.default_rng(SEED)
    directory.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        with tarfile.open(directory / f"{shard:04d}.tar", "w") as archive:
            for sample in range(SHARD_SAMPLES):
                name = f"{shard:04d}-{sample:04d}"
                _add(archive, f"{name}.bin", random.bytes(SAMPLE_BYTES))
                _add(archive, f"{name}.cls", str(sample % len(CLASSES)).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
