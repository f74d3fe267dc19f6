"""One client in the worker: which operation answers its requests, what it has open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fluidpy.client.protocol import Message, Operation
from fluidpy.errors import SourceChangedError, UsageError
from fluidpy.worker import (
    cache_operations,
    leases,
    load_operation,
    local_reads,
    metadata_operations,
    process_operations,
    read_operations,
)
from fluidpy.worker.handles import Handle, Handles
from fluidpy.worker.requests import Answer, Progress, integer

if TYPE_CHECKING:
    from fluidpy.worker.attached_dataset import AttachedDataset
    from fluidpy.worker.connection import Connection
    from fluidpy.worker.object_fill import ObjectFill
    from fluidpy.worker.worker import Worker

Answerer: TypeAlias = "Callable[[Session, Message, Progress], Answer]"


class Session:
    """What the worker knows of one connection; see `connection.Handler`."""

    def __init__(self, worker: Worker, connection: Connection) -> None:
        """Nothing attached, nothing open."""
        self.worker = worker
        self.connection = connection
        self.pid = connection.peer_pid()
        self.handles = Handles(worker.fills)
        worker.sessions.add(self)

    def handle(self, operation: str, request: Message, progress: Progress) -> Answer:
        """The reply of an operation, or a coroutine that brings it. Raises FluidpyError."""
        answerer = OPERATIONS.get(operation)
        if answerer is None:
            raise UsageError(
                f"the worker knows no operation {operation[:40]!r}",
                cure="Use a client of the same version as the worker.",
            )
        return answerer(self, request, progress)

    def release(self, handles: Sequence[Any]) -> None:
        """Closes handles; unknown ones are passed over."""
        if isinstance(handles, list):
            self.handles.close(handles)

    def close(self) -> None:
        """The connection is gone: its handles and subscriptions go too."""
        self.handles.close_all()
        self.worker.leases.close(self)
        self.worker.datasets.detach(self)
        self.worker.sessions.discard(self)

    def dataset(self, request: Mapping[str, Any]) -> AttachedDataset:
        """The Dataset that a request names. Raises DatasetNotFoundError, UsageError."""
        return self.worker.datasets.get(integer(request, "dataset"))

    def fill_of(self, handle: Handle) -> ObjectFill:
        """The fill of an open file; of one that was complete, begun when bytes got lost.

        Raises SourceChangedError when the Dataset has other sources by now.
        """
        if handle.fill is None:
            dataset = handle.dataset
            if dataset.namespace is not handle.namespace:
                raise SourceChangedError(
                    f"Dataset {dataset.definition.key} was defined anew since the file was opened",
                    cure="Open the file again.",
                )
            handle.fill = self.worker.fills.acquire(
                handle.key, dataset.locate(handle.entry), handle.cached, dataset
            )
        return handle.fill


OPERATIONS: Final[Mapping[str, Answerer]] = {
    Operation.HELLO.value: process_operations.hello,
    Operation.STATUS.value: process_operations.status,
    Operation.STOP.value: process_operations.stop,
    Operation.ATTACH.value: metadata_operations.attach,
    Operation.DETACH.value: metadata_operations.detach,
    Operation.LOOKUP.value: metadata_operations.lookup,
    Operation.RESOLVE.value: metadata_operations.resolve,
    Operation.LIST.value: metadata_operations.list_directory,
    Operation.INVALIDATIONS.value: metadata_operations.invalidations,
    Operation.LEASE.value: leases.lease,
    Operation.USED.value: leases.used,
    Operation.OPEN.value: read_operations.open_file,
    Operation.READ.value: read_operations.read,
    Operation.READ_LOCALLY.value: local_reads.read_locally,
    Operation.LOAD.value: load_operation.load,
    Operation.USAGE.value: cache_operations.usage,
    Operation.CACHE_LIST.value: cache_operations.cache_list,
    Operation.PIN.value: cache_operations.pin,
    Operation.EVICT.value: cache_operations.evict,
    Operation.SCRUB.value: cache_operations.scrub,
}
"""Every operation but `close`, which the connection itself takes (`release`)."""
