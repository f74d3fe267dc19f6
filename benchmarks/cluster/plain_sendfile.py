"""Sends files to whoever connects, by sendfile and nothing else: the limit of a transport.

`python -m benchmarks.cluster.plain_sendfile PATH` prints its port and runs until stdin is closed.
PATH is a file, or a folder: all files in it, one after the other, each opened and closed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def _serve(listener: socket.socket, path: str) -> None:
    names = [path]
    if os.path.isdir(path):
        names = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    while True:
        peer, _ = listener.accept()
        with peer:
            for name in names:
                _send(peer.fileno(), name)


def _send(peer: int, name: str) -> None:
    file = os.open(name, os.O_RDONLY)
    size, at = os.fstat(file).st_size, 0
    while at < size:
        at += os.sendfile(peer, file, at, size - at)
    os.close(file)


def main() -> None:
    """Serves until stdin is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, sys.argv[1]), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
