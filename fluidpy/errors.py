"""The one error tree of fluidpy.

Each error says what happened to what and why (`message`) and what to do about it (`cure`), carries
an exit code for the command line and an errno for the mount, and crosses the unix socket between
worker and clients unchanged (`to_wire`, `from_wire`). Where Python has a class of its own for the
case, ours derives from it too, so that both idioms catch it.

    FluidpyError
    ├── UsageError                      wrong command line                     exit 2
    ├── ValidationError                 objects that cannot be accepted        EINVAL
    ├── DatasetNotFoundError            no such Dataset                        ENOENT  FileNotFoundError
    ├── PathNotFoundError               no such path in the Dataset            ENOENT  FileNotFoundError
    ├── NotADirectoryInDatasetError     a file where a folder was asked for    ENOTDIR NotADirectoryError
    ├── IsADirectoryInDatasetError      a folder where a file was asked for    EISDIR  IsADirectoryError
    ├── ReadOnlyDatasetError            a write to a Dataset                   EROFS   OSError
    ├── SourceError                     an under storage failed                EIO     OSError
    │   ├── SourceUnavailableError      no answer after all retries            EIO     OSError
    │   ├── SourceTimeoutError          the deadline passed                    ETIMEDOUT TimeoutError
    │   ├── SourceAccessError           credentials wrong or missing           EACCES  PermissionError
    │   ├── SourceNotFoundError         bucket or object is not there          ENOENT  FileNotFoundError
    │   ├── SourceChangedError          the object is no longer that version   ESTALE  OSError
    │   └── SourceConfigurationError    options that cannot work               EINVAL
    ├── CacheError                      the machine's store failed             EIO     OSError
    │   ├── CacheFullError              nothing left to evict                  ENOSPC  OSError
    │   └── CacheDirectoryError         the directory cannot be used           EACCES  OSError
    ├── WorkerError                     the worker cannot be reached           EIO     ConnectionError
    │   ├── WorkerStartError            it did not start                       EIO
    │   └── WorkerTimeoutError          it did not answer in time              ETIMEDOUT TimeoutError
    ├── ClusterError                    the pool of workers failed             EIO
    │   └── PeerError                   another worker of it did not serve     EIO     ConnectionError
    │       ├── PeerUnreachableError    no connection, or it broke             EIO
    │       ├── PeerRefusedError        it does not serve this request         EACCES
    │       │   ├── PeerBusyError       it has too much to do, or is leaving   EBUSY
    │       │   └── PeerDefinitionError it has another definition of a Dataset EACCES
    │       ├── PeerCorruptError        its bytes do not match their checksum  EIO
    │       ├── PeerTimeoutError        it did not answer within the deadline  ETIMEDOUT TimeoutError
    │       └── PeerAbsentError         it does not have what was asked for    ENOENT
    ├── ControlPlaneError               the control plane failed               EIO
    │   ├── ControlPlaneAbsentError     none runs for this user                EIO     ConnectionError
    │   ├── ControlPlaneTimeoutError    it did not answer in time              ETIMEDOUT TimeoutError
    │   ├── ObjectNotFoundError         it has no such object                  ENOENT  FileNotFoundError
    │   ├── ObjectExistsError           it has an object of that name          EEXIST  FileExistsError
    │   ├── ObjectConflictError         the object changed meanwhile           ESTALE
    │   ├── WatchExpiredError           a watch asks for what is forgotten     ESTALE
    │   └── InUseError                  somebody uses what was to end          EBUSY
    ├── RuntimePluginError              a runtime plug-in cannot be used       EINVAL
    └── MountError                      mounting or unmounting failed          EIO
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any, ClassVar


class FluidpyError(Exception):
    """Base of all errors of fluidpy; `message` says what and why, `cure` what to do."""

    exit_code: ClassVar[int] = 1
    errno_code: ClassVar[int] = errno.EIO

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
        if isinstance(self, OSError):
            _set_errno(self, self.errno_code, message)

    def __str__(self) -> str:
        if not self.cure:
            return self.message
        end = "" if self.message.endswith("?") else "."
        return f"{self.message}{end} {self.cure}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.cure)

    def to_wire(self) -> dict[str, str]:
        """The error as plain values for a message between processes."""
        return {"type": type(self).__name__, "message": self.message, "cure": self.cure}


def _set_errno(error: OSError, code: int, message: str) -> None:
    error.errno = code
    error.strerror = message


def _rebuild(kind: type[FluidpyError], message: str, cure: str) -> FluidpyError:
    return kind(message, cure=cure)


class UsageError(FluidpyError):
    """The command line or a call was wrong before anything was tried."""

    exit_code = 2
    errno_code = errno.EINVAL


class ValidationError(FluidpyError, ValueError):
    """Objects that cannot be accepted; the message lists every problem, one a line."""

    errno_code = errno.EINVAL


class DatasetNotFoundError(FluidpyError, FileNotFoundError):
    """No Dataset of that name can be found."""

    errno_code = errno.ENOENT


class PathNotFoundError(FluidpyError, FileNotFoundError):
    """The Dataset has no such path."""

    errno_code = errno.ENOENT


class NotADirectoryInDatasetError(FluidpyError, NotADirectoryError):
    """A file stands where a folder was asked for."""

    errno_code = errno.ENOTDIR


class IsADirectoryInDatasetError(FluidpyError, IsADirectoryError):
    """A folder stands where a file was asked for."""

    errno_code = errno.EISDIR


class ReadOnlyDatasetError(FluidpyError, OSError):
    """Something tried to write; Datasets are read-only."""

    errno_code = errno.EROFS


class SourceError(FluidpyError, OSError):
    """An under storage failed to do what was asked; base of its kinds."""


class SourceUnavailableError(SourceError):
    """The source did not answer, or only with errors that a retry may cure, until retries ran out."""


class SourceTimeoutError(SourceError, TimeoutError):
    """The deadline of a request to the source passed."""

    errno_code = errno.ETIMEDOUT


class SourceAccessError(SourceError, PermissionError):
    """The source refused the credentials, or none were given."""

    errno_code = errno.EACCES


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The bucket, directory or object is not there."""

    errno_code = errno.ENOENT


