"""JuiceFS as a system: its own format in the same source, metadata in Redis, cache on disk."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from benchmarks.mount.juicefs_names import write_dump
from benchmarks.mount.names import Names
from benchmarks.mount.programs import find, version
from benchmarks.mount.system import Mounted, Open, System, served
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench
from fluidpy.testing.servers.process_group import free_ports, server_process, wait_until

_FILL_SECONDS = 900.0

OPTIONS = (
    "--read-only",
    # Metadata never changes here, so the kernel and the client may keep it: "cache", the
    # documentation's page on metadata caches, for data that is read and not written.
    "--attr-cache=1h",
    "--entry-cache=1h",
    "--dir-entry-cache=1h",
    "--negative-entry-cache=1h",
    "--readdir-cache",
    "--open-cache=1h",
    "--open-cache-limit=0",
    # All blocks stay in the cache; they are trusted, as other systems trust theirs.
    "--cache-size=100G",
    "--free-space-ratio=0.01",
    "--cache-eviction=none",
    "--verify-cache-checksum=none",
    # Large sequential reads.
    "--max-fuse-io=1M",
    "--buffer-size=1024M",
    # Nothing runs in the background.
    "--backup-meta=0",
    "--no-bgjob",
    "--no-usage-report",
    "--no-syslog",
    # `find` is to see the same files in each system, and not .stats, .config and so on.
    "--hide-internal",
)


Fill: TypeAlias = Callable[[Bench, Tree, str, Path], str]
"""Makes the volume at a Redis; answers the address of its metadata."""


def juicefs(names: Names) -> System:
    """JuiceFS with Redis; `names` are what a tree without groups holds."""
    return System(
        "JuiceFS",
        lambda: f"{version('juicefs', 'version')}, {version('redis-server', '--version')}",
        _open(_fill_with_data, warm=True),
        _open(
            lambda bench, tree, redis, home: _fill_with_names(bench, tree, redis, home, names),
            warm=False,
        ),
    )


def _open(fill: Fill, *, warm: bool) -> Open:
    @contextlib.contextmanager
    def opened(bench: Bench, tree: Tree) -> Iterator[Mounted]:
        home = bench.directory / "machines" / f"juicefs-{tree.bucket}"
        home.mkdir()
        with _redis(home) as (redis, redis_session):
            meta, directory = fill(bench, tree, redis, home), home / "mnt"
            (metrics,) = free_ports(1)
            places = (f"--cache-dir={home / 'cache'}", f"--metrics=127.0.0.1:{metrics}")
            command = [find("juicefs"), "mount", *OPTIONS, *places, meta, str(directory)]
            log = home / "juicefs.log"
            with served(directory, command, log, more_sessions=[redis_session]) as mounted:
                if warm:
                    _juicefs("warmup", "--threads=16", str(directory))
                yield mounted

    return opened


@contextlib.contextmanager
def _redis(home: Path) -> Iterator[tuple[str, int]]:
    (port,) = free_ports(1)
    command = [find("redis-server"), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--save", "", "--appendonly", "no", "--dir", str(home)]
    log = home / "redis.log"
    with server_process(command, log) as process:
        wait_until(lambda: "Ready to accept" in log.read_text(), process, log, 30)
        yield f"redis://127.0.0.1:{port}", process.pid


def _juicefs(*arguments: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [find("juicefs"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FILL_SECONDS,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip()[-1000:] or done.stdout.strip()[-1000:]
        raise RuntimeError(f"juicefs {arguments[0]}: {said}")


def _format(bench: Bench, tree: Tree, meta: str) -> str:
    bucket = bench.bucket(f"juicefs-{tree.bucket}")
    keys = {"ACCESS_KEY": bench.server.access_key, "SECRET_KEY": bench.server.secret_key}
    address = f"{bench.server.endpoint}/{bucket}"
    options = ("--no-update", "--storage=s3", f"--bucket={address}", "--trash-days=0")
    _juicefs("format", *options, meta, "volume", environment=keys)
    return meta


def _fill_with_data(bench: Bench, tree: Tree, redis: str, _home: Path) -> str:
    meta = _format(bench, tree, f"{redis}/1")
    _juicefs("sync", "--threads=16", f"{tree.plain}/", "jfs://META/", environment={"META": meta})
    return meta


def _fill_with_names(bench: Bench, tree: Tree, redis: str, home: Path, names: Names) -> str:
    _juicefs("dump", "--keep-secret-key", _format(bench, tree, f"{redis}/1"), str(home / "empty"))
    dump = home / "names.json"
    write_dump(dump, json.loads((home / "empty").read_text()), names)
    _juicefs("load", f"{redis}/2", str(dump))
    dump.unlink()
    return f"{redis}/2"
