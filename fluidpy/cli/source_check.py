"""Looks at every source of a Dataset before it is mounted, so that a wrong one is told at once.

A mount would come up without: sources are asked only when somebody looks into their folders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fluidpy.cli.printers import talk
from fluidpy.errors import SourceError
from fluidpy.settings import Settings

if TYPE_CHECKING:
    from fluidpy.namespace.definition import DatasetDefinition, MountDefinition


PATIENCE_SECONDS: Final = 3.0
"""A person who waits longer is told for what; a slow source has until its own deadline."""


def check_sources(definition: DatasetDefinition, settings: Settings) -> None:
    """Asks each source for its root. Raises SourceError that says all that is wrong.

    With one source in trouble it is that source's own error; each is asked within its deadline.
    """
    found = asyncio.run(_ask_all(definition.mounts, settings))
    raise_all([error for error in found if error is not None])


def raise_all(errors: Sequence[SourceError]) -> None:
    """Raises nothing, the only error, or one that says them all, a line each."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [error.message for error in errors]
        cures = dict.fromkeys(error.cure for error in errors)
        heading = f"{len(errors)} sources cannot be read:"
        raise SourceError("\n  ".join([heading, *lines]), cure=" ".join(cures))


async def _ask_all(
    mounts: Sequence[MountDefinition], settings: Settings
) -> list[SourceError | None]:
    return await asyncio.gather(*(_ask(mount, settings) for mount in mounts))


async def _ask(mount: MountDefinition, settings: Settings) -> SourceError | None:
    from fluidpy.storage.factory import open_storage

    patience = asyncio.get_running_loop().call_later(
        PATIENCE_SECONDS, talk, f"still waiting for mount {mount.name}: {mount.source.url}"
    )
    try:
        storage = open_storage(mount.source, settings)
        try:
            await storage.stat("")
        finally:
            await storage.close()
    except SourceError as error:
        return _about_mount(mount, error)
    finally:
        patience.cancel()
    return None


def _about_mount(mount: MountDefinition, error: SourceError) -> SourceError:
    """The error with the mount's name in it, and with a cure."""
    named = f"mount {mount.source.label or mount.name}: "
    message = error.message if error.message.startswith(named) else named + error.message
    return type(error)(message, cure=error.cure or "Check its mountPoint.")
