"""Broken answers of the source: right bytes or a clear errno within the deadline, never others.

The bed asserts for each read that it came in time and that its errno is a clear one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.faults.bed import FACES, Bed, Outcome, attempt, contents, new_bed
from tests.model.faces import DATASET, FileSystem
from tests.model.place import BLOCK_BYTES, until

DEADLINE_SECONDS = 6.0
SIZE = 5 * BLOCK_BYTES

PASSING = {
    "500 twice": Fault(status=500, times=2),
    "503 twice": Fault(status=503, times=2),
    "429 twice": Fault(status=429, times=2),
    "closed early twice": Fault(close_after=1000, times=2),
    "closed before the body": Fault(close_after=0, times=1),
    "a slow answer": Fault(delay_seconds=0.5, times=1),
}
"""Each costs time only."""

STAYING = {
    "500": (Fault(status=500, times=0), {errno.EIO, errno.ETIMEDOUT}),
    "503": (Fault(status=503, times=0), {errno.EIO, errno.ETIMEDOUT}),
    "429": (Fault(status=429, times=0), {errno.EIO, errno.ETIMEDOUT}),
    "403": (Fault(status=403, times=0), {errno.EACCES}),
    "closed early": (Fault(close_after=1000, times=0), {errno.EIO, errno.ETIMEDOUT}),
    "a stall at once": (Fault(stall_after=0, times=0), {errno.ETIMEDOUT}),
    "a stall in the body": (Fault(stall_after=1000, times=0), {errno.ETIMEDOUT}),
    "a short body": (Fault(short_by=10, times=0), {errno.EIO, errno.ETIMEDOUT, errno.ESTALE}),
    "another ETag": (Fault(etag='"0123456789abcdef"', times=0), {errno.ESTALE}),
}
"""And the errnos that a reader may get."""


@pytest.fixture(scope="module")
def bed(seaweedfs_server: SeaweedServer, running_proxy: FaultProxy) -> Iterator[Bed]:
    running_proxy.clear()
    with new_bed(
        seaweedfs_server,
        running_proxy,
        contents(60, SIZE),
        source_deadline_seconds=DEADLINE_SECONDS,
        fetch_concurrency=64,  # what stalls holds up nobody else
    ) as made:
        made.ask("load", paths=["/"], metadata_only=True)
        yield made


@pytest.fixture(scope="module")
def cold(bed: Bed) -> Iterator[str]:
    """Files that nobody has read yet."""
    return iter(sorted(bed.files))


Outcomes = dict[tuple[str, str], tuple[str, Outcome]]


def provoke(bed: Bed, cold: Iterator[str], faults: dict[str, Fault]) -> Outcomes:
    """Reads one file for each fault and face, all at the same time: path and outcome of each."""
    paths = {(name, face): next(cold) for name in faults for face in FACES}
    bed.proxy.clear()
    for (name, _), path in paths.items():
        fault = faults[name]
        bed.proxy.add(Fault(**{**vars(fault), "path": bed.url_path(path)}))
    with ThreadPoolExecutor(len(paths)) as pool:
        running = {key: pool.submit(bed.attempt, key[1], path) for key, path in paths.items()}
        outcomes = {key: (paths[key], future.result()) for key, future in running.items()}
    bed.proxy.clear()
    return outcomes


@pytest.fixture(scope="module")
def passing(bed: Bed, cold: Iterator[str]) -> Outcomes:
    return provoke(bed, cold, PASSING)


@pytest.fixture(scope="module")
def staying(bed: Bed, cold: Iterator[str]) -> Outcomes:
    return provoke(bed, cold, {name: fault for name, (fault, _) in STAYING.items()})


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_costs_time_only(bed: Bed, passing: Outcomes, name: str, face: str) -> None:
    path, outcome = passing[name, face]
    assert outcome.data == bed.files[path], outcome


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", STAYING)
def test_a_staying_fault_is_a_clear_errno(
    bed: Bed, staying: Outcomes, name: str, face: str
) -> None:
    path, outcome = staying[name, face]
    assert outcome.data is None, f"{len(outcome.data or b'')} bytes came"
    assert outcome.code in STAYING[name][1], outcome
    assert outcome.message
    if face == "url":
        assert path in outcome.message or path.rpartition("/")[2] in outcome.message


def test_the_log_names_mount_path_and_cause(bed: Bed, staying: Outcomes) -> None:
    log = bed.place.worker_log()
    for name, face in staying:
        path, _ = staying[name, face]
        assert any("'bucket'" in line and path in line for line in log.splitlines()), (name, path)


def test_what_failed_is_right_once_the_source_is_well(bed: Bed, staying: Outcomes) -> None:
    bed.check(*(path for path, _ in staying.values()))


@pytest.mark.parametrize("face", FACES)
def test_an_object_changed_while_it_is_read_is_never_mixed(
    bed: Bed, cold: Iterator[str], face: str
) -> None:
    path = next(cold)
    old, new = bed.files[path], bytes(len(bed.files[path]))
    file = bed.faces[face].open(path)
    try:
        assert file.read(0, 100) == old[:100]
        bed.put(path, new)
        outcome = bed.judge(attempt(lambda: file.read(0, SIZE)), path, {errno.ESTALE})
    finally:
        file.close()
    assert outcome.data in (None, old[:SIZE]), "a mix of two versions"
    bed.session.entry(path, refresh=True)
    assert until(lambda: bed.attempt(face, path).data == new), bed.attempt(face, path)


@pytest.mark.parametrize("face", FACES)
def test_an_object_changed_between_two_requests_is_never_mixed(
    bed: Bed, cold: Iterator[str], face: str
) -> None:
    path = next(cold)
    old, new = bed.files[path], bytes(len(bed.files[path]))
    change = Fault(
        path=bed.url_path(path),
        before=lambda: bed.server.put_objects(bed.bucket, {f"{bed.prefix}/{path}": new}),
    )
    bed.proxy.add(change)
    outcome = bed.attempt(face, path, {errno.ESTALE})
    bed.proxy.clear()
    bed.files[path] = new
    assert outcome.data in (None, old, new), "a mix of two versions"
    assert until(lambda: bed.attempt(face, path).data == new), bed.attempt(face, path)


@pytest.mark.parametrize("face", FACES)
def test_a_removed_object_is_a_clear_errno(bed: Bed, cold: Iterator[str], face: str) -> None:
    path = next(cold)
    bed.server._request("DELETE", bed.url_path(path))
    outcome = bed.attempt(face, path, {errno.ESTALE, errno.ENOENT})
    assert outcome.data is None
    assert until(lambda: bed.attempt(face, path).code == errno.ENOENT)
    del bed.files[path]


def all_ways(bed: Bed, path: str) -> list[Outcome]:
    """A file by each face, and what `find` finds in its folder, at the same time."""
    files, folder = FileSystem(bed.session), f"{DATASET}/{path.rpartition('/')[0]}"
    with ThreadPoolExecutor() as pool:
        found = pool.submit(attempt, lambda: "\n".join(files.find(folder)).encode())
        outcomes = list(pool.map(lambda face: bed.attempt(face, path), FACES))
        return [*outcomes, bed.judge(found.result(), "find")]


def test_listings_that_fail(seaweedfs_server: SeaweedServer, proxy: FaultProxy) -> None:
    """A passing fault costs time; a folder never seen is an error; one seen stays as it was."""
    files = {"a/1": b"one", "b/2": b"two"}
    with new_bed(seaweedfs_server, proxy, files, ttl=0.01, source_deadline_seconds=4.0) as bed:
        proxy.add(Fault(query="*list-type*", status=503, times=2))
        bed.check("a/1")
        proxy.add(Fault(query="*list-type*", status=503, times=0))
        outcomes = all_ways(bed, "b/2")
        assert [outcome.data for outcome in outcomes] == [None] * 3
        assert [bed.faces[face].names("") for face in FACES] == [{"a", "b"}] * 2
        bed.check("a/1")
        proxy.clear()
        proxy.add(Fault(query="*list-type*", stall_after=0, times=0))
        outcomes = all_ways(bed, "b/2")
        assert [outcome.data for outcome in outcomes] == [None] * 3
        proxy.clear()
        bed.check()
