"""A worker in a thread of the test: a real catalog and sparse files over a tree in memory.

What a mount must cope with is ordered exactly: partial files, slow and failing reads, death,
versions that change.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, entry_to_wire
from fluidpy.errors import FluidpyError, PathNotFoundError
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import Kind, MountSource, ObjectInfo

BLOCK = 64 * 1024
NOW_NS = 1_700_000_000_123_456_789


class Link(bytes):
    """The target of a symlink."""


Node = bytes | None
"""Content of a file, a `Link`, or None for a folder."""


def definition(**changes: Any) -> DatasetDefinition:
    source = MountSource("file:///nowhere", label="data")
    values: dict[str, Any] = {
        "name": "tree",
        "namespace": "default",
        "mounts": (MountDefinition("data", "/", source),),
        "metadata_ttl_seconds": 300.0,
        **changes,
    }
    return DatasetDefinition(**values)


class TreeWorker:
    """Serves `tree` (paths to nodes) on the settings' worker socket until `stop`."""

    def __init__(self, settings: Settings, directory: Path, tree: dict[bytes, Node]) -> None:
        self.settings = settings
        self.directory = directory
        self.tree = tree
        self.versions: dict[bytes, int] = {}
        self.pid = os.getpid()
        self.complete = True
        """Whether files are in the cache; else each read brings its blocks."""
        self.kept = True
        """Whether what is read is kept in the cache file; else it comes in memory."""
        self.stall: threading.Event | None = None
        """Reads and listings wait for it, each in a thread of its own."""
        self.failure: FluidpyError | None = None
        self.requests: list[Message] = []
        self._handles: dict[int, tuple[Entry, bytes, Path]] = {}
        self._lock = threading.RLock()
        self._peers: list[Any] = []
        self.subscribed: list[Any] = []
        self.pushed: list[list[Any]] = []
        """Changes, as they were told and are told again to who asks `since` when."""
        self._threads: list[threading.Thread] = []
        self.catalog_path = directory / "catalog.sqlite"
        self.writer = CatalogWriter(self.catalog_path)
        self.reader: CatalogReader

    def start(self) -> None:
        self.settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings.worker_socket.unlink(missing_ok=True)
        self._listener = protocol.new_socket()
        self._listener.bind(os.fspath(self.settings.worker_socket))
        self._listener.listen()
        self._run(self._accept)

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self._run(self._serve, peer)

    def _serve(self, peer: Any) -> None:
        with peer:
            self._converse(peer)

    def _converse(self, peer: Any) -> None:
        while True:
            try:
                received = protocol.receive(peer)
            except OSError:
                return
            if received is None:
                return
            message = received.message
            self.requests.append(message)
            if "id" not in message:
                continue
            if self.stall is not None and message["op"] in ("read", "list", "lookup"):
                self._run(self._answer_stalled, peer, message, self.stall)
            else:
                self._answer(peer, message)

    def _answer_stalled(self, peer: Any, message: Message, stall: threading.Event) -> None:
        stall.wait(30)
        self._answer(peer, message)

    def _answer(self, peer: Any, message: Message) -> None:
        try:
            with self._lock:
                if self.failure is not None and message["op"] in ("read", "list", "lookup"):
                    raise self.failure
                ok, fds = getattr(self, f"_op_{message['op']}")(peer, message)
            reply = protocol.answer(message["id"], ok)
        except FluidpyError as error:
            reply, fds = protocol.failure(message["id"], error), []
        try:
            protocol.send(peer, reply, fds)
        except OSError:
            pass
        finally:
            protocol.close_all(fds)

    # -- operations ------------------------------------------------------------------------------

    def _op_hello(self, _peer: Any, _message: Message) -> tuple[Message, list[int]]:
        return {"pid": self.pid, "version": 1, "block_bytes": BLOCK}, []

    def _op_attach(self, _peer: Any, message: Message) -> tuple[Message, list[int]]:
        given = DatasetDefinition.from_wire(message["definition"])
        self.writer.compose(given)
        return {"dataset": 7, "key": given.key, "catalog": os.fspath(self.catalog_path)}, []

    def _op_invalidations(self, peer: Any, message: Message) -> tuple[Message, list[int]]:
        self.subscribed.append(peer)
        if message.get("since"):
            self._push(peer, self.pushed)
        return {"complete": True}, []

    def _op_list(self, _peer: Any, message: Message) -> tuple[Message, list[int]]:
        return {"changed": self.list_directory(message["directory"])}, []

    def _op_lookup(self, _peer: Any, message: Message) -> tuple[Message, list[int]]:
        self.list_directory(message["parent"])
        with self._open_reader() as reader:
            entry = reader.lookup(message["parent"], os.fsencode(message["name"]))
        if entry is None:
            raise PathNotFoundError("no such name")
        return {"entry": entry_to_wire(entry)}, []

    def _op_open(self, _peer: Any, message: Message) -> tuple[Message, list[int]]:
        with self._open_reader() as reader:
            entry = reader.get(message["entry"])
            if entry is None:
                raise PathNotFoundError("no such row")
            content = self.tree[reader.path_of(entry.id)]
        assert isinstance(content, bytes)
        path = self.directory / f"object-{entry.id}"
        if not path.exists():
            path.write_bytes(content if self.complete else b"")
            os.truncate(path, len(content))
        handle = len(self._handles) + 1
        self._handles[handle] = (entry, content, path)
        ok = {"handle": handle, "entry": entry_to_wire(entry), "complete": self.complete}
        return ok, [os.open(path, os.O_RDONLY)] if self.kept else []

    def _op_read(self, _peer: Any, message: Message) -> tuple[Message, list[int]]:
        _entry, content, path = self._handles[message["handle"]]
        start, end = message["start"], min(message["end"], len(content))
        if not self.kept:
            fd = os.memfd_create("bytes", os.MFD_CLOEXEC)
            os.write(fd, b"....." + content[start:end])
            return {"offset": 5, "length": end - start, "complete": False}, [fd]
        first, last = start // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, len(content))
        with path.open("r+b") as stream:
            stream.seek(first)
            stream.write(content[first:last])
        return {"fd": False, "complete": False}, []

    # -- the tree --------------------------------------------------------------------------------

    def _open_reader(self) -> Any:
        return closing(CatalogReader(self.catalog_path))

    def list_directory(self, directory: int) -> bool:
        """Lists one folder from the tree; pushes what changed."""
        with self._lock:  # the catalog has one writer: a server may attach just now
            return self._list_directory(directory)

    def _list_directory(self, directory: int) -> bool:
        with self._open_reader() as reader:
            prefix = reader.path_of(directory)
            before = {e.name: e.id for e in reader.children(directory, limit=1 << 30)}
        entries = [self._info(path) for path in self.tree if path.rpartition(b"/")[0] == prefix]
        changes = self.writer.apply_listing(directory, 0, entries, time.time(), {})
        with self._open_reader() as reader:
            after = {e.name: e.id for e in reader.children(directory, limit=1 << 30)}
        changed = [
            [directory, os.fsdecode(name), before.get(name, 0), after.get(name, 0)]
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        ]
        self.pushed.extend(changed)
        for peer in list(self.subscribed) if changed else []:
            self._push(peer, changed)
        return changes.any()

    def _push(self, peer: socket.socket, changed: list[list[Any]]) -> None:
        for start in range(0, len(changed), 500):
            fields = {"dataset": 7, "entries": changed[start : start + 500]}
            try:
                protocol.send(peer, protocol.event("changed", fields))
            except OSError:  # its mount has ended
                with suppress(ValueError):  # all were dropped meanwhile
                    self.subscribed.remove(peer)
                return

    def _info(self, path: bytes) -> ObjectInfo:
        node = self.tree[path]
        name = os.fsdecode(path.rpartition(b"/")[2])
        if node is None:
            return ObjectInfo(name, Kind.DIRECTORY)
        if isinstance(node, Link):
            return ObjectInfo(name, Kind.SYMLINK, mtime_ns=NOW_NS, target=os.fsdecode(node))
        version = f"v{self.versions.get(path, 1)}".encode()
        return ObjectInfo(name, Kind.FILE, len(node), NOW_NS, version)

    def change(self, path: bytes, content: bytes) -> None:
        """The source has other bytes now; seen at the next listing."""
        with self._lock:
            self.tree[path] = content
            self.versions[path] = self.versions.get(path, 1) + 1

    def drop_peers(self) -> None:
        """All connections end, as when a worker dies; the next worker is this one again."""
        self.subscribed.clear()
        peers, self._peers = self._peers, []
        for peer in peers:
            with suppress(OSError):  # its client has gone, and it is closed
                peer.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        if self.stall is not None:
            self.stall.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_peers()
        for thread in self._threads:
            thread.join(5)
        self.writer.close()
