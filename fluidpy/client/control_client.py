"""Speaking to this user's control plane: HTTP and JSON over its unix socket, paths as Kubernetes'.

Light to import, for `fluid://` asks here too. Each call is one connection, so that any thread and
any forked child may make it. What the control plane refuses is raised as the error it says.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

from fluidpy.errors import (
    ControlPlaneAbsentError,
    ControlPlaneError,
    ControlPlaneTimeoutError,
    FluidpyError,
    from_wire,
)
from fluidpy.settings import Settings

Document: TypeAlias = dict[str, Any]

FLUID_GROUP: Final = "/apis/data.fluid.io/v1alpha1"
"""Where Fluid's own kinds are."""
CORE_GROUP: Final = "/api/v1"
"""Where Secrets, ConfigMaps, PersistentVolumeClaims and Events are."""
CORE_PLURALS: Final = frozenset({"secrets", "configmaps", "persistentvolumeclaims", "events"})

BASE_DIRECTORY_ANNOTATION: Final = "fluidpy.io/base-directory"
"""On a Dataset: the directory that relative paths of its sources are below (an absolute path)."""

DEADLINE_SECONDS: Final = 60.0
"""How long an answer may take, unless the caller says otherwise."""

ANSWER_SECONDS: Final = 2.0
"""How much longer than the control plane a client waits, so that its error, which says more, comes
first."""

_UCRED: Final = struct.Struct("iII")
"""`struct ucred` of unix(7): pid, uid, gid."""


