"""A worker in a thread of the test: speaks the protocol over a tree held in memory.

What is told of a real worker by asking it (listing sources, caching) is made up here; what a client
must cope with (slow answers, death, partial files, versions that change) can be ordered exactly.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fluidpy.client import protocol
from fluidpy.client.protocol import Message, RemoteEntry
from fluidpy.errors import (
    FluidpyError,
    IsADirectoryInDatasetError,
    NotADirectoryInDatasetError,
    PathNotFoundError,
    UsageError,
)
from fluidpy.settings import Settings

BLOCK = 4096
Hook = Callable[[str, Message], None]


class FakeFile:
    """One version of a file; `present` blocks lie in the sparse file `path`."""

    def __init__(self, content: bytes, version: bytes, path: Path, complete: bool) -> None:
        self.content = content
        self.version = version
        self.path = path
        self.complete = complete
        path.write_bytes(content if complete else b"")
        if not complete:
            os.truncate(path, len(content))

    def fill(self, start: int, end: int) -> None:
        with self.path.open("r+b") as stream:
            stream.seek(start)
            stream.write(self.content[start:end])


class FakeWorker:
    """Serves `files` on the settings' worker socket until `stop`."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.files: dict[str, FakeFile] = {}
        self.requests: list[Message] = []
        self.released: list[int] = []
        self.hook: Hook | None = None
        self.keep = True
        """Whether partial files are kept; else every read is answered with a memfd."""
        self._ids: dict[str, int] = {"": 1}
        self._handles: dict[int, FakeFile] = {}
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._answers: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._counter = 0

    # -- the tree --------------------------------------------------------------------------------

    def put(self, path: str, content: bytes, *, complete: bool = True) -> None:
        self._counter += 1
        name = self.directory / f"object-{self._counter}"
        version = f"v{self._counter}".encode()
        self.files[path] = FakeFile(content, version, name, complete)
        self._ids[path] = self._counter + 1000
        parts = path.split("/")
        for end in range(1, len(parts)):
            self._ids.setdefault("/".join(parts[:end]), len(self._ids) + 2)

    def remove(self, path: str) -> None:
        del self.files[path]
        del self._ids[path]

    def _entry(self, path: str) -> RemoteEntry:
        if path not in self._ids:
            ancestor = path.rpartition("/")[0]
            while ancestor:
                if ancestor in self.files:
                    raise NotADirectoryInDatasetError(f"{ancestor} is a file")
                ancestor = ancestor.rpartition("/")[0]
            raise PathNotFoundError(f"no {path} in the Dataset")
        file = self.files.get(path)
        parent, _, name = path.rpartition("/")
        return RemoteEntry(
            id=self._ids[path],
            parent=self._ids.get(parent, 1),
            name=os.fsencode(name),
            kind=1 if file else 2,
            size=len(file.content) if file else 0,
            mtime_ns=1_700_000_000_000_000_000,
            mode=None,
            ino=self._ids[path],
            version=file.version if file else b"",
            mount=0,
            live=True,
        )

    def _path_of(self, identifier: int) -> str:
        for path, known in self._ids.items():
            if known == identifier:
                return path
        raise PathNotFoundError(f"no row {identifier}")

    # -- the socket ------------------------------------------------------------------------------

    def start(self) -> None:
        """Listens; in the place of an earlier listener without a moment of nobody listening."""
        directory = self.settings.runtime_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._listener = protocol.new_socket()
        self._listener.bind(os.fspath(directory / "next.sock"))
        self._listener.listen()
        (directory / "next.sock").rename(self.settings.worker_socket)
        self._run(self._accept, self._listener)

    def restart(self) -> None:
        """Dies and is there again, knowing of no connection and no handle."""
        stale = self._listener, self._peers, self._threads
        self._peers, self._threads, self._handles = [], [], {}
        self.start()
        self._end(*stale)

    def stop(self) -> None:
        """Dies: the listener and all connections are gone at once."""
        self.settings.worker_socket.unlink(missing_ok=True)
        self._end(self._listener, self._peers, self._threads)

    def _end(
        self,
        listener: socket.socket | None,
        peers: list[socket.socket],
        threads: list[threading.Thread],
    ) -> None:
        assert listener is not None
        listener.shutdown(socket.SHUT_RDWR)
        threads[0].join(10)
        listener.close()
        for peer in peers:
            with suppress(OSError):  # closed already
                peer.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)

    def settle(self) -> None:
        """Waits until all answers are given, and the fds that went along are closed here."""
        for thread in self._answers:
            thread.join(10)

    def _run(self, target: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self._run(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            while True:
                try:
                    received = protocol.receive(peer)
                except OSError:
                    return
                if received is None:
                    return
                self.requests.append(received.message)
                self._answers.append(self._run(self._answer, peer, received.message))

    def _answer(self, peer: socket.socket, message: Message) -> None:
        self.released += message.get("closed", [])
        if message["op"] == "close":
            self.released += message["handles"]
            return
        fds: list[int] = []
        try:
            if self.hook is not None:
                self.hook(message["op"], message)
            ok, fds = getattr(self, f"_op_{message['op']}")(message)
            reply = protocol.answer(message["id"], ok)
        except FluidpyError as error:
            reply = protocol.failure(message["id"], error)
        with suppress(OSError):  # the client may have gone
            protocol.send(peer, reply, fds)
        protocol.close_all(fds)

    # -- operations ------------------------------------------------------------------------------

    def _op_hello(self, _: Message) -> tuple[Message, list[int]]:
        version = protocol.PROTOCOL_VERSION
        return {"pid": os.getpid(), "version": version, "block_bytes": BLOCK}, []

    def _op_attach(self, message: Message) -> tuple[Message, list[int]]:
        key = message.get("name") or message["definition"]["key"]
        return {"dataset": 1, "key": key, "catalog": "", "root": 1, "digest": ""}, []

    def _op_resolve(self, message: Message) -> tuple[Message, list[int]]:
        return {"entry": protocol.entry_to_wire(self._entry(message["path"]))}, []

    def _op_list(self, message: Message) -> tuple[Message, list[int]]:
        path = message["path"] if "path" in message else self._path_of(message["directory"])
        if self._entry(path).kind == 1:
            raise NotADirectoryInDatasetError(f"{path} is a file")
        children = [one for one in self._ids if one and one.rpartition("/")[0] == path]
        entries = [self._entry(one) for one in sorted(children)]
        data = protocol.encode_entries(entries)
        if len(data) <= 1000:
            return {"entries": [protocol.entry_to_wire(entry) for entry in entries]}, []
        return {}, [_memfd(data)]

    def _op_open(self, message: Message) -> tuple[Message, list[int]]:
        path = message["path"] if "path" in message else self._path_of(message["entry"])
        entry = self._entry(path)
        if entry.kind == 2:
            raise IsADirectoryInDatasetError(f"{path} is a folder")
        file = self.files[path]
        handle = len(self._handles) + 1
        self._handles[handle] = file
        ok = {"handle": handle, "entry": protocol.entry_to_wire(entry), "complete": file.complete}
        if not self.keep and not file.complete:
            return ok, []
        return ok, [os.open(file.path, os.O_RDONLY)]

    def _op_read(self, message: Message) -> tuple[Message, list[int]]:
        file = self._handles.get(message["handle"])
        if file is None:
            raise UsageError("no such handle")
        start, end = message["start"], message["end"]
        if not self.keep:
            return {"fd": True, "offset": 0, "complete": False}, [_memfd(file.content[start:end])]
        file.fill(start, end)
        return {"fd": False, "complete": file.complete}, []

    def _op_slow(self, message: Message) -> tuple[Message, list[int]]:
        return {"echo": message.get("value")}, []


def _memfd(data: bytes) -> int:
    fd = os.memfd_create("fake", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd
