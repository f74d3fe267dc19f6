"""The control plane's interface: HTTP and JSON on a unix socket, paths and answers as Kubernetes'.

Objects are created, replaced, listed, watched and deleted here; what they bring about is the
reconciler's. Whoever connects must be this user. A Secret's values go in and never out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from fluidpy.api.kinds import KindInfo
from fluidpy.client.start import peer_of
from fluidpy.control.admission import Admission, kind_of
from fluidpy.control.answers import failure, json_answer, object_list, shown
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import Change, ObjectStore
from fluidpy.errors import ControlPlaneError, FluidpyError, UsageError

_log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Largest body: a Dataset with tens of thousands of mounts."""

WATCH_SECONDS: Final = 3600.0
"""How long a watch lasts that names no time; its client watches on from where it ended."""

FINALIZERS: Final = {
    "datasets": ("fluid-dataset-controller-finalizer",),
}
"""What must be done before objects of a kind go; Fluid's own name of it."""

EVENTS: Final = "events"
"""The plural of Events, which are written by the control plane alone."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Controlled(Protocol):
    """What the rest of the control plane does for its interface."""

    async def status(self) -> Document:
        """The control plane's own state."""

    async def access(
        self, namespace: str, name: str, member: str, seconds: float, *, stay: bool = False
    ) -> Document:
        """How a local process reads a Dataset, by that member if it can, within the seconds.

        `stay`: it is waited for as long as the Dataset lies on it.
        """

    async def scale(self, key: ObjectKey, replicas: int, drain: list[str]) -> Document:
        """The runtime with another number of workers."""

    async def declare_mount(self, order: Document) -> Document:
        """The record of a mount that is kept from now on."""

    async def remove_mount(self, directory: str, lazy: bool) -> Document:
        """Unmounts what was declared."""

    async def stop(self, force: bool) -> Document:
        """Ends everything, soon after the answer."""

    def metrics(self) -> str:
        """The metrics in Prometheus' text form."""


class ApiServer:
    """Serves the objects of a store, and what `Controlled` does, on one unix socket."""

    def __init__(self, store: ObjectStore, admission: Admission, controlled: Controlled) -> None:
        """Listens to nothing yet."""
        self._store = store
        self._admission = admission
        self._controlled = controlled
        self._watchers: set[asyncio.Event] = set()
        self._runner: web.AppRunner | None = None
        self._stopping = False

    async def start(self, path: Path) -> None:
        """Listens at `path` (0600); what a killed process left there is replaced.

        Raises ControlPlaneError.
        """
        listener = _listening(path)
        self._store.listeners.append(self._on_change)
        application = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[_only_this_user, _errors]
        )
        application.add_routes(self._routes())
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Ends watches and connections."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        routes = [
            web.get("/healthz", self._healthz),
            web.get("/metrics", self._metrics),
            web.get("/v1/status", self._status),
            web.post("/v1/validate", self._validate),
            web.get("/v1/access/{namespace}/{name}", self._access),
            web.post("/v1/mounts", self._declare_mount),
            web.delete("/v1/mounts", self._remove_mount),
            web.post("/v1/stop", self._stop),
        ]
        for group in ("/apis/data.fluid.io/v1alpha1", "/api/v1"):
            for base in (f"{group}/namespaces/{{namespace}}/{{plural}}", f"{group}/{{plural}}"):
                routes += [
                    web.get(base, self._list),
                    web.post(base, self._create),
                    web.get(f"{base}/{{name}}", self._get),
                    web.put(f"{base}/{{name}}", self._replace),
                    web.delete(f"{base}/{{name}}", self._delete),
                    web.put(f"{base}/{{name}}/scale", self._scale),
                ]
        return routes

    async def _healthz(self, request: web.Request) -> web.Response:
        return json_answer({"ok": True, "pid": os.getpid()})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self._controlled.metrics(), content_type="text/plain")

    async def _status(self, request: web.Request) -> web.Response:
        return json_answer(await self._controlled.status())

    async def _access(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        seconds = _number(request, "seconds", 30.0)
        member = request.query.get("member", "")
        stay = request.query.get("stay") == "true"
        answer = await self._controlled.access(namespace, name, member, seconds, stay=stay)
        return json_answer(answer)

    async def _validate(self, request: web.Request) -> web.Response:
        items = (await _body(request)).get("items")
        if not isinstance(items, list):
            raise UsageError("the body has no list `items`", cure="List the objects under items.")
        return json_answer(self._admission.review_all(items))

    async def _declare_mount(self, request: web.Request) -> web.Response:
        return json_answer(await self._controlled.declare_mount(await _body(request)))

    async def _remove_mount(self, request: web.Request) -> web.Response:
        body = await _body(request)
        directory = _text(body, "directory")
        return json_answer(await self._controlled.remove_mount(directory, body.get("lazy") is True))

    async def _stop(self, request: web.Request) -> web.Response:
        body = await _body(request)
        return json_answer(await self._controlled.stop(body.get("force") is True))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural, namespace = request.match_info["plural"], request.match_info.get("namespace")
        kind, api_version = _kind_names(plural)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, plural, namespace)
        items = self._store.list_objects(plural, namespace)
        return json_answer(object_list(kind, api_version, items, self._store.revision))

    async def _get(self, request: web.Request) -> web.Response:
        return json_answer(shown(self._store.get(_key_of(request))))

    async def _create(self, request: web.Request) -> web.Response:
        plural = _writable(request).plural
        namespace = request.match_info.get("namespace", "default")
        reviewed = self._admission.review(plural, namespace, None, await _body(request))
        if _is_dry(request):
            return _with_warnings(shown(reviewed.document), reviewed.warnings)
        document = self._store.create(
            reviewed.key, reviewed.document, FINALIZERS.get(reviewed.key.plural, ())
        )
        return _with_warnings(shown(document), reviewed.warnings, 201)

    async def _replace(self, request: web.Request) -> web.Response:
        _writable(request)
        key = _key_of(request)
        self._store.get(key)
        reviewed = self._admission.review(
            key.plural, key.namespace or "default", key.name, await _body(request)
        )
        if _is_dry(request):
            return _with_warnings(shown(reviewed.document), reviewed.warnings)
        document = self._store.replace(key, reviewed.document)
        return _with_warnings(shown(document), reviewed.warnings)

    async def _delete(self, request: web.Request) -> web.Response:
        _writable(request)
        return json_answer(shown(self._store.delete(_key_of(request))))

    async def _scale(self, request: web.Request) -> web.Response:
        _writable(request)
        body = await _body(request)
        replicas, drain = body.get("replicas"), body.get("drain", [])
        if type(replicas) is not int or replicas < 0:
            raise UsageError("replicas is no number of workers", cure="Give replicas from 0 up.")
        if not isinstance(drain, list) or not all(isinstance(name, str) for name in drain):
            raise UsageError("drain is no list of names", cure="Give the names of workers.")
        return json_answer(shown(await self._controlled.scale(_key_of(request), replicas, drain)))

    async def _watch(
        self, request: web.Request, plural: str, namespace: str | None
    ) -> web.StreamResponse:
        since = _number(request, "resourceVersion", float(self._store.revision))
        seconds = _number(request, "timeoutSeconds", WATCH_SECONDS)
        self._store.changes_since(int(since))  # an expired version is an answer, not a stream
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            async with asyncio.timeout(seconds):
                await self._stream(response, plural, namespace, int(since), changed)
        except (TimeoutError, ConnectionResetError):
            pass  # the time of the watch is over, or its client has gone
        finally:
            self._watchers.discard(changed)
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        plural: str,
        namespace: str | None,
        since: int,
        changed: asyncio.Event,
    ) -> None:
        while not self._stopping:
            changed.clear()
            for change in self._store.changes_since(since):
                since = change.revision
                if change.key.plural == plural and namespace in (None, change.key.namespace):
                    await response.write(_line(change))
            await changed.wait()

    def _on_change(self, change: Change) -> None:
        for watcher in self._watchers:
            watcher.set()


