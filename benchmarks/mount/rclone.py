"""rclone's mount as a system: VFS cache mode full, the same bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks.mount.programs import find, version
from benchmarks.mount.system import Mounted, System, served
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench

OPTIONS = (
    "--read-only",
    "--vfs-cache-mode=full",
    # Nothing leaves the cache, nothing is looked at again.
    "--vfs-cache-max-age=1000h",
    "--vfs-cache-max-size=off",
    "--vfs-cache-poll-interval=1h",
    "--dir-cache-time=1000h",
    "--poll-interval=0",
    # "If files don't change on the remote outside of the control of rclone then there is no
    # chance of corruption": the kernel may keep attributes.
    "--attr-timeout=1h",
    # "S3 and Swift benefit hugely"; each time of change would be a request.
    "--vfs-fast-fingerprint",
    "--no-modtime",
    "--no-checksum",
    # Advised for object stores: streams of chunks; a small buffer, the read-ahead on disk.
    "--vfs-read-chunk-size=4M",
    "--vfs-read-chunk-streams=16",
    "--buffer-size=16M",
    "--vfs-read-ahead=64M",
    "--max-read-ahead=1M",
)


def rclone() -> System:
    """rclone's mount."""
    return System("rclone", lambda: version("rclone", "version"), opened, opened)


@contextlib.contextmanager
def opened(bench: Bench, tree: Tree) -> Iterator[Mounted]:
    """Mounts the bucket; what is read for the first time fills the cache."""
    home = bench.directory / "machines" / f"rclone-{tree.bucket}"
    home.mkdir()
    (home / "rclone.conf").touch()
    places = (f"--cache-dir={home / 'cache'}", f"--config={home / 'rclone.conf'}")
    command = [find("rclone"), "mount", *OPTIONS, *places, f"src:{tree.bucket}", str(home / "mnt")]
    server = bench.server
    remote = {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ENDPOINT": server.endpoint,
        "REGION": server.region,
        "ACCESS_KEY_ID": server.access_key,
        "SECRET_ACCESS_KEY": server.secret_key,
    }
    environment = {f"RCLONE_CONFIG_SRC_{name}": value for name, value in remote.items()}
    with served(home / "mnt", command, home / "rclone.log", environment) as mounted:
        yield mounted
