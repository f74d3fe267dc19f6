"""The command of a DataMigrate: its Datasets' engines, its stores, and the values of Secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from urllib.parse import quote

from fluidpy.api.operations import DataMigrate, DataToMigrate, ExternalStorage
from fluidpy.api.problem import LoadedObject
from fluidpy.control.data_migrate import (
    NOT_READY,
    NOT_SUPPORTED,
    NOT_VALID,
    Refusal,
    datasets_of,
)
from fluidpy.control.dataset_status import Trouble
from fluidpy.control.folder_looks import FolderLooks
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.errors import FluidpyError, ValidationError
from fluidpy.namespace.resolve_secrets import SecretValues
from fluidpy.runtime.driver import Command
from fluidpy.runtime.migration import DatasetEnd, ExternalEnd, MigratingDriver, MigrationEnd
from fluidpy.settings import Settings
from fluidpy.storage.local import directory_of
from fluidpy.storage.pvc import directory_of_claim
from fluidpy.storage.under_storage import MountSource


class MigrationEnds:
    """Looks each time at what is declared and what serves it."""

    def __init__(
        self,
        runtime_of: Callable[[str], Assignment | None],
        stored: Callable[[], Sequence[LoadedObject]],
        settings: Settings,
        folders: FolderLooks | None = None,
        *,
        trouble_of: Callable[[str], Trouble | None] = lambda _: None,
    ) -> None:
        """`runtime_of` tells what runs for a Dataset (`namespace/name`), None for the workers; with
        a trouble (`trouble_of`) that is not known yet.
        """
        self._trouble_of = trouble_of
        self._runtime_of, self._stored, self._settings = runtime_of, stored, settings
        self._folders = FolderLooks() if folders is None else folders

    def command(self, migrate: DataMigrate) -> tuple[MigratingDriver, Command] | Refusal:
        """What carries it out, or why nothing does."""
        driver: MigratingDriver | None = None
        for one in datasets_of(migrate):
            key = f"{migrate.namespace}/{one.name}"
            runtime = self._runtime_of(key)
            if runtime is None and (trouble := self._trouble_of(key)) is not None:
                message = f"waits for the Dataset {one.name}: {trouble.message}"
                return Refusal(NOT_READY, message, lasting=False)
            if runtime is None or not isinstance(runtime.driver, MigratingDriver):
                return Refusal(NOT_SUPPORTED, _unsupported(one.name))
            driver = driver or runtime.driver
            if type(driver) is not type(runtime.driver):
                message = f"another engine serves the Dataset {one.name} than the other one"
                return Refusal(NOT_SUPPORTED, message)
        if driver is None:
            return Refusal(NOT_VALID, "neither side is a Dataset")
        try:
            ends = [self._end(migrate, side) for side in (migrate.spec.from_, migrate.spec.to)]
            return driver, driver.migrate(ends[0], ends[1], migrate.spec.options)
        except _NotReadyError as error:
            return Refusal(NOT_READY, f"waits: {error}", lasting=False)
        except FluidpyError as error:
            return Refusal(NOT_VALID, str(error))

    def _end(self, migrate: DataMigrate, side: DataToMigrate) -> MigrationEnd:
        if side.dataset is not None:
            runtime = self._runtime_of(f"{migrate.namespace}/{side.dataset.name}")
            assert runtime is not None
            return DatasetEnd(runtime.plan, side.dataset.path or "/")
        assert side.external_storage is not None
        return self._external(migrate, side.external_storage)

    def _external(self, migrate: DataMigrate, storage: ExternalStorage) -> ExternalEnd:
        values = SecretValues(self._stored(), self._settings.secret_directory, os.environ)
        secrets: dict[str, str] = {}
        for option in storage.encrypt_options:
            reference = option.value_from.secret_key_ref
            key = reference.key or option.name
            try:
                value = values.value(migrate.namespace, reference.name, key)
            except ValueError as error:
                raise ValidationError(str(error), cure="Correct the Secret.") from error
            if value is None:
                places = values.places(reference.name, key)
                raise _NotReadyError(
                    f"no Secret {reference.name!r} with the key {key!r} is known",
                    cure=f"To mend it, {places}.",
                )
            secrets[option.name] = value
        return ExternalEnd(self._address(storage.uri), secrets)

    def _address(self, uri: str) -> str:
        """Claims and directories of this machine as `file://`; other addresses as they are."""
        scheme = uri.partition("://")[0]
        source = MountSource(uri, "externalStorage", {}, {})
        if scheme == "pvc":
            directory = directory_of_claim(source, self._settings.pvc_directories)
        elif scheme in ("local", "file"):
            directory = directory_of(source)
        else:
            return uri
        is_folder = uri.endswith("/") or self._is_folder(directory)
        return f"file://{quote(directory)}" + "/" * is_folder

    def _is_folder(self, directory: str) -> bool:
        try:
            found = self._folders.is_folder(directory)
        except OSError as error:
            raise _NotReadyError(
                f"{directory} cannot be looked at: {error.strerror}",
                cure="Mend its permissions, or mount it again.",
            ) from error
        if found is None:
            raise _NotReadyError(
                f"{directory} does not answer", cure="Look at the server that it is on."
            )
        return found


class _NotReadyError(ValidationError):
    """Something is not there that may be there in a moment."""


def _unsupported(dataset: str) -> str:
    return (
        f"what serves the Dataset {dataset} copies nothing; of all runtimes JuiceFSRuntime alone "
        "carries out a DataMigrate"
    )
