"""What is asked of a process that is kept running, and what is seen of it; as JSON files.

Both lie in the process's own directory (0700): the order is written before its supervisor starts,
the state by the supervisor alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from fluidpy.cluster.private_files import replace_privately

ORDER_FILE: Final = "order.json"
STATE_FILE: Final = "state.json"
LOCK_FILE: Final = "lock"
LOG_FILE: Final = "client.log"

STARTING: Final = "Starting"
READY: Final = "Ready"
FAILED: Final = "Failed"
"""It ended or is not what it has to be; it is started again after a pause."""
STOPPING: Final = "Stopping"


@dataclass(frozen=True, slots=True)
class ProcessOrder:
    """A program to be kept running. Directories are absolute; durations in seconds."""

    name: str
    """What messages call it."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str = ""
    """Where it has to mount; empty if it mounts nothing."""
    filesystem_type: str = ""
    """As `/proc/self/mountinfo` shows it; empty for any."""
    ready_seconds: float = 30.0
    stop_seconds: float = 10.0
    unmount: tuple[str, ...] = ()
    redacted: tuple[str, ...] = field(default=(), repr=False)
    binds: Mapping[str, str] = field(default_factory=dict)
    """Directories that the program sees at other places: place → directory. Needs root."""
    files: str = ""
    """Digest over the files that were written for it."""

    def digest(self) -> str:
        """32 hexadecimal digits over all of it; tells changes."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def write(self, directory: Path) -> None:
        """Keeps the order, for the owner only. Raises OSError."""
        replace_privately(directory / ORDER_FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The order in a directory. Raises OSError, ValueError, TypeError."""
        values: dict[str, Any] = json.loads((directory / ORDER_FILE).read_bytes())
        for name in ("arguments", "unmount", "redacted"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What a supervisor says of its process."""

    state: str
    digest: str
    """Of the order that it follows."""
    supervisor: int = 0
    """Process id of the supervisor."""
    client: int = 0
    """Process id of the program; 0 between two of them."""
    failure: str = ""
    """What was wrong last, for people, with no secret in it; empty once it is ready."""
    restarts: int = 0
    hidden: int = 0
    """How often a secret stood in what the program printed."""
    killed: bool = False
    """Whether it went on after SIGTERM for so long that it was killed."""

    def write(self, directory: Path) -> None:
        """Says so. Raises OSError."""
        replace_privately(directory / STATE_FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """What was said last; None if nothing was."""
        try:
            return cls(**json.loads((directory / STATE_FILE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
