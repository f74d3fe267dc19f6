from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidpy.errors import WorkerStartError
from fluidpy.worker import place
from fluidpy.worker.place import await_predecessor, take_place


def never() -> bool:
    return False


def test_a_place_that_is_taken_by_one_who_serves_is_left_alone(tmp_path: Path) -> None:
    ours = take_place(tmp_path, never)
    assert ours is not None
    assert take_place(tmp_path, lambda: True) is None
    os.close(ours)


def test_a_place_is_waited_for_while_the_one_before_ends(tmp_path: Path) -> None:
    theirs = take_place(tmp_path, never)
    assert theirs is not None
    tried = threading.Event()

    def look() -> bool:
        tried.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take_place, tmp_path, look)
        assert tried.wait(60)
        os.close(theirs)
        ours = waiting.result(60)
    assert ours is not None
    os.close(ours)


def test_a_worker_that_neither_serves_nor_ends_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "ENDING_SECONDS", 0.1)
    theirs = take_place(tmp_path, never)
    assert theirs is not None
    with pytest.raises(WorkerStartError, match="does not listen"):
        take_place(tmp_path, never)
    os.close(theirs)


HAVE_PLACE = """
import sys
from pathlib import Path
from fluidpy.worker.place import await_predecessor, take_place
await_predecessor(take_place(Path(sys.argv[1]), bool))
print("there", flush=True)
sys.stdin.read()
"""


def test_the_process_that_had_the_place_before_is_waited_for(tmp_path: Path) -> None:
    """Its lock is gone, and it may have others still."""
    command = [sys.executable, "-c", HAVE_PLACE, os.fspath(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as before:
        assert before.stdout is not None
        assert before.stdout.readline() == b"there\n"
        # As if it had closed the lock already: that is another file by now.
        noted = (tmp_path / place.LOCK_FILE).read_bytes()
        (tmp_path / place.LOCK_FILE).unlink()
        (tmp_path / place.LOCK_FILE).write_bytes(noted)
        ours = take_place(tmp_path, never)
        assert ours is not None
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(await_predecessor, ours)
            time.sleep(0.1)
            assert not waiting.done()
            before.kill()
            waiting.result(60)
    assert (tmp_path / place.LOCK_FILE).read_text().split()[0] == str(os.getpid())
    os.close(ours)


@pytest.mark.parametrize(
    "noted",
    [
        pytest.param(lambda: "", id="nobody"),
        pytest.param(lambda: "not a number", id="nonsense"),
        pytest.param(lambda: f"{os.getppid()} 1", id="a number given away"),
        pytest.param(lambda: "4194304 5", id="no process"),
    ],
)
def test_nobody_else_is_waited_for(tmp_path: Path, noted: Callable[[], str]) -> None:
    (tmp_path / place.LOCK_FILE).write_text(noted())
    ours = take_place(tmp_path, never)
    assert ours is not None
    begin = time.monotonic()
    await_predecessor(ours)
    assert time.monotonic() - begin < place.ENDING_SECONDS / 2
    os.close(ours)
