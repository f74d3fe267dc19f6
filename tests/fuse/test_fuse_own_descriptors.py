"""A thread with descriptors of its own keeps nobody else's open."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from fluidpy.fuse.own_descriptors import keep_only


def test_a_thread_keeps_what_it_asked_for_and_others_keep_all() -> None:
    ours, theirs = socket.socketpair()
    other, its_peer = socket.socketpair()
    kept, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def work() -> None:
        if keep_only((theirs.fileno(),)):
            seen.extend(int(name) for name in os.listdir("/proc/thread-self/fd"))
        kept.set()
        done.wait(60)
        os.write(theirs.fileno(), b"still there")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert kept.wait(60)
        if not seen:
            pytest.skip("a seccomp profile forbids unshare(2)")
        assert theirs.fileno() in seen
        assert other.fileno() not in seen
        other.close()
        its_peer.settimeout(5)
        assert its_peer.recv(1) == b""
        theirs_number = theirs.fileno()
        assert os.fstat(theirs_number)
    finally:
        done.set()
        thread.join()
    assert ours.recv(20) == b"still there"
    for each in (ours, theirs, its_peer):
        each.close()