class SourceChangedError(SourceError):
    """The object at the source is no longer the version that was asked for."""

    errno_code = errno.ESTALE


class SourceConfigurationError(SourceError, ValueError):
    """The options of a mount cannot work: unknown, contradictory or missing."""

    errno_code = errno.EINVAL


class CacheError(FluidpyError, OSError):
    """The machine's own store failed."""


class CacheFullError(CacheError):
    """No room, and nothing that may be evicted."""

    errno_code = errno.ENOSPC


class CacheDirectoryError(CacheError):
    """The cache directory cannot be used (not writable, on a network file system, not ours)."""

    errno_code = errno.EACCES


class WorkerError(FluidpyError, ConnectionError):
    """The worker of this machine cannot be reached or broke the connection."""


class WorkerStartError(WorkerError):
    """The worker was started and did not come up."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """The worker did not answer within the deadline."""

    errno_code = errno.ETIMEDOUT


class ClusterError(FluidpyError):
    """The pool of workers, its membership or one of its members failed."""


class PeerError(ClusterError, ConnectionError):
    """Another worker of the pool did not serve what was asked of it; base of its kinds.

    None of them means that the bytes cannot be had: the next owner or the source may have them.
    """


class PeerUnreachableError(PeerError):
    """No connection to the other worker, or it broke before the answer was whole."""


class PeerRefusedError(PeerError):
    """The other worker does not serve the request: token, definition, or it is too busy."""

    errno_code = errno.EACCES


class PeerBusyError(PeerRefusedError):
    """The other worker has too much to do, is leaving, or does not have the Dataset yet."""

    errno_code = errno.EBUSY


class PeerDefinitionError(PeerRefusedError):
    """The other worker serves the Dataset by another definition."""


class PeerCorruptError(PeerError):
    """The bytes of the other worker do not match the checksums that came with them."""


class PeerTimeoutError(PeerError, TimeoutError):
    """The other worker did not answer within the deadline."""

    errno_code = errno.ETIMEDOUT


class PeerAbsentError(PeerError):
    """The other worker does not have the bytes, and was asked for nothing but what it has."""

    errno_code = errno.ENOENT


class ControlPlaneError(FluidpyError):
    """The control plane of this user failed; base of its kinds."""


class ControlPlaneAbsentError(ControlPlaneError, ConnectionError):
    """No control plane runs for this user."""


class ControlPlaneTimeoutError(ControlPlaneError, TimeoutError):
    """The control plane did not answer within the deadline."""

    errno_code = errno.ETIMEDOUT


class ObjectNotFoundError(ControlPlaneError, FileNotFoundError):
    """The control plane has no such object."""

    errno_code = errno.ENOENT


class ObjectExistsError(ControlPlaneError, FileExistsError):
    """The control plane has an object of that kind, namespace and name already."""

    errno_code = errno.EEXIST


class ObjectConflictError(ControlPlaneError):
    """The object changed since it was read, or it is being deleted."""

    errno_code = errno.ESTALE


class WatchExpiredError(ControlPlaneError):
    """A watch begins at a change that is remembered no longer: list, then watch from there."""

    errno_code = errno.ESTALE


class InUseError(ControlPlaneError):
    """Somebody uses what was to be stopped or deleted."""

    errno_code = errno.EBUSY


class RuntimePluginError(FluidpyError):
    """A runtime plug-in is not known, or cannot be loaded, built or installed."""

    errno_code = errno.EINVAL


class MountError(FluidpyError, OSError):
    """Mounting, serving or unmounting failed."""


def _subclasses(kind: type[FluidpyError]) -> dict[str, type[FluidpyError]]:
    found = {kind.__name__: kind}
    for child in kind.__subclasses__():
        found.update(_subclasses(child))
    return found


_BY_NAME = _subclasses(FluidpyError)


def from_wire(wire: Mapping[str, str]) -> FluidpyError:
    """The error that `FluidpyError.to_wire` described; an unknown type becomes the base class."""
    kind = _BY_NAME.get(wire.get("type", ""), FluidpyError)
    return kind(wire.get("message", "unknown error"), cure=wire.get("cure", ""))


def errno_of(error: BaseException) -> int:
    """The errno a file system answers for an error; EIO where it has none."""
    if isinstance(error, FluidpyError):
        return error.errno_code
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO


def describe_errno(code: int) -> str:
    """An errno as a person reads it, such as `ENOENT: No such file or directory`."""
    return f"{errno.errorcode.get(code, code)}: {os.strerror(code)}"
