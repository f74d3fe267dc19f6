"""`mount` and `umount`: a Dataset as a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fluidpy.cli.datasets import define, define_from_url, is_url
from fluidpy.cli.options import FileOption, NamespaceOption, parse_pairs, read_secret_files
from fluidpy.cli.printers import talk
from fluidpy.client.managed import ManagedDataset
from fluidpy.errors import MountError, UsageError
from fluidpy.settings import Settings, load_settings

if TYPE_CHECKING:
    from fluidpy.namespace.definition import DatasetDefinition

# A source gets its own deadline for the first listing; the rest is process starts.
EXTRA_SECONDS = 30.0

ReadModeOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--read-mode",
        metavar="MODE",
        help="auto (chosen by the files and what is allowed), no-open, passthrough or plain.",
    ),
]


def mount(
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    file: FileOption = None,
    namespace: NamespaceOption = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until unmounted; Ctrl-C unmounts.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--option",
            metavar="KEY=VALUE",
            help="Option of the source, with a URL; secrets as KEY=@FILE.",
        ),
    ] = None,
    read_mode: ReadModeOption = "auto",
    upgrade: Annotated[
        bool,
        typer.Option(
            "--upgrade",
            help="Let the mount at DIR go on with the fluidpy installed now; its readers go on.",
        ),
    ] = False,
) -> None:
    """Mount a Dataset, or one URL, on a directory, read-only.

    Goes to the background once the directory can be listed. Examples:

    fluidpy mount -f imagenet.yaml /data

    fluidpy mount s3://bucket/prefix /data -o endpoint=http://host:9000

    fluidpy mount --upgrade /data
    """
    if upgrade:
        _upgrade(words or [], given=[file, namespace, foreground, option, read_mode != "auto"])
        return
    target, directory = split_words(words or [], file)
    settings = load_settings()
    definition = _what_to_mount(target, file, namespace, parse_pairs(option or []), settings)
    if isinstance(definition, ManagedDataset) and not foreground:
        _declare(definition, directory, read_mode, settings)
        return
    if isinstance(definition, ManagedDataset):
        definition, settings = _through_worker(definition, settings)
    file = None if file is None or str(file) == "-" else file.resolve()
    url = target if target is not None and is_url(target) else None
    _mount(definition, directory, settings, foreground, file, url, read_mode)


def _mount(
    definition: DatasetDefinition,
    directory: Path,
    settings: Settings,
    foreground: bool,
    file: Path | None,
    url: str | None,
    read_mode: str,
) -> None:
    from fluidpy.cli.source_check import check_sources
    from fluidpy.fuse.mounting import mount_dataset
    from fluidpy.fuse.read_mode_checks import check_read_mode

    check_read_mode(read_mode)
    check_sources(definition, settings)
    mount_dataset(
        definition,
        directory,
        settings,
        foreground=foreground,
        file=file,
        url=url,
        deadline=settings.source_deadline_seconds + EXTRA_SECONDS,
        read_mode=read_mode,
        on_ready=lambda record: talk(f"{definition.key} is mounted on {record.mount_point}"),
    )


def _declare(dataset: ManagedDataset, directory: Path, read_mode: str, settings: Settings) -> None:
    """Has the control plane mount it and keep it mounted."""
    from fluidpy.client.control_client import ControlClient
    from fluidpy.fuse.mount_checks import plain_path
    from fluidpy.fuse.read_mode_checks import check_read_mode

    check_read_mode(read_mode)
    record = ControlClient(settings).declare_mount(
        dataset.namespace,
        dataset.name,
        str(plain_path(directory)),
        read_mode,
        deadline=settings.source_deadline_seconds + 2 * EXTRA_SECONDS,
    )
    talk(f"{dataset.key} is mounted on {record['mountPoint']}, and kept so")


def _through_worker(
    dataset: ManagedDataset, settings: Settings
) -> tuple[DatasetDefinition, Settings]:
    """The definition of the control plane's Dataset, and the settings to read it by."""
    from dataclasses import replace

    from fluidpy.client.control_client import ControlClient
    from fluidpy.namespace.definition import DatasetDefinition

    access = ControlClient(settings).access(dataset.namespace, dataset.name)
    return DatasetDefinition.from_wire(access["definition"]), replace(
        settings,
        worker_runtime_dir=Path(access["runtimeDir"]),
        cache_dir=Path(access["cacheDir"]),
    )


def _upgrade(words: Sequence[str], given: Sequence[object]) -> None:
    if len(words) != 1 or any(given):
        raise UsageError(
            "--upgrade goes with a directory alone: what is mounted there stays",
            cure="fluidpy mount --upgrade DIR",
        )
    from fluidpy.fuse.upgrade_command import upgrade

    pids = upgrade(Path(words[0]), load_settings())
    talk(f"{words[0]} is served by process {pids.new} now, before by {pids.old}")


def _what_to_mount(
    target: str | None,
    file: Path | None,
    namespace: str | None,
    options: Mapping[str, str],
    settings: Settings,
) -> DatasetDefinition | ManagedDataset:
    if target is not None and is_url(target):
        from fluidpy.namespace.resolve import is_secret_option

        return define_from_url(target, read_secret_files(options, is_secret_option))
    if options:
        raise UsageError(
            "-o KEY=VALUE goes with a URL", cure="Write the options into the Dataset's mount."
        )
    found = define(target, file, namespace, settings, say_unserved=True)
    if isinstance(found, str):
        raise MountError(
            f"{found} is mounted already, and no YAML file of it is known",
            cure="Name its file: fluidpy mount -f FILE DIR",
        )
    return found


def split_words(words: Sequence[str], file: Path | None) -> tuple[str | None, Path]:
    """The Dataset's name or URL, and the directory. Raises UsageError when words lack or abound."""
    if len(words) > 2:
        raise UsageError(
            f"{len(words)} words are too many: {' '.join(words)}",
            cure="Give what to mount and one directory.",
        )
    if len(words) == 2:
        if file is not None and is_url(words[0]):
            raise UsageError("a file and a URL are given", cure="Give -f FILE or a URL, not both.")
        return words[0], Path(words[1])
    if file is None or not words:
        named = file is not None or (words and is_url(words[0]))
        what = "no directory is given" if named else "nothing to mount is given"
        raise UsageError(what, cure="fluidpy mount -f FILE DIR, or: fluidpy mount URL DIR")
    return None, Path(words[0])


def umount(
    directory: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Detach now, even if files are open.")
    ] = False,
) -> None:
    """Unmount a directory, also one whose server is gone.

    Example: fluidpy umount /data
    """
    from fluidpy.fuse.mounting import unmount

    settings = load_settings()
    if not _removed(directory, settings, lazy):
        unmount(directory, settings, lazy=lazy)


def _removed(directory: Path, settings: Settings, lazy: bool) -> bool:
    """Whether the control plane kept that mount, and keeps it no longer."""
    from fluidpy.client.control_client import ControlClient
    from fluidpy.errors import ControlPlaneAbsentError, ObjectNotFoundError
    from fluidpy.fuse.mount_checks import plain_path

    if not settings.control_socket.exists():
        return False
    try:
        ControlClient(settings).remove_mount(str(plain_path(directory)), lazy=lazy)
    except (ControlPlaneAbsentError, ObjectNotFoundError):
        return False
    return True
