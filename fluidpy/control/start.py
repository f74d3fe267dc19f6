"""Starting this user's control plane in the background until it answers, and ending it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.control_client import ControlClient
from fluidpy.client.start import prepare_runtime_directory, wait_ready, worker_environment
from fluidpy.control.daemon import LOG_FILE
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError, from_wire
from fluidpy.settings import Settings

START_SECONDS: Final = 30.0
"""How long a control plane may take until it answers."""

STOP_SECONDS: Final = 60.0
"""How long workers and mounts may take to end, beyond what programs of plug-ins may take."""


class _Detached(subprocess.Popen[bytes]):
    """A process that outlives the object: dropping it neither waits nor warns."""

    def __del__(self) -> None:
        """Leaves the process alone."""


_started: list[_Detached] = []


def start_control_plane(settings: Settings, *, deadline: float = START_SECONDS) -> int:
    """Starts a control plane; its pid, once it answers.

    Raises ControlPlaneError with the reason it ended at once, ControlPlaneTimeoutError.
    """
    prepare_runtime_directory(settings.runtime_dir)
    log = settings.runtime_dir / LOG_FILE
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    try:
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = _Detached(
                [sys.executable, "-m", "fluidpy.control", "--ready-fd", str(ready_write)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(ready_write,),
                start_new_session=True,
                cwd="/",
                env=worker_environment(settings),
            )
        finally:
            os.close(log_fd)
            os.close(ready_write)
        _started.append(process)
        _await_ready(ready_read, process, settings, time.monotonic() + deadline)
    finally:
        os.close(ready_read)
    return process.pid


def _await_ready(ready: int, process: _Detached, settings: Settings, limit: float) -> None:
    log = settings.runtime_dir / LOG_FILE
    said = b""
    while not said.endswith(b"\n"):
        left = limit - time.monotonic()
        if left <= 0 or not wait_ready(ready, select.POLLIN, left):
            process.kill()
            process.wait()
            raise ControlPlaneTimeoutError(
                "the control plane was started and was not ready in time", cure=f"Look at {log}."
            )
        piece = os.read(ready, 65536)
        if not piece:
            break
        said += piece
    if said.startswith(b"{"):
        process.wait()
        raise from_wire(protocol.decode(said))
    if said.strip() != b"ready":
        raise ControlPlaneError(
            f"the control plane ended with status {process.wait()} at once", cure=f"Look at {log}."
        )


def stop_control_plane(settings: Settings, *, force: bool = False) -> int:
    """Ends workers and control plane; the pid it had, once it has ended.

    Raises ControlPlaneAbsentError, InUseError (unless `force`), ControlPlaneTimeoutError.
    """
    client = ControlClient(settings, deadline=STOP_SECONDS)
    pid = int(client.request("GET", "/healthz")["pid"])
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        seconds = STOP_SECONDS + float(client.stop(force=force).get("stopSeconds", 0.0))
        if not wait_ready(ended, select.POLLIN, seconds):
            raise ControlPlaneTimeoutError(
                f"the control plane (process {pid}) has not ended within {seconds:g} s",
                cure=f"Look at {settings.runtime_dir / LOG_FILE}.",
            )
    finally:
        os.close(ended)
    return pid
