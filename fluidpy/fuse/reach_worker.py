"""Reaching the worker for one Dataset: connect (starting it), `hello`, `attach`. Blocks."""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, Operation
from fluidpy.client.start import check_cache_directory, connect, ensure_worker
from fluidpy.errors import (
    ControlPlaneError,
    DatasetNotFoundError,
    FluidpyError,
    ObjectConflictError,
    ObjectNotFoundError,
    WorkerError,
)
from fluidpy.fuse.attributes import ROOT_ROW
from fluidpy.fuse.worker_link import Attached
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

_logger = logging.getLogger("fluidpy.fuse.server")

ATTACH_AGAIN_SECONDS: Final = 0.05
"""Pause before a worker is asked again for a Dataset that it is about to be told of."""


def reach_worker(
    definition: DatasetDefinition,
    settings: Settings,
    *,
    first: bool = False,
    catalog: Path | None = None,
) -> Attached:
    """Connects to the worker (starting it), and attaches the Dataset. Blocks; has deadlines.

    One of the control plane's that left its pool is followed by another, which goes on with the
    rows of `catalog`. Raises what the worker says of the Dataset, WorkerError when it cannot be
    reached, or when it caches elsewhere than is asked for and this is the `first` time: a mount
    that serves goes on with whatever worker came after that.
    """
    if settings.worker_runtime_dir is None:
        wanted: Message = {"definition": definition.to_wire()}
        return _reach(settings, wanted, first=first)
    wanted = {"name": definition.key} | ({"catalog": os.fspath(catalog)} if catalog else {})
    limit = time.monotonic() + settings.worker_start_seconds
    if not _listens(settings):
        settings = _place(definition, settings, limit)
    while True:
        try:
            return _reach(settings, wanted, first=first)
        except DatasetNotFoundError:  # it is about to be told of it, or no longer serves it
            if time.monotonic() > limit:
                raise
        time.sleep(ATTACH_AGAIN_SECONDS)
        settings = _place(definition, settings, limit)


def _listens(settings: Settings) -> bool:
    connection = connect(settings)
    if connection is not None:
        connection.close()
    return connection is not None


def _place(definition: DatasetDefinition, settings: Settings, limit: float) -> Settings:
    """The settings of the worker to read by: that of before, as long as the Dataset lies on it.

    Waits until it serves. It stays, too, when the control plane does not say: then it is tried.
    """
    from fluidpy.client.control_client import ControlClient  # a mount seldom needs it

    assert settings.worker_runtime_dir is not None
    left = max(0.1, limit - time.monotonic())
    try:
        access = ControlClient(settings, deadline=left).access(
            definition.namespace,
            definition.name,
            deadline=left,
            member=settings.worker_runtime_dir.name,
            stay=True,
        )
    except (ControlPlaneError, ObjectNotFoundError, ObjectConflictError) as error:
        _logger.warning("Dataset %s: its worker is not known anew: %s", definition.key, error)
        return settings
    place = Path(access["runtimeDir"])
    if place != settings.worker_runtime_dir:
        _logger.info("Dataset %s: goes on by %s", definition.key, access["member"])
    return replace(settings, worker_runtime_dir=place, cache_dir=Path(access["cacheDir"]))


def _reach(settings: Settings, wanted: Message, *, first: bool) -> Attached:
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
        dataset = ask(connection, 2, Operation.ATTACH, **wanted)
    except FluidpyError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise WorkerError(
            f"the worker broke the connection: {error}",
            cure="Look at worker.log in the runtime directory.",
        ) from error
    return Attached(connection, hello, dataset, settings.worker_runtime_dir)


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
