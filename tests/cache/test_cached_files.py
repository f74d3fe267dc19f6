"""Complete files as another process of the user opens them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.cache.cached_files import CachedFiles
from fluidpy.cache.store import BlockStore
from tests.cache.conftest import BLOCK, OpenStore, add, content_of, crash, key_of

SIZE = 3 * BLOCK + 5

Others = Callable[..., CachedFiles]


@pytest.fixture
def others() -> Iterator[Others]:
    """What a process that is not the owner has of a store; Python tells of what is not closed."""
    with contextlib.ExitStack() as made:

        def make(store: BlockStore, token: str = "boot") -> CachedFiles:
            return made.enter_context(contextlib.closing(CachedFiles(str(store.index_path), token)))

        yield make


def bytes_of(files: CachedFiles, number: int, size: int = SIZE) -> bytes | None:
    fd = files.open_complete(key_of(number), size)
    if fd is None:
        return None
    with open(fd, "rb") as stream:
        return stream.read()


def cache_file(store: BlockStore, number: int) -> str:
    found = store.peek(key_of(number))
    assert found is not None
    return found.path


def end_of(child: int) -> int:
    """The exit code of a forked child, which is killed when it hangs."""
    ended = os.pidfd_open(child)
    try:
        if not select.select([ended], [], [], 10)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_complete_file_is_opened_once_the_index_has_it(
    open_store: OpenStore, others: Others
) -> None:
    store = open_store()
    files = others(store)
    add(store, 1, SIZE)
    assert bytes_of(files, 1) is None
    store.flush()
    assert bytes_of(files, 1) == content_of(1, SIZE)
    assert bytes_of(files, 2) is None


def test_files_written_whole_are_opened(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    store.whole.keep(store.whole.reserve(key_of(1), SIZE), content_of(1, SIZE))
    store.flush()
    assert bytes_of(others(store), 1) == content_of(1, SIZE)


def test_the_fd_is_read_only_and_has_its_own_offset(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    files = others(store)
    fds = [files.open_complete(key_of(1), SIZE) for _ in range(2)]
    assert fds[0] is not None
    assert fds[1] is not None
    assert os.read(fds[0], 10) == os.read(fds[1], 10) == content_of(1, SIZE)[:10]
    assert not os.get_inheritable(fds[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fds[0], b"x")
    os.close(fds[0])
    os.close(fds[1])


def test_another_size_than_the_index_says_is_no_file(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    assert bytes_of(others(store), 1, SIZE + 1) is None


def test_partial_files_and_segments_are_not_opened(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    partial = store.create(key_of(1), SIZE)
    partial.reserve(0, BLOCK)
    partial.write(0, content_of(1, SIZE)[:BLOCK])
    partial.commit(0, BLOCK)
    segmented = add(store, 2, 12 * BLOCK)
    assert segmented.segment_bytes
    assert segmented.complete
    store.flush()
    files = others(store)
    assert bytes_of(files, 1) is None
    assert bytes_of(files, 2, 12 * BLOCK) is None


def test_an_evicted_file_is_gone_even_before_the_index_says_so(
    open_store: OpenStore, others: Others
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    files = others(store)
    held = files.open_complete(key_of(1), SIZE)
    store.evict(key_of(1))
    assert bytes_of(files, 1) is None
    assert held is not None
    with open(held, "rb") as stream:  # who has it reads on
        assert stream.read() == content_of(1, SIZE)
    add(store, 1, SIZE)
    assert bytes_of(files, 1) is None
    store.flush()
    assert bytes_of(files, 1) == content_of(1, SIZE)


@pytest.mark.parametrize("how", ["cut", "alter", "replace", "link"])
def test_a_file_that_somebody_changed_is_not_opened(
    open_store: OpenStore, others: Others, how: str
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    files = others(store)
    path = Path(cache_file(store, 1))
    if how == "cut":
        os.truncate(path, SIZE - 1)
    elif how == "alter":
        with path.open("r+b") as stream:
            stream.write(b"other bytes")
    else:
        moved = path.with_name("moved")
        path.rename(moved)
        if how == "replace":
            shutil.copy2(moved, path)
        else:
            path.symlink_to(moved)
    assert bytes_of(files, 1) is None
    if how == "alter":  # the owner finds it out, fetches it again, and then it is there again
        found = store.get(key_of(1))
        assert found is not None
        assert not found.verify(0, SIZE)
        add(store, 1, SIZE)
        store.flush()
        assert bytes_of(files, 1) == content_of(1, SIZE)


def test_what_an_earlier_boot_left_is_opened_once_it_was_verified(
    open_store: OpenStore, others: Others
) -> None:
    store = open_store(token="first")
    add(store, 1, SIZE)
    store.close()
    early = others(store, "second")
    assert bytes_of(early, 1) is None  # the owner has not settled what this boot may trust
    store = open_store(token="second")
    assert bytes_of(early, 1) is None
    found = store.get(key_of(1))
    assert found is not None
    assert found.suspect
    assert found.verify(0, SIZE)
    store.flush()
    assert bytes_of(early, 1) == content_of(1, SIZE)


def test_files_of_all_tiers_are_found(open_store: OpenStore, others: Others) -> None:
    store = open_store(8 * BLOCK, 64 * BLOCK)
    for number in range(4):
        add(store, number, BLOCK)
    store.flush()
    files = others(store)
    first = store.table.tiers[0]
    first.account.quota = 2 * BLOCK
    store._demotion.lower(first)
    tiers = {Path(cache_file(store, number)).parts[-4] for number in range(4)}
    assert tiers == {"tier0", "tier1"}
    for number in range(4):
        assert bytes_of(files, number, BLOCK) == content_of(number, BLOCK)


def test_a_replaced_index_is_followed(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    files = others(store)
    assert bytes_of(files, 1) == content_of(1, SIZE)
    crash(store)
    store.index_path.unlink()
    store = open_store()
    add(store, 2, SIZE)
    store.flush()
    assert bytes_of(files, 2) == content_of(2, SIZE)


def test_files_are_found_while_no_owner_lives(open_store: OpenStore, others: Others) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    connected = others(store)
    assert bytes_of(connected, 1) == content_of(1, SIZE)
    crash(store)
    assert bytes_of(connected, 1) == content_of(1, SIZE)
    assert bytes_of(others(store), 1) == content_of(1, SIZE)


def test_without_a_sound_index_nothing_is_known(tmp_path: Path) -> None:
    files = CachedFiles(str(tmp_path / "index.sqlite"))
    assert bytes_of(files, 1) is None
    (tmp_path / "index.sqlite").write_bytes(b"no index" * 1000)
    assert bytes_of(files, 1) is None
    (tmp_path / "index.sqlite").unlink()
    (tmp_path / "index.sqlite").mkdir()
    assert bytes_of(files, 1) is None


def test_an_index_damaged_while_open_is_the_owners_business(
    open_store: OpenStore, others: Others
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    store.maintain()
    path = store.index_path
    store.close()
    files = others(store)
    assert bytes_of(files, 1) == content_of(1, SIZE)
    with path.open("r+b") as stream:
        stream.write(os.urandom(path.stat().st_size))
    fresh = others(store)
    assert bytes_of(fresh, 1) is None
    assert bytes_of(fresh, 1) is None


def test_no_free_fds_mean_to_ask_the_worker(open_store: OpenStore, others: Others) -> None:
    import resource

    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    files = others(store)
    assert bytes_of(files, 1) is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert bytes_of(files, 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, highest), hard))
    assert bytes_of(files, 1) is not None


def test_a_forked_child_reads_on_while_threads_read_in_the_parent(
    open_store: OpenStore, others: Others
) -> None:
    store = open_store()
    for number in range(4):
        add(store, number, SIZE)
    store.flush()
    files = others(store)
    stopped = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not stopped.is_set():
            wrong.extend(n for n in range(4) if bytes_of(files, n) != content_of(n, SIZE))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                right = all(bytes_of(files, n) == content_of(n, SIZE) for n in range(4))
                os._exit(0 if right else 1)
            assert end_of(child) == 0
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert bytes_of(files, 1) == content_of(1, SIZE)


def test_a_told_use_keeps_a_file_longer(open_store: OpenStore, others: Others) -> None:
    store = open_store(quota=8 * BLOCK)
    for number in range(6):
        add(store, number, BLOCK)
        time.sleep(0.002)  # uses are told apart by the millisecond
    store.flush()
    store.touch([key_of(0), key_of(99)])
    for number in range(6, 9):
        add(store, number, BLOCK)
    store.flush()
    files = others(store)
    assert bytes_of(files, 0, BLOCK) == content_of(0, BLOCK)
    assert bytes_of(files, 1, BLOCK) is None


def test_many_told_uses_do_not_pile_up(open_store: OpenStore) -> None:
    store = open_store()
    store.touch([key_of(number) for number in range(3000)])
    assert store.table.index.queued_touches == 0


def test_a_file_that_was_found_once_is_not_opened_when_another_is_in_its_place(
    open_store: OpenStore,
    others: Others,
) -> None:
    store = open_store()
    add(store, 1, SIZE)
    store.flush()
    found = others(store).find(key_of(1), SIZE)
    assert found is not None
    fd = found.open()
    assert fd is not None
    assert os.pread(fd, SIZE, 0) == content_of(1, SIZE)
    os.close(fd)
    store.evict(key_of(1))
    assert found.open() is None
    Path(found.path).write_bytes(bytes(SIZE))
    assert found.open() is None