def _line(change: Change) -> bytes:
    value = {"type": change.type, "object": shown(change.document)}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _kind_names(plural: str) -> tuple[str, str]:
    if plural == EVENTS:
        return "Event", "v1"
    info = kind_of(plural)
    return info.kind, info.api_version


def _writable(request: web.Request) -> KindInfo:
    return kind_of(request.match_info["plural"])


def _key_of(request: web.Request) -> ObjectKey:
    plural, name = request.match_info["plural"], request.match_info["name"]
    namespace = request.match_info.get("namespace", "default")
    if plural != EVENTS and not kind_of(plural).namespaced:
        namespace = ""
    return ObjectKey(plural, namespace, name)


def _is_dry(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _with_warnings(document: Document, warnings: list[str], status: int = 200) -> web.Response:
    """Warnings go in headers, as Kubernetes sends them (RFC 9110 has no better place)."""
    response = json_answer(document, status)
    for warning in warnings:
        plain = warning.encode("ascii", "backslashreplace").decode().replace('"', "'")
        response.headers.add("Warning", f'299 - "{" ".join(plain.split())}"')
    return response


def _number(request: web.Request, name: str, default: float) -> float:
    try:
        return float(request.query.get(name, default))
    except ValueError:
        raise UsageError(f"{name} is no number", cure=f"Give {name} as a number.") from None


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.read())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError("the body is no JSON object", cure="Send one JSON object.")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is missing or no text", cure=f"Give {name} as text.")
    return value


@web.middleware
async def _only_this_user(request: web.Request, handler: _Handler) -> web.StreamResponse:
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is not None and (uid := peer_of(peer)[1]) != os.getuid():
        _log.warning("user %d is refused: this control plane is user %d's", uid, os.getuid())
        return failure(
            ControlPlaneError("this control plane is another user's", cure="Start one of your own.")
        )
    return await handler(request)


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FluidpyError as error:
        return failure(error)
    except web.HTTPException as error:
        return failure(UsageError(f"{request.method} {request.path}: {error.reason}", cure=_PATHS))
    except Exception as error:  # noqa: BLE001 - told to the client and logged, not to kill the rest
        _log.error("a request failed in a way it should not", exc_info=error)
        return failure(
            ControlPlaneError(
                f"the control plane failed at this request: {type(error).__name__}",
                cure="Look at control.log in the runtime directory, and report it.",
            )
        )


_PATHS: Final = "Use a client of the same version as the control plane."


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ControlPlaneError(
            f"the control plane cannot listen at {path}: {error}",
            cure="Set FLUIDPY_RUNTIME_DIR to a short path of your own.",
        ) from error
    return listener
