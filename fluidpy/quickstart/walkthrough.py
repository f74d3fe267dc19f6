"""The run: start a bucket, make data, declare it, read it cold and warm, show the times."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from fluidpy.cli.doctor_system import check_fuse_device, check_fusermount
from fluidpy.cli.findings import Finding, Verdict
from fluidpy.fuse.kernel_mount import fusermount
from fluidpy.quickstart import data_set, declaration, readers, report
from fluidpy.quickstart.place import Place, temporary_place
from fluidpy.storage.local_files import SETTLED_NS
from fluidpy.testing.servers.seaweedfs import SeaweedServer, seaweedfs

FUSE_DEVICE = Path("/dev/fuse")
SETTLE_SECONDS = SETTLED_NS / 1e9 + 0.1
"""A file on a NAS that changed just now is served and not kept: it may be changing still."""


def run() -> None:
    """Shows everything; leaves nothing behind, however it ends."""
    with ExitStack() as stack:
        place = stack.enter_context(temporary_place())
        say("Starting SeaweedFS, an S3 server, on a free port of this machine")
        server = stack.enter_context(seaweedfs(place.directory / "s3", volumes=8))
        say("Making images for the bucket, a table for the NAS, shards for the archive")
        seed(place, server)
        declare(place, server)
        passes = []
        if (obstacle := _mount_obstacle()) is None:
            passes += read_by_mount(place)
            place.fluidpy("cache", "evict", "-f", place.file)
        else:
            say(f"Nothing can be mounted here: {obstacle.message}")
            print(f"cure: {obstacle.cure}\nGoing on with fluid:// URLs.")
        passes += read_by_url(place)
        show(place, passes)
    say("Everything is unmounted, stopped and removed")


def say(line: str) -> None:
    """A heading of the run."""
    print(f"\n== {line}", flush=True)


def seed(place: Place, server: SeaweedServer) -> None:
    """Puts the data set into its three stores."""
    data_set.write_table(place.nas / "samples.parquet")
    data_set.write_shards(place.archive)
    written = time.monotonic()
    server.make_bucket(declaration.BUCKET)
    server.put_objects(declaration.BUCKET, dict(data_set.images()))
    time.sleep(max(0.0, written + SETTLE_SECONDS - time.monotonic()))


def declare(place: Place, server: SeaweedServer) -> None:
    """Writes the Dataset and its secret, and shows the former."""
    declaration.write_secret(place.secrets, server.reader_key, server.reader_secret)
    text = declaration.dataset_yaml(server.endpoint, place.nas, place.archive)
    place.file.write_text(text)
    say(f"The Dataset, in {place.file}")
    print(text, end="")
    limit = declaration.BYTES_PER_SECOND // 1_000_000
    print(
        f"\nEach source gives at most {limit} MB/s here (see the options above): all three lie on\n"
        "this machine, and without a limit the first reading would be as fast as the second."
    )
    place.fluidpy("validate", "-f", place.file)


def _mount_obstacle() -> Finding | None:
    found = (
        check_fuse_device(FUSE_DEVICE),
        check_fusermount(os.geteuid(), fusermount()),
    )
    return next((finding for finding in found if finding.verdict is Verdict.BROKEN), None)


def read_by_mount(place: Place) -> list[report.Pass]:
    """Mounts, reads everything twice, unmounts."""
    place.fluidpy("mount", "-f", place.file, place.mount_point)
    try:
        names = sorted(path.name for path in place.mount_point.iterdir())
        print(f"\n$ ls {place.mount_point}\n{'  '.join(names)}")
        passes = _twice(place, "mount", readers.mount_readers(place.mount_point))
        place.fluidpy("status")
    finally:
        place.fluidpy("umount", place.mount_point)
    return passes


def read_by_url(place: Place) -> list[report.Pass]:
    """Reads everything twice by `fluid://` URLs, in this process."""
    say(f"Reading fluid://{declaration.NAME}/… in Python: fsspec, pandas, tarfile")
    return _twice(place, "URL", readers.url_readers(declaration.NAME, place.file))


def _twice(place: Place, way: str, parts: Mapping[str, readers.Reader]) -> list[report.Pass]:
    passes = []
    for warm in (False, True):
        say(f"Reading everything by {way}, {'again' if warm else 'the first time'}")
        before = _counters(place)
        times = readers.timed(parts)
        counts = report.counts_between(before, _counters(place))
        passes.append(report.Pass(way, warm, times, counts))
        for part, (seconds, size) in times.items():
            print(f"{part:8} {size / 1e6:6.1f} MB in {seconds:6.2f} s", flush=True)
    return passes


def _counters(place: Place) -> Mapping[str, int]:
    from fluidpy.cli.status import worker_status
    from fluidpy.settings import load_settings

    status = worker_status(load_settings(place.environment))
    counters: Mapping[str, int] = status["counters"] if status else {}
    return counters


def show(place: Place, passes: list[report.Pass]) -> None:
    """The tables at the end."""
    say("Times")
    print("\n".join(report.time_lines(passes)))
    say("Where the bytes came from")
    print("\n".join(report.count_lines(passes)))
    say("What lies in the cache")
    place.fluidpy("cache", "usage", "-f", place.file)
    listed = place.fluidpy("cache", "ls", "-f", place.file, "-o", "json", show=False)
    objects = json.loads(listed)
    print("\n" + "\n".join(report.cached_lines(objects)))
