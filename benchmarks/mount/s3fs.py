"""s3fs-fuse as a system: a local cache of files, a large cache of attributes, the same bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks.mount.programs import find, version
from benchmarks.mount.system import Mounted, System, served
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench

OPTIONS = (
    "ro",
    "use_path_request_style",
    "listobjectsv2",
    # Attributes of all files stay, also of names that are not there.
    "max_stat_cache_size=2000000",
    "stat_cache_expire=86400",
    "enable_noobj_cache",
    # Objects here were not written by s3fs and have no mode of their own.
    "complement_stat",
    # Many requests at once.
    "parallel_count=32",
    "multireq_max=64",
    # The kernel keeps pages, names and attributes (options of FUSE that s3fs passes on).
    "kernel_cache",
    "attr_timeout=3600",
    "entry_timeout=3600",
    "negative_timeout=3600",
    "max_readahead=1048576",
)


def s3fs() -> System:
    """s3fs-fuse."""
    return System("s3fs", lambda: version("s3fs", "--version"), opened, opened)


@contextlib.contextmanager
def opened(bench: Bench, tree: Tree) -> Iterator[Mounted]:
    """Mounts the bucket; what is read for the first time fills the cache."""
    home, server = bench.directory / "machines" / f"s3fs-{tree.bucket}", bench.server
    (home / "tmp").mkdir(parents=True)
    keys = home / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"{server.access_key}:{server.secret_key}\n")
    places = (
        f"url={server.endpoint}",
        f"endpoint={server.region}",
        f"passwd_file={keys}",
        f"use_cache={home / 'cache'}",
        f"tmpdir={home / 'tmp'}",
    )
    options = ",".join((*OPTIONS, *places))
    command = [find("s3fs"), tree.bucket, str(home / "mnt"), "-f", "-o", options]
    with served(home / "mnt", command, home / "s3fs.log") as mounted:
        yield mounted
