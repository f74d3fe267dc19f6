"""The template of a mount's servers: `python -m fluidpy.fuse.template_process --control FD`.

It has a server's code in memory and waits. Whenever the holder sends it a socket, it forks a server
that goes on with that socket: so there is another within milliseconds, as often as need be, and
their memory is shared as far as nobody writes to it. It holds nothing that could go stale or leak:
no device, no Dataset, no worker, no thread.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys

from fluidpy.client import protocol
from fluidpy.fuse import control, process_name, server

_logger = logging.getLogger("fluidpy.fuse.template_process")


def fork_servers(channel: socket.socket) -> socket.socket | None:
    """Forks a server for each socket that comes; in a server its socket, here None at last.

    Between them stands a process that ends at once, so that the holder becomes the server's parent.
    """
    while (received := protocol.receive(channel)) is not None:
        for fd in received.fds:
            try:
                between = os.fork()
            except OSError as error:
                _logger.error("no server could be forked: %s", error)
            else:
                if between == 0:
                    _leave_grandchild()
                    channel.close()
                    return socket.socket(fileno=fd)
                os.waitpid(between, 0)
            os.close(fd)
    return None


def _leave_grandchild() -> None:
    """Forks again; comes back in the grandchild only."""
    try:
        if os.fork() == 0:
            return
    except OSError as error:
        _logger.error("no server could be forked: %s", error)
    os._exit(0)


def main() -> int:
    """Forks servers until the holder is gone."""
    channel = control.open_control("fluidpy.fuse.template_process")
    gc.collect()
    gc.freeze()  # what is there now stays as it is: the collector writes to none of its pages
    mine = fork_servers(channel)
    if mine is None:
        return 0
    process_name.set_module_name(process_name.SPARE)
    return server.run(mine)


if __name__ == "__main__":
    sys.exit(main())
