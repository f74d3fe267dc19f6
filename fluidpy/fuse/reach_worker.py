"""Reaching the worker for one Dataset: connect (starting it), `hello`, `attach`. Blocks."""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, Operation
from fluidpy.client.start import check_cache_directory, ensure_worker
from fluidpy.errors import DatasetNotFoundError, FluidpyError, WorkerError
from fluidpy.fuse.attributes import ROOT_ROW
from fluidpy.fuse.worker_link import Attached
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

ATTACH_AGAIN_SECONDS: Final = 0.05
"""Pause before a worker is asked again for a Dataset that it is about to be told of."""


def reach_worker(
    definition: DatasetDefinition, settings: Settings, *, first: bool = False
) -> Attached:
    """Connects to the worker (starting it), and attaches the Dataset. Blocks; has deadlines.

    Raises what the worker says of the Dataset, WorkerError when it cannot be reached, or when it
    caches elsewhere than is asked for and this is the `first` time: a mount that serves goes on
    with whatever worker came after that.
    """
    connection = ensure_worker(settings)
    connection.settimeout(settings.source_deadline_seconds + settings.worker_start_seconds)
    try:
        hello = ask(connection, 1, Operation.HELLO, version=protocol.PROTOCOL_VERSION)
        if hello.get("version") != protocol.PROTOCOL_VERSION:
            raise WorkerError(
                f"the running worker speaks protocol {hello.get('version')}, this mount "
                f"{protocol.PROTOCOL_VERSION}",
                cure="Stop the worker (`fluidpy worker --stop`); the next use starts a new one.",
            )
        if first:
            check_cache_directory(hello, settings)
        dataset = _attach(connection, definition, settings)
    except FluidpyError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise WorkerError(
            f"the worker broke the connection: {error}",
            cure="Look at worker.log in the runtime directory.",
        ) from error
    return Attached(connection, hello, dataset)


def _attach(
    connection: socket.socket, definition: DatasetDefinition, settings: Settings
) -> Message:
    """By name where the control plane says what the Dataset is: it attaches it soon, too."""
    if settings.worker_runtime_dir is None:
        return ask(connection, 2, Operation.ATTACH, definition=definition.to_wire())
    limit = time.monotonic() + settings.worker_start_seconds
    while True:
        try:
            return ask(connection, 2, Operation.ATTACH, name=definition.key)
        except DatasetNotFoundError:
            if time.monotonic() > limit:
                raise
            time.sleep(ATTACH_AGAIN_SECONDS)


def ask(connection: socket.socket, identifier: int, operation: str, **fields: Any) -> Message:
    """One request on a blocking connection that is not shared yet; the answer's values."""
    deadline = connection.gettimeout() or 60.0
    protocol.send(connection, protocol.request(identifier, operation, deadline, fields))
    while True:
        received = protocol.receive(connection)
        if received is None:
            raise WorkerError(
                "the worker closed the connection",
                cure="Look at worker.log in the runtime directory.",
            )
        protocol.close_all(received.fds)
        if received.message.get("id") == identifier and not received.message.get("more"):
            return protocol.ok_of(received.message)


def reach_and_list(definition: DatasetDefinition, settings: Settings) -> Attached:
    """`reach_worker` for a first mount: has the root listed, so that a broken source shows at once.

    Raises what the source says, too.
    """
    attached = reach_worker(definition, settings, first=True)
    dataset = int(attached.dataset["dataset"])
    try:
        ask(attached.connection, 3, Operation.LIST, dataset=dataset, directory=ROOT_ROW)
    except FluidpyError:
        attached.connection.close()
        raise
    except OSError as error:
        attached.connection.close()
        raise WorkerError(
            f"the worker broke the connection: {error}",
            cure="Look at worker.log in the runtime directory.",
        ) from error
    return attached
