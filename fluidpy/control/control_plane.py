"""The control plane as a whole: the store, its interface, and what acts on the objects."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from fluidpy.control.admission import Admission
from fluidpy.control.api_server import ApiServer
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.unserved_operations import refuse
from fluidpy.errors import ControlPlaneError
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)


class ControlPlane:
    """Everything that one user's control plane is; `start` it, `run` it to its end."""

    def __init__(self, settings: Settings) -> None:
        """Opens the objects. Raises ControlPlaneError."""
        self.settings = settings
        self.store = ObjectStore(settings.state_dir / "objects")
        self.server = ApiServer(self.store, Admission(self.store, [refuse]), self)
        self._ending = asyncio.Event()

    async def start(self) -> None:
        """Listens. Raises ControlPlaneError."""
        await self.server.start(self.settings.control_socket)

    async def run(self) -> None:
        """Serves until `end`."""
        try:
            await self._ending.wait()
        finally:
            await self.server.close()
            self.settings.control_socket.unlink(missing_ok=True)
            self.store.close()

    def end(self, reason: str) -> None:
        """Makes `run` end; harmless when done twice."""
        _log.info("ending: %s", reason)
        self._ending.set()

    async def status(self) -> Document:
        """See `api_server.Controlled`."""
        return {"pid": os.getpid(), "workers": [], "mounts": []}

    async def access(self, namespace: str, name: str) -> Document:
        """See `api_server.Controlled`."""
        raise _not_yet()

    async def scale(self, key: ObjectKey, replicas: int, drain: list[str]) -> Document:
        """See `api_server.Controlled`."""
        raise _not_yet()

    async def declare_mount(self, order: dict[str, Any]) -> Document:
        """See `api_server.Controlled`."""
        raise _not_yet()

    async def remove_mount(self, directory: str, lazy: bool) -> Document:
        """See `api_server.Controlled`."""
        raise _not_yet()

    async def stop(self, force: bool) -> Document:
        """See `api_server.Controlled`."""
        asyncio.get_running_loop().call_later(0.05, self.end, "a client asked for it")
        return {"pid": os.getpid()}

    def metrics(self) -> str:
        """See `api_server.Controlled`."""
        return ""


def _not_yet() -> ControlPlaneError:
    return ControlPlaneError("this is not served yet", cure="Use a newer fluidpy.")
