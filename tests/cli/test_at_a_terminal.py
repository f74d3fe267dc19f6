"""Long commands at a terminal: a bar that moves, Ctrl-C, and what is left to do after it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.testing.servers.fault_proxy import Fault, FaultProxy, fault_proxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.test_bad_sources import bucket_dataset
from tests.cli.conftest import CommandLine
from tests.cli.terminal import INTERRUPT, at_terminal

SECONDS = 90.0
FILES = 30
AT_ONCE = 4
PASSED = 7
SHOW_CURSOR = b"\x1b[?25h"


@pytest.fixture
def proxy(seaweedfs_server: SeaweedServer, bucket: str) -> Iterator[FaultProxy]:
    seaweedfs_server.put_objects(bucket, {f"d/{n:02}": b"%d" % n * 50_000 for n in range(FILES)})
    with fault_proxy(seaweedfs_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def file(seaweedfs_server: SeaweedServer, proxy: FaultProxy, bucket: str, tmp_path: Path) -> Path:
    """A Dataset over the bucket behind the proxy, of which a few files are read at once."""
    text = bucket_dataset(seaweedfs_server, f"s3://{bucket}")
    given = f"'{seaweedfs_server.endpoint}'"
    assert given in text
    file = tmp_path / "pets.yaml"
    file.write_text(text.replace(given, f"'{proxy.endpoint}', max_requests: '{AT_ONCE}'"))
    return file


def fetches(proxy: FaultProxy) -> Counter[str]:
    """How often each file was asked for."""
    return Counter(
        asked.path.rpartition("/")[2]
        for asked in list(proxy.requests)
        if asked.method == "GET" and "/d/" in asked.path
    )


def cached(line: CommandLine, file: Path) -> set[str]:
    rows = json.loads(line.done("cache", "ls", "-f", file, "-o", "json"))
    return {row["path"].removeprefix("d/") for row in rows if row["complete"]}


def test_an_interrupted_load_goes_on_where_it_stopped(
    command_line: CommandLine, proxy: FaultProxy, file: Path
) -> None:
    """A load was only ever said twice here, and never interrupted."""
    opened = threading.Event()

    def hold() -> None:
        opened.wait(SECONDS)

    proxy.add(Fault(path="*/d/*", times=PASSED), Fault(path="*/d/*", times=0, before=hold))
    limit = time.monotonic() + SECONDS
    try:
        with at_terminal(command_line, "load", "-f", file, seconds=SECONDS) as terminal:
            terminal.read_until(b"%d/%d files" % (PASSED, FILES))
            terminal.type(INTERRUPT)
            assert terminal.end() == 130
        assert b"loading" in terminal.shown
        assert terminal.shown.endswith(b"fluidpy: interrupted\r\n")
        assert terminal.shown.rindex(SHOW_CURSOR) > terminal.shown.rindex(b"loading")
        while len(done := cached(command_line, file)) < PASSED and time.monotonic() < limit:
            time.sleep(0.05)  # the worker notes what came shortly before
        assert len(done) == PASSED
        assert len(fetches(proxy)) <= PASSED + AT_ONCE
    finally:
        opened.set()
    begun = fetches(proxy)
    loaded = json.loads(command_line.done("load", "-f", file, "-o", "json"))
    assert (loaded["done_files"], loaded["failed"]) == (FILES, 0)
    assert len(cached(command_line, file)) == FILES
    fetched = fetches(proxy)
    assert set(fetched) == {f"{n:02}" for n in range(FILES)}
    again = fetched - begun
    assert not done & set(again)
    assert set(again.values()) == {1}


@pytest.mark.slow
def test_load_and_cp_draw_a_bar(
    command_line: CommandLine, dataset_file: Path, tree: Path, tmp_path: Path
) -> None:
    copy = ("cp", "-r", "fluid://pets", tmp_path / "out", "-f", dataset_file)
    for verb, words in (("loading", ("load", "-f", dataset_file)), ("copying", copy)):
        with at_terminal(command_line, *words, seconds=SECONDS) as terminal:
            assert terminal.end() == 0
        assert verb.encode() in terminal.shown
        assert b"4/4 files" in terminal.shown
        left = terminal.shown.rpartition(SHOW_CURSOR)[2]
        assert verb.encode() not in left
        assert (b"4 files, 199.2 KiB in " in left) == (verb == "loading")
    assert (tmp_path / "out" / "labels.csv").read_bytes() == (tree / "labels.csv").read_bytes()