class ControlClient:
    """Calls of one user's control plane; `deadline` in seconds bounds each of them."""

    def __init__(self, settings: Settings, *, deadline: float = DEADLINE_SECONDS) -> None:
        """Connects to nothing yet."""
        self._path = os.fspath(settings.control_socket)
        self._deadline = deadline

    def is_running(self) -> bool:
        """Whether a control plane listens."""
        try:
            self.request("GET", "/healthz", deadline=min(self._deadline, 10.0))
        except ControlPlaneAbsentError:
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Document:
        """The JSON object that answers. Raises the error the control plane answers with,
        ControlPlaneAbsentError when none listens, ControlPlaneTimeoutError.
        """
        with closing(self._connection(deadline)) as connection:
            response = self._ask(connection, method, path, body, query)
            return self._decoded(response)

    def list_objects(self, plural: str, namespace: str | None = None) -> Document:
        """The list object of a kind (`items`, `metadata.resourceVersion`); None: all namespaces."""
        return self.request("GET", _collection(plural, namespace))

    def get(self, plural: str, namespace: str, name: str) -> Document:
        """One object; `namespace` is "" for kinds without one. Raises ObjectNotFoundError."""
        return self.request("GET", _place(plural, namespace, name))

    def create(
        self, plural: str, namespace: str, document: Mapping[str, Any], *, dry_run: bool = False
    ) -> Document:
        """Declares a new object; the object as it is then. Raises ValidationError,
        ObjectExistsError.
        """
        return self.request("POST", _collection(plural, namespace), document, query=_dry(dry_run))

    def replace(
        self,
        plural: str,
        namespace: str,
        name: str,
        document: Mapping[str, Any],
        *,
        dry_run: bool = False,
    ) -> Document:
        """Declares an object anew; with `metadata.resourceVersion` only if that is still its own.

        Raises ValidationError, ObjectNotFoundError, ObjectConflictError.
        """
        return self.request("PUT", _place(plural, namespace, name), document, query=_dry(dry_run))

    def delete(self, plural: str, namespace: str, name: str) -> Document:
        """Asks for an object's deletion; the object as it is then. Raises ObjectNotFoundError."""
        return self.request("DELETE", _place(plural, namespace, name))

    def scale(
        self, plural: str, namespace: str, name: str, replicas: int, drain: Sequence[str] = ()
    ) -> Document:
        """Sets a runtime's number of workers; `drain` names those that are to leave.

        For a Dataset, the runtime that serves it. Raises ValidationError, ObjectNotFoundError.
        """
        place = f"{_place(plural, namespace, name)}/scale"
        return self.request("PUT", place, {"replicas": replicas, "drain": list(drain)})

    def watch(
        self, plural: str, namespace: str | None, resource_version: str, *, seconds: float
    ) -> Iterator[Document]:
        """`{"type", "object"}` of each change after a list's resourceVersion, for `seconds`.

        Raises WatchExpiredError when that version is too old: list again.
        """
        query = {
            "watch": "1",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        with closing(self._connection(seconds + self._deadline)) as connection:
            response = self._ask(connection, "GET", _collection(plural, namespace), None, query)
            if response.status >= 300:
                self._decoded(response)
            while (change := self._change(response)) is not None:
                yield change

    def validate(self, documents: Sequence[Mapping[str, Any]]) -> Document:
        """What is wrong with objects, taken together with those that are there: `problems` (each
        with kind, namespace, name, field, message, cure) and `warnings`. Changes nothing.
        """
        return self.request("POST", "/v1/validate", {"items": list(documents)})

    def status(self) -> Document:
        """The control plane itself: `pid`, `workers`, `mounts`."""
        return self.request("GET", "/v1/status")

    def metrics(self) -> str:
        """The control plane's metrics in Prometheus' text form."""
        with closing(self._connection(None)) as connection:
            response = self._ask(connection, "GET", "/metrics", None, None)
            if response.status >= 300:
                self._decoded(response)
            try:
                return response.read().decode()
            except TimeoutError as error:
                raise self._late("GET", "/metrics") from error

    def access(
        self,
        namespace: str,
        name: str,
        *,
        deadline: float | None = None,
        member: str | None = None,
        stay: bool = False,
    ) -> Document:
        """How a process of this user reads a Dataset: `definition` (wire), `runtimeDir`,
        `cacheDir` and `member`, which is the one asked for if that serves the Dataset.

        Waits until a worker serves it; to `stay`, for that member alone, as long as the Dataset
        lies on it. Raises ObjectNotFoundError, ControlPlaneTimeoutError.
        """
        path = f"/v1/access/{quote(namespace, safe='')}/{quote(name, safe='')}"
        seconds = self._deadline if deadline is None else deadline
        query = {"seconds": str(max(0.1, seconds - ANSWER_SECONDS))}
        if member is not None:
            query["member"] = member
        if stay:
            query["stay"] = "true"
        return self.request("GET", path, query=query, deadline=seconds)

    def declare_mount(
        self, namespace: str, name: str, directory: str, read_mode: str, *, deadline: float
    ) -> Document:
        """Has a Dataset mounted, now and after every crash; the record once it is."""
        body = {
            "namespace": namespace,
            "dataset": name,
            "directory": directory,
            "readMode": read_mode,
        }
        return self.request("POST", "/v1/mounts", body, deadline=deadline)

    def remove_mount(self, directory: str, *, lazy: bool = False) -> Document:
        """Unmounts what `declare_mount` declared. Raises MountError, ObjectNotFoundError."""
        body = {"directory": directory, "lazy": lazy}
        return self.request("DELETE", "/v1/mounts", body)

    def stop(self, *, force: bool = False) -> Document:
        """Ends workers and control plane; what was declared stays. Raises InUseError, saying by
        whom, unless `force`.
        """
        return self.request("POST", "/v1/stop", {"force": force})

    def _connection(self, deadline: float | None) -> _UnixConnection:
        return _UnixConnection(self._path, self._deadline if deadline is None else deadline)

    def _ask(
        self,
        connection: _UnixConnection,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            connection.request(
                method, f"{path}?{urlencode(query)}" if query else path, data, headers
            )
            return connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ControlPlaneAbsentError(
                "no control plane runs", cure="`fluidpy up` starts one."
            ) from error
        except TimeoutError as error:
            raise self._late(method, path) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, FluidpyError):
                raise
            raise ControlPlaneError(
                f"the control plane broke the connection: {error!r}",
                cure="Look at control.log in the runtime directory; `fluidpy up` starts it again.",
            ) from error

    def _decoded(self, response: http.client.HTTPResponse) -> Document:
        try:
            answer = json.loads(response.read())
        except TimeoutError as error:
            raise self._late("read", "the answer") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ControlPlaneError(
                "the control plane's answer is no JSON or was cut off",
                cure="Look at control.log in the runtime directory.",
            ) from error
        if response.status >= 300:
            raise from_wire(answer.get("error", {}))
        assert isinstance(answer, dict)
        return answer

    def _change(self, response: http.client.HTTPResponse) -> Document | None:
        """The next line of a watch; None at its end."""
        try:
            line = response.readline()
            change: Document | None = json.loads(line) if line else None
        except TimeoutError as error:
            raise self._late("watch", "for changes") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ControlPlaneError(
                "the control plane broke a watch off",
                cure="Watch again; `fluidpy up` starts it if it has ended.",
            ) from error
        return change

    def _late(self, method: str, path: str) -> ControlPlaneTimeoutError:
        return ControlPlaneTimeoutError(
            f"the control plane did not answer {method} {path} within the deadline",
            cure="Look at control.log in the runtime directory, or try again.",
        )


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket whose other end is this user's."""

    def __init__(self, path: str, deadline: float) -> None:
        super().__init__("localhost", timeout=deadline)
        self._path = path

    def connect(self) -> None:
        """Connects; raises ControlPlaneError when another user listens there."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(self.timeout)
        try:
            connection.connect(self._path)
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except BaseException:
            connection.close()
            raise
        if (uid := _UCRED.unpack(raw)[1]) != os.getuid():
            connection.close()
            raise ControlPlaneError(
                f"whoever listens at {self._path} is user {uid}, not {os.getuid()}",
                cure="Set FLUIDPY_RUNTIME_DIR to a directory of your own.",
            )
        self.sock = connection


def _collection(plural: str, namespace: str | None) -> str:
    group = CORE_GROUP if plural in CORE_PLURALS else FLUID_GROUP
    if namespace:
        return f"{group}/namespaces/{quote(namespace, safe='')}/{quote(plural, safe='')}"
    return f"{group}/{quote(plural, safe='')}"


def _place(plural: str, namespace: str, name: str) -> str:
    return f"{_collection(plural, namespace)}/{quote(name, safe='')}"


def _dry(dry_run: bool) -> dict[str, str] | None:
    return {"dryRun": "All"} if dry_run else None
