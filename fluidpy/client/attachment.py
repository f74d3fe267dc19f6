"""What a session is made of: a Dataset's definition, its attachment to a worker, an open file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from fluidpy.client.managed import ManagedDataset

from fluidpy.client.protocol import RemoteEntry


class Definition(Protocol):
    """What a session needs of a `DatasetDefinition`."""

    @property
    def key(self) -> str:
        """`namespace/name`."""

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, secrets included."""


DefinitionSource: TypeAlias = (
    "Definition | str | ManagedDataset | Callable[[], Definition | str | ManagedDataset]"
)
"""A definition, a name `namespace/name` that the worker already knows, a Dataset of the control
plane, or what finds one of these."""


class Attachment(NamedTuple):
    """A Dataset in one connection to the worker.

    `catalog`, `index_path` and `sources` (`KeySource.to_wire`) are what it takes to find cache
    files without the worker.
    """

    generation: int
    dataset: int
    key: str
    catalog: str
    ttl_seconds: float
    index_path: str
    sources: list[Any]


NO_HANDLE: Final = -1
"""The handle of a file that was opened without the worker."""


class Opened(NamedTuple):
    """An open file; `fd` (-1: none) belongs to whoever holds this. `path` is how it was asked for,
    and the same at all workers, which ids of entries are not.
    """

    attachment: Attachment
    handle: int
    entry: RemoteEntry
    complete: bool
    fd: int
    path: str = ""
