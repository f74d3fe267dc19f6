"""A Dataset of the control plane, as a local program reads it: through a worker of the pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluidpy.errors import ControlPlaneAbsentError, ObjectNotFoundError
from fluidpy.settings import Settings

if TYPE_CHECKING:
    from fluidpy.client.control_client import ControlClient


def _control_client(settings: Settings, **limits: float) -> ControlClient:
    # Only who reads a Dataset of a control plane pays for importing an HTTP client (10 ms).
    from fluidpy.client.control_client import ControlClient

    return ControlClient(settings, **limits)


@dataclass(frozen=True, slots=True)
class ManagedDataset:
    """A Dataset that the control plane of these settings serves."""

    namespace: str
    name: str
    settings: Settings

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def place(self, *, deadline: float, member_directory: Path | None = None) -> Settings:
        """The settings of a worker to read it through; the one of `member_directory` if it can.

        That one stays, too, while no control plane runs: workers outlive it. Raises
        ControlPlaneError, ObjectNotFoundError.
        """
        client = _control_client(self.settings, deadline=deadline)
        try:
            access = client.access(
                self.namespace,
                self.name,
                deadline=deadline,
                member=None if member_directory is None else member_directory.name,
            )
        except ControlPlaneAbsentError:
            if member_directory is None:
                raise
            return replace(self.settings, runtime_dir=member_directory)
        return replace(
            self.settings,
            runtime_dir=Path(access["runtimeDir"]),
            cache_dir=Path(access["cacheDir"]),
        )


def managed_names(settings: Settings) -> list[tuple[str, str]]:
    """Namespace and name of each Dataset of the control plane; none where none runs."""
    if not settings.control_socket.exists():
        return []
    try:
        items = _control_client(settings).list_objects("datasets")["items"]
    except ControlPlaneAbsentError:
        return []
    return [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in items]


def find_managed(name: str, namespace: str | None, settings: Settings) -> ManagedDataset | None:
    """The control plane's Dataset of that name, `default`'s where no namespace is named."""
    if not settings.control_socket.exists():
        return None
    try:
        _control_client(settings).get("datasets", namespace or "default", name)
    except (ControlPlaneAbsentError, ObjectNotFoundError):
        return None
    return ManagedDataset(namespace or "default", name, settings)
