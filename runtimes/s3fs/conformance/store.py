"""SeaweedFS for `fluidpy runtime test`: `store.py serve PORT DIR` and `store.py put PORT PATH`."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from fluidpy.storage.s3_signature import AccessKey, sign_request

KEY = AccessKey("fluidpy-admin", "fluidpy-admin-secret")


def serve(port: int, directory: Path) -> None:
    """Until it is ended; prints a line once the bucket is there."""
    from fluidpy.testing.servers.seaweedfs import seaweedfs

    # Whoever ends this process by force ends the server with it.
    die_with_us = ("setpriv", "--pdeathsig", "KILL")
    with seaweedfs(directory / "seaweedfs", port=port, run_by=die_with_us) as server:
        server.make_bucket("data")
        print("ready", flush=True)
        signal.pause()


def put(port: int, path: str, body: bytes) -> int:
    """Stores an object; the exit status."""
    host, place = f"127.0.0.1:{port}", f"/data/{quote(path, safe='/-_.~')}"
    headers = sign_request(KEY, "us-east-1", "PUT", host, place, "", datetime.now(UTC), body)
    connection = HTTPConnection(host, timeout=10)
    connection.request("PUT", place, body, headers)
    status = connection.getresponse().status
    connection.close()
    return 0 if status == 200 else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), Path(sys.argv[3]))
    sys.exit(put(int(sys.argv[2]), sys.argv[3], sys.stdin.buffer.read()))
