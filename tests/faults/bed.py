"""A Dataset over a bucket behind a proxy that breaks answers, read through both faces."""

from __future__ import annotations

import errno
import itertools
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fluidpy.cache.tier import TierDefinition
from fluidpy.cli.attachment import ask
from fluidpy.client.session import DatasetSession
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.fault_proxy import FaultProxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.model.faces import Face, MountFace, UrlFace
from tests.model.place import KIB, Place, disk_bytes, new_place, until

FACES = ("mount", "url")
CLEAR_ERRNOS = (errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ENOENT, errno.EACCES)
"""What docs/semantics.md says a reader may get."""
SLACK_SECONDS = 40.0
"""What a read may take beyond the source's deadline: its client waits 5 s longer for the worker's
word, opening and reading have a deadline each, and the machine may be busy."""
QUOTA_BYTES = 256 * 1024 * KIB

_numbers = itertools.count(1)


def contents(count: int, size: int, seed: int = 0) -> dict[str, bytes]:
    """Files of a folder `d`, of about that size, each with bytes of its own."""
    chance = random.Random(seed)
    return {f"d/{number:03}": chance.randbytes(size + number) for number in range(count)}


class Outcome(NamedTuple):
    """What a read gave: bytes or an errno with its text, and how long it took in seconds."""

    data: bytes | None
    code: int
    message: str
    seconds: float


def attempt(work: Callable[[], bytes]) -> Outcome:
    begin = time.monotonic()
    try:
        data: bytes | None = work()
        code, message = 0, ""
    except OSError as error:
        data, code, message = None, error.errno or 0, str(error)
    return Outcome(data, code, message, time.monotonic() - begin)


@dataclass
class Bed:
    """Files in a bucket and the Dataset over it; `files` is the truth."""

    place: Place
    server: SeaweedServer
    proxy: FaultProxy
    bucket: str
    prefix: str
    files: dict[str, bytes]
    definition: DatasetDefinition
    session: DatasetSession
    faces: dict[str, Face]

    @property
    def tier(self) -> Path:
        return Path(self.definition.tiers[0].directory)

    def url_path(self, path: str) -> str:
        """The path that the proxy sees requests for a file at."""
        return f"/{self.bucket}/{self.prefix}/{path}"

    def put(self, path: str, data: bytes) -> None:
        self.server.put_objects(self.bucket, {f"{self.prefix}/{path}": data})
        self.files[path] = data

    def read(self, face: str, path: str) -> bytes:
        """The whole file; asks for one byte more than it should have."""
        return self.faces[face].read(path, 0, len(self.files[path]) + 1)

    def attempt(self, face: str, path: str, errnos: Collection[int] = CLEAR_ERRNOS) -> Outcome:
        """Reads a whole file: bytes or one of the errnos, within the deadline."""
        return self.judge(attempt(lambda: self.read(face, path)), f"{path} by {face}", errnos)

    def judge(self, outcome: Outcome, what: str, errnos: Collection[int] = CLEAR_ERRNOS) -> Outcome:
        """The outcome, if it is a clear one that came in time."""
        assert outcome.data is not None or outcome.code in errnos, (what, outcome)
        limit = self.place.settings.source_deadline_seconds + SLACK_SECONDS
        assert outcome.seconds < limit, (what, f"{outcome.seconds:.1f} s of {limit}")
        return outcome

    def check(self, *paths: str, faces: Sequence[str] = FACES) -> None:
        """All bytes, or those of some files, are right through both faces, in parallel."""
        pairs = [(face, path) for path in paths or self.files for face in faces]
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda pair: self.attempt(*pair), pairs))
        wrong = [
            (face, path, outcome.message or f"{len(outcome.data or b'')} other bytes")
            for (face, path), outcome in zip(pairs, outcomes, strict=True)
            if outcome.data != self.files[path]
        ]
        assert not wrong, wrong

    def attempt_all(self) -> list[Outcome]:
        """Reads all files through both faces; wrong bytes are never right."""
        pairs = [(face, path) for path in self.files for face in FACES]
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda pair: self.attempt(*pair), pairs))
        for (face, path), outcome in zip(pairs, outcomes, strict=True):
            assert outcome.data in (None, self.files[path]), f"wrong bytes: {path} by {face}"
        return outcomes

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        return ask(self.session, operation, deadline=60.0, **fields)

    def check_accounting(self, *, in_use: bool = True, seconds: float = 60.0) -> None:
        """What the worker says the tier holds is what lies on the disk, and within the quota.

        `in_use`: files that left the cache may still be open somewhere, and count then.
        """
        found: list[Any] = []

        def right() -> bool:
            (tier,) = self.ask("usage")["tiers"]
            found[:] = [tier, disk_bytes(self.tier)]
            idle = tier["reserved_bytes"] == 0 and (in_use or tier["unlinked_bytes"] == 0)
            return bool(idle and tier["kept_bytes"] == found[1])

        assert until(right, seconds), found
        tier = found[0]
        assert tier["used_bytes"] == tier["kept_bytes"] + tier["unlinked_bytes"]
        assert tier["used_bytes"] <= tier["quota_bytes"]


@contextmanager
def new_bed(
    server: SeaweedServer,
    proxy: FaultProxy,
    files: dict[str, bytes],
    *,
    tier: Path | None = None,
    quota_bytes: int = QUOTA_BYTES,
    mounted: bool = True,
    declare: Callable[[Place, MountSource], DatasetDefinition] | None = None,
    ttl: float = 300.0,
    **settings: Any,
) -> Iterator[Bed]:
    """A bed with its bucket filled and, unless told otherwise, its Dataset mounted.

    `declare` makes the Dataset `faults` of the source, where a test has its own way.
    """
    bucket, prefix = "faults", str(next(_numbers))
    server.make_bucket(bucket)
    server.put_objects(bucket, {f"{prefix}/{path}": data for path, data in files.items()})
    source = server.source(bucket, prefix)
    options = {**source.options, "endpoint": proxy.endpoint}
    source = MountSource(source.url, source.label, options, source.secrets)
    with new_place(**settings) as place:
        definition = DatasetDefinition(
            name="faults",
            namespace="default",
            mounts=(MountDefinition("bucket", "/", source),),
            tiers=(TierDefinition(str(tier or place.base / "tier"), quota_bytes),),
            metadata_ttl_seconds=ttl,
        )
        if declare is not None:
            definition = declare(place, source)
        session = place.session(definition)
        faces: dict[str, Face] = {"mount": MountFace(place.mount_point), "url": UrlFace(session)}
        if mounted:
            place.mount(definition)
        yield Bed(place, server, proxy, bucket, prefix, dict(files), definition, session, faces)
        proxy.clear()
