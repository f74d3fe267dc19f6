"""A client of the control plane whose other end misbehaves."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fluidpy.client.control_client import ControlClient
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError
from fluidpy.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHANGE = b'{"type":"ADDED","object":{}}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def answering(settings: Settings, answer: bytes, done: Callable[[], object]) -> Iterator[None]:
    """A control plane that answers the first request so, and closes once `done` returns."""
    settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(settings.control_socket))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)
                done()

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(30)


@pytest.mark.parametrize("cut", [chunk(CHANGE[:7]), b"1c\r\n" + CHANGE[:7]])
def test_a_watch_that_is_cut_off_is_an_error_that_says_so(settings: Settings, cut: bytes) -> None:
    with answering(settings, HEAD + chunk(CHANGE) + cut, lambda: None):
        watch = ControlClient(settings).watch("datasets", None, "1", seconds=20)
        assert next(watch)["type"] == "ADDED"
        with pytest.raises(ControlPlaneError, match="broke a watch off"):
            next(watch)


def test_a_watch_of_a_control_plane_that_hangs_ends_in_time(settings: Settings) -> None:
    over = threading.Event()
    with answering(settings, HEAD + chunk(CHANGE), lambda: over.wait(30)):
        watch = ControlClient(settings, deadline=0.1).watch("datasets", None, "1", seconds=0.1)
        assert next(watch)["type"] == "ADDED"
        with pytest.raises(ControlPlaneTimeoutError):
            next(watch)
        over.set()
