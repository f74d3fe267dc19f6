"""What keeps a mount from passing through is found before it is chosen, and told in a sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fluidpy.client.protocol import Message
from fluidpy.errors import CacheError, MountError
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.mode_choice import PROBE_ROW, ModeChoice
from fluidpy.fuse.negotiation import Negotiated
from fluidpy.fuse.read_modes import ReadMode, ReadModeChoice, TreeShape

BOTH = InitFlag.NO_OPEN_SUPPORT | InitFlag.PASSTHROUGH
LARGE = TreeShape(10, 10, 10**10)
SMALL = TreeShape(10**6, 0, 0)
CLOSED: list[Message] = [
    {"backingClose": {"rows": [PROBE_ROW]}},
    {"forgotten": {"rows": [PROBE_ROW]}},
]


@dataclass
class Server:
    """The choice of one server, whose holder answers a tried file with the next of `codes`."""

    loop: EventLoop
    asked: str = "auto"
    directories: Sequence[Path] = ()
    codes: list[int] = field(default_factory=list)
    shape: TreeShape | None = LARGE
    told: list[Message] = field(default_factory=list)
    found: list[ReadModeChoice | MountError] = field(default_factory=list)

    def choose(
        self, flags: InitFlag = BOTH, *, opened: bool = False
    ) -> ReadModeChoice | MountError:
        """What comes of an INIT with these flags, and of an open behind it if `opened`."""
        choice = self.choice = ModeChoice(
            self.loop,
            self.asked,
            directories=self.directories,
            shape=self._shape,
            tell=self._tell,
            on_chosen=self._ended,
            on_impossible=self._ended,
        )
        choice.begin(Negotiated(40, 131072, int(flags)))
        if opened:
            choice.first_open()
        if not self.found:
            self.loop.call_later(60, self.loop.stop)
            self.loop.run()
        (found,) = self.found
        return found

    def _ended(self, found: ReadModeChoice | MountError) -> None:
        self.found.append(found)
        self.loop.stop()

    def _shape(self) -> TreeShape:
        if self.shape is None:
            raise CacheError("the catalog is being made", cure="Wait.")
        return self.shape

    def _tell(self, message: Message, fds: tuple[int, ...]) -> None:
        self.told.append(message)
        if "backingOpen" in message:
            (fd,) = fds
            assert os.fstat(fd).st_nlink == 0
            code = self.codes.pop(0) if self.codes else 0
            self.loop.call_later(0, lambda: self.choice.on_backing({"errno": code}))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    loop = EventLoop()
    yield Server(loop, directories=[tmp_path])
    loop.close()


REFUSALS = [
    (errno.EPERM, "the mount's holder has no CAP_SYS_ADMIN"),
    (errno.ELOOP, "the cache lies on a stacked file system (overlayfs over another one)"),
    (errno.EOPNOTSUPP, "the kernel or the cache's file system does not support it"),
    (errno.ENOTTY, "the kernel does not support it"),
    (errno.EIO, "Input/output error"),
]


@pytest.mark.parametrize(("code", "sentence"), REFUSALS)
def test_auto_takes_no_open_where_no_file_can_be_passed_through(
    server: Server, code: int, sentence: str
) -> None:
    server.codes = [code]
    assert server.choose() == ReadModeChoice(ReadMode.NO_OPEN, f"no passthrough: {sentence}")
    assert len(server.told) == 1


@pytest.mark.parametrize(("code", "sentence"), REFUSALS)
def test_passthrough_that_is_asked_for_and_refused_is_an_error(
    server: Server, code: int, sentence: str
) -> None:
    server.asked, server.codes = "passthrough", [code]
    error = server.choose()
    assert isinstance(error, MountError)
    assert error.message == f"the read mode passthrough is impossible here: {sentence}"
    assert "--read-mode auto" in error.cure


@pytest.mark.parametrize("asked", ["auto", "passthrough"])
def test_a_kernel_that_does_not_offer_it_is_not_tried(server: Server, asked: str) -> None:
    server.asked = asked
    found = server.choose(InitFlag.NO_OPEN_SUPPORT)
    said = found.message if isinstance(found, MountError) else found.reason
    assert "the kernel does not offer it (it came with Linux 6.9" in said
    assert isinstance(found, MountError) == (asked == "passthrough")
    assert server.told == []


def test_a_kernel_with_neither_is_read_the_plain_way(server: Server) -> None:
    found = server.choose(InitFlag(0))
    assert isinstance(found, ReadModeChoice)
    assert found.mode is ReadMode.PLAIN
    assert "came with Linux 6.9" in found.reason
    assert "the kernel does not offer no-open (Linux 3.16)" in found.reason


@pytest.mark.parametrize("asked", ["auto", "passthrough"])
def test_a_directory_where_no_unnamed_file_can_be_made(
    server: Server, tmp_path: Path, asked: str
) -> None:
    """As on file systems without O_TMPFILE; the directory is named."""
    server.asked, server.directories = asked, [tmp_path, Path("/proc/self")]
    found = server.choose()
    said = found.message if isinstance(found, MountError) else found.reason
    assert "no file can be made in /proc/self to try it: " in said
    assert isinstance(found, MountError) == (asked == "passthrough")
    assert server.told[1:] == CLOSED


def test_every_directory_of_the_cache_is_tried(server: Server, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    server.directories = [tmp_path, tmp_path / "second"]
    server.codes = [0, errno.ELOOP]
    found = server.choose()
    assert isinstance(found, ReadModeChoice)
    assert (found.mode, "stacked file system" in found.reason) == (ReadMode.NO_OPEN, True)
    assert server.told[1:3] == CLOSED
    assert sum("backingOpen" in message for message in server.told) == 2


@pytest.mark.parametrize(
    ("shape", "mode"), [(LARGE, ReadMode.PASSTHROUGH), (SMALL, ReadMode.NO_OPEN)]
)
def test_without_obstacles_the_files_decide(
    server: Server, tmp_path: Path, shape: TreeShape, mode: ReadMode
) -> None:
    server.shape = shape
    found = server.choose()
    assert isinstance(found, ReadModeChoice)
    assert found.mode is mode
    assert server.told[1:] == CLOSED  # the tried file keeps no backing id
    assert os.listdir(tmp_path) == []


def test_a_catalog_that_cannot_be_read_yet_decides_nothing_before_the_first_open(
    server: Server,
) -> None:
    server.shape = None
    found = server.choose(opened=True)
    assert found == ReadModeChoice(ReadMode.PASSTHROUGH, "nothing is known of the files yet")


@pytest.mark.parametrize("asked", ["no-open", "plain"])
def test_what_is_asked_for_and_possible_is_not_tried_at_all(server: Server, asked: str) -> None:
    server.asked = asked
    assert server.choose() == ReadModeChoice(ReadMode(asked), "asked for")
    assert server.told == []


def test_no_open_that_the_kernel_does_not_offer_is_an_error(server: Server) -> None:
    server.asked = "no-open"
    found = server.choose(InitFlag.PASSTHROUGH)
    assert isinstance(found, MountError)
    assert "the kernel does not offer no-open" in found.message
