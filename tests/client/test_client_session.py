from __future__ import annotations

import threading

import pytest

from fluidpy.client.session import DIRECTORY, DatasetSession
from fluidpy.errors import (
    IsADirectoryInDatasetError,
    NotADirectoryInDatasetError,
    PathNotFoundError,
    SourceUnavailableError,
)
from tests.client.fake_worker import FakeWorker


def test_entries_listings_and_bytes(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("train/a.bin", b"0123456789")
    fake.put("train/\udcffodd", b"")
    fake.put("readme", b"hello")
    assert session.entry("train").kind == DIRECTORY
    assert session.entry("train/a.bin").size == 10
    assert {entry.name for entry in session.listdir("train")} == {b"a.bin", b"\xffodd"}
    directory = session.entry("train").id
    assert session.list_directory(directory) == session.listdir("train")
    assert session.read("train/a.bin", 3, 6) == b"345"
    assert session.read("readme") == b"hello"


def test_a_long_listing_comes_through_a_memfd(fake: FakeWorker, session: DatasetSession) -> None:
    for number in range(300):
        fake.put(f"many/{number:04}", b"x")
    assert [entry.name for entry in session.listdir("many")] == [b"%04d" % n for n in range(300)]


def test_errors_are_the_workers_own(fake: FakeWorker, session: DatasetSession) -> None:
    fake.put("a/file", b"x")
    with pytest.raises(PathNotFoundError):
        session.entry("missing")
    with pytest.raises(NotADirectoryInDatasetError):
        session.listdir("a/file")
    with pytest.raises(IsADirectoryInDatasetError):
        session.open_object("a")

    def down(operation: str, _: object) -> None:
        if operation == "resolve":
            raise SourceUnavailableError("the bucket does not answer")

    fake.hook = down
    with pytest.raises(SourceUnavailableError):
        session.entry("a")


def test_a_new_worker_is_attached_to_without_a_word(
    fake: FakeWorker, session: DatasetSession
) -> None:
    fake.put("a", b"x")
    assert session.entry("a").size == 1
    fake.restart()
    assert session.entry("a").size == 1
    assert [m["op"] for m in fake.requests].count("attach") == 2


def test_the_definition_is_looked_up_once_also_by_many_threads(fake: FakeWorker) -> None:
    fake.put("a", b"x")
    found: list[int] = []

    def find() -> str:
        found.append(1)
        return "default/demo"

    session = DatasetSession(find, fake.settings)
    threads = [threading.Thread(target=session.entry, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert [m["op"] for m in fake.requests].count("attach") == 1
