"""Sends one file to whoever connects, by sendfile and nothing else: the limit of a transport.

`python -m benchmarks.cluster.plain_sendfile FILE` prints its port and runs until stdin is closed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def _serve(listener: socket.socket, path: str) -> None:
    while True:
        peer, _ = listener.accept()
        with peer, open(path, "rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            while at < size:
                at += os.sendfile(peer.fileno(), file.fileno(), at, size - at)


def main() -> None:
    """Serves until stdin is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, sys.argv[1]), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
