"""The link to the worker without a worker: what happens when none can be reached."""

from __future__ import annotations

import socket

from fluidpy.errors import FluidpyError
from fluidpy.fuse.event_loop import EventLoop
from fluidpy.fuse.worker_link import Attached, WorkerLink


def test_whatever_keeps_a_worker_from_being_reached_it_is_tried_again() -> None:
    loop = EventLoop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    following, last = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hello, dataset = {"block_bytes": 4096}, {"dataset": 1}
    attempts = [RuntimeError("can't start new thread"), OSError(24, "Too many open files")]
    troubles: list[str] = []

    def reach() -> Attached:
        if attempts:
            raise attempts.pop(0)
        return Attached(following, hello, dataset)

    def note(error: FluidpyError) -> None:
        troubles.append(str(error))

    link = WorkerLink(
        loop,
        reach,
        on_attached=lambda _: loop.stop(),
        on_event=lambda _: None,
        on_trouble=note,
        on_lost_events=lambda: None,
    )
    link.adopt(Attached(ours, hello, dataset))
    theirs.close()
    loop.run()
    assert link.generation == 2
    assert len(troubles) == 2
    assert "can't start new thread" in troubles[0]
    assert "Too many open files" in troubles[1]
    link.close()
    loop.close()
    last.close()
