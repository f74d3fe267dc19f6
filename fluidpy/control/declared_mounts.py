"""Mounts that are kept as they were declared: mounted again when their processes are gone.

A declared mount is an object of the store, of a kind of the control plane's own. Its processes are
`fluidpy.fuse`'s; they outlive the control plane, and their records say whether they are well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fluidpy.client.start import worker_environment
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.errors import (
    FluidpyError,
    MountError,
    ObjectNotFoundError,
    UsageError,
    from_wire,
)
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

PLURAL: Final = "mounts"
"""The kind under which declared mounts lie in the store; the interface does not list it."""

MOUNT_SECONDS: Final = 90.0
"""How long a mount may take: a worker, processes, the first listing of the source."""

END_SECONDS: Final = 5.0
"""How long a process that was too slow may take to end, once asked and once killed."""

PAUSES: Final = (0.2, 1.0, 5.0, 15.0)
"""Seconds before a mount that failed is tried again; the last one repeats."""


@dataclass(slots=True)
class _Attempts:
    """What was tried of one mount."""

    task: asyncio.Task[Document] | None = None
    failures: int = 0
    failure: str = ""
    not_before: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class DeclaredMounts:
    """The declared mounts of a store; `look` mounts those that are not there."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        """Looks at nothing yet."""
        self._store = store
        self._settings = settings
        self._attempts: dict[str, _Attempts] = {}
        self._tasks: set[asyncio.Task[Document]] = set()
        self._paused = False

    def rows(self) -> list[Document]:
        """Each declared mount with its record, or why it is not mounted, for `status`."""
        return [self._row(one) for one in self._store.list_objects(PLURAL)]

    def of(self, namespace: str, dataset: str) -> list[Document]:
        """The declared mounts of one Dataset."""
        return [
            one["spec"]
            for one in self._store.list_objects(PLURAL)
            if (one["spec"]["namespace"], one["spec"]["dataset"]) == (namespace, dataset)
        ]

    async def declare(self, order: Document) -> Document:
        """Keeps a mount from now on; its record once it is mounted.

        Raises what keeps it from being mounted: then it is not declared either.
        """
        spec = _checked(order)
        key = _key(spec["directory"])
        before = self._store.find(key)
        if before is not None and before["spec"] != spec:
            raise MountError(
                f"{spec['directory']} is declared already, for "
                f"{before['spec']['namespace']}/{before['spec']['dataset']}",
                cure=f"Unmount it first: fluidpy umount {spec['directory']}",
            )
        if before is None:
            self._store.create(key, {"kind": "Mount", "metadata": {"name": key.name}, "spec": spec})
        try:
            return await self._mount(spec)
        except FluidpyError:
            if before is None:
                with contextlib.suppress(ObjectNotFoundError):
                    self._store.delete(key)
            raise

    async def remove(self, directory: str, *, lazy: bool) -> Document:
        """Unmounts, and keeps the mount no longer. Raises ObjectNotFoundError, MountError."""
        key = _key(directory)
        if self._store.find(key) is None:
            raise ObjectNotFoundError(
                f"the control plane keeps no mount at {directory}",
                cure="`fluidpy status` lists the mounts.",
            )
        await self._unmount(directory, lazy=lazy)
        with contextlib.suppress(ObjectNotFoundError):  # somebody else was as quick
            self._store.delete(key)
        self._attempts.pop(directory, None)
        return {"directory": directory}

    def look(self) -> None:
        """Begins to mount what is declared and not there."""
        if self._paused:
            return
        for one in self._store.list_objects(PLURAL):
            spec = one["spec"]
            attempts = self._of(spec["directory"])
            idle = attempts.task is None and not attempts.lock.locked()
            if idle and time.monotonic() >= attempts.not_before and not self._is_well(spec):
                attempts.task = asyncio.get_running_loop().create_task(self._mount(spec))
                self._tasks.add(attempts.task)
                attempts.task.add_done_callback(self._tried)

    async def unmount_all(self, *, lazy: bool) -> None:
        """Unmounts all; all stay declared. Raises MountError of the first that is in use."""
        self._paused = True
        await self.close()
        try:
            for one in self._store.list_objects(PLURAL):
                if self._record(one["spec"]["directory"]) is not None:
                    await self._unmount(one["spec"]["directory"], lazy=lazy)
        except BaseException:
            self._paused = False  # nothing ends after all: what was unmounted is mounted again
            raise

    async def close(self) -> None:
        """Ends what is being tried; what is mounted stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tried(self, task: asyncio.Task[Document]) -> None:
        self._tasks.discard(task)
        for attempts in self._attempts.values():
            if attempts.task is task:
                attempts.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a declared mount cannot be mounted: %s", error)

    async def _mount(self, spec: Document) -> Document:
        attempts = self._of(spec["directory"])
        async with attempts.lock:
            try:
                answer = await self._run({**spec, "deadline": MOUNT_SECONDS})
            except FluidpyError as error:
                attempts.failures += 1
                attempts.failure = str(error)
                pause = PAUSES[min(attempts.failures, len(PAUSES)) - 1]
                attempts.not_before = time.monotonic() + pause
                raise
            attempts.failures, attempts.failure = 0, ""
            record: Document = answer["record"]
            return record

    async def _unmount(self, directory: str, *, lazy: bool) -> None:
        async with self._of(directory).lock:
            await self._run({"directory": directory, "unmount": True, "lazy": lazy})

    async def _run(self, order: Document) -> Document:
        """One process that mounts or unmounts; what it answers. Raises its error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fluidpy.fuse.declared_mount",
            json.dumps(order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            env=worker_environment(self._settings),
        )
        try:
            async with asyncio.timeout(MOUNT_SECONDS):
                output, _ = await process.communicate()
        except BaseException as error:
            await _ended(process)
            if not isinstance(error, TimeoutError):
                raise
            raise MountError(
                f"{order['directory']} was not mounted or unmounted within {MOUNT_SECONDS:g} s",
                cure="Look at the logs in the runtime directory.",
            ) from None
        return _answer_of(output, order["directory"], process.returncode)

    def _of(self, directory: str) -> _Attempts:
        return self._attempts.setdefault(directory, _Attempts())

    def _row(self, one: Document) -> Document:
        spec = one["spec"]
        record = self._record(spec["directory"]) if self._is_well(spec) else None
        failure = self._of(spec["directory"]).failure or None
        if record is not None:
            return {**record, "failure": None}
        return {
            "mountPoint": spec["directory"],
            "dataset": spec["dataset"],
            "namespace": spec["namespace"],
            "failure": failure or "is being mounted",
        }

    def _record(self, directory: str) -> Document | None:
        """What the processes of a mount say of it; see `fluidpy.fuse.mount_record`."""
        path = self._settings.mounts_dir / f"{_mount_id(directory)}.json"
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _is_well(self, spec: Document) -> bool:
        """Whether its holder lives. A mount that is there without one is mounted anew."""
        record = self._record(spec["directory"])
        if record is None or not record.get("managed") or record.get("failure"):
            return False
        pid = record.get("holderPid")
        return isinstance(pid, int) and _lives(pid)


def _checked(order: Document) -> Document:
    spec = {name: order.get(name) for name in ("directory", "namespace", "dataset", "readMode")}
    if not all(isinstance(value, str) and value for value in spec.values()):
        raise UsageError(
            "a mount needs directory, namespace, dataset and readMode", cure="Give all as text."
        )
    if not Path(spec["directory"]).is_absolute():  # type: ignore[arg-type]  # checked to be text
        raise UsageError(f"{spec['directory']!r} is relative", cure="Give an absolute path.")
    return {name: str(value) for name, value in spec.items()}


def _key(directory: str) -> ObjectKey:
    return ObjectKey(PLURAL, "", _mount_id(directory))


def _mount_id(directory: str) -> str:
    """The name of a mount's record; as `mount_record.mount_id` has it."""
    return hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()


def _answer_of(output: bytes, directory: str, status: int | None) -> Document:
    try:
        answer: Any = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        answer = None
    if not isinstance(answer, dict):
        raise MountError(
            f"the process that mounts {directory} ended with status {status} and said nothing",
            cure="Look at control.log in the runtime directory.",
        )
    if "error" in answer:
        raise from_wire(answer["error"])
    return answer


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends a process: asked to, then killed; one that the kernel holds is left."""
    for end in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
                return


def _lives(pid: int) -> bool:
    try:
        os.close(os.pidfd_open(pid))
    except OSError:
        return False
    return True
