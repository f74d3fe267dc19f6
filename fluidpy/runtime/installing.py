"""Making a plug-in known to this user's workers and control plane, and forgetting it again.

    runtimes/NAME -> ../runtime-files/NAME-XXXX     one link a plug-in, replaced at once
    runtime-files/NAME-XXXX/plugin                  a copy of the plug-in's folder
    runtime-files/NAME-XXXX/site                    packages it needs that are not installed here
    runtime-files/NAME-XXXX/installed.json          what the worker has to know

Until the link is set nothing is changed; an installation that was killed leaves files that the next
one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.manifest import Manifest, load_manifest
from fluidpy.storage.plugins import (
    PLUGIN_FOLDER,
    RECORD_FILE,
    SITE_FOLDER,
    InstalledOption,
    InstalledPlugin,
)

FILES_FOLDER: Final = "runtime-files"
PIP_SECONDS: Final = 600.0
_PLAIN: Final = re.compile(r"([A-Za-z0-9._-]+?)\s*(?:>=\s*(\d+(?:\.\d+)*))?")
"""A requirement of one package, with a least version of plain numbers or none."""
_LEFT_OUT: Final = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "*.pyc",
    ".mypy_cache",
    ".ruff_cache",
)
_FOR_IMAGES: Final = ("packages", (".deb", ".whl"))
"""Folder and files that Dockerfiles install from; elsewhere such files are the plug-in's own."""


def install(folder: Path, plugins_dir: Path) -> Manifest:
    """Installs the plug-in in `folder`, in place of another version of it.

    Raises ValidationError for its manifest, RuntimePluginError when its files or the packages that
    it needs cannot be had; then everything stays as it was.
    """
    manifest = load_manifest(folder)
    files = plugins_dir.parent / FILES_FOLDER
    try:
        plugins_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(files):
            place = Path(tempfile.mkdtemp(prefix=f"{manifest.name}-", dir=files))
            _fill(place, folder, manifest)
            _point(plugins_dir / manifest.name, place)
            _sweep(plugins_dir, manifest.name)
    except (OSError, shutil.Error) as error:
        raise RuntimePluginError(
            f"{manifest.name} could not be installed in {plugins_dir}: {error}",
            cure="Look at the folder's permissions and the free space, then install it again.",
        ) from error
    return manifest


def remove(name: str, plugins_dir: Path) -> None:
    """Forgets an installed plug-in. Raises RuntimePluginError when there is none."""
    link = plugins_dir / name
    if not link.is_symlink():
        there = ", ".join(sorted(one.name for one in plugins_dir.glob("*"))) or "none"
        raise RuntimePluginError(
            f"no plug-in {name} is installed (installed: {there})",
            cure="`fluidpy runtime list` shows all.",
        )
    with _alone(plugins_dir.parent / FILES_FOLDER):
        link.unlink(missing_ok=True)
        _sweep(plugins_dir, name)


@contextlib.contextmanager
def _alone(files: Path) -> Iterator[None]:
    """One installation at a time: the next one would take the files of this one for left over.

    Raises RuntimePluginError when another one takes too long.
    """
    files.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(files / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    limit = time.monotonic() + PIP_SECONDS
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise RuntimePluginError(
                        f"another installation into {files.parent} does not end",
                        cure="Look for a process that runs `fluidpy runtime install`.",
                    ) from None
                time.sleep(0.05)  # flock has no time-out of its own
        yield
    finally:
        os.close(lock)


def record_of(manifest: Manifest) -> InstalledPlugin:
    """What the worker has to know of a plug-in. Pure."""
    return InstalledPlugin(
        name=manifest.name,
        version=manifest.version,
        kind=manifest.kind,
        protocols=manifest.protocols,
        class_name=manifest.storage.class_ if manifest.storage is not None else "",
        options=tuple(
            InstalledOption(one.name, one.secret, one.required, one.default)
            for one in manifest.options
        ),
    )


def _fill(place: Path, folder: Path, manifest: Manifest) -> None:
    copy = place / PLUGIN_FOLDER
    shutil.copytree(folder, copy, symlinks=True, ignore=_left_out_of(folder))
    if wanted := _requirements(folder):
        _add_packages(wanted, place / SITE_FOLDER, manifest.name)
    record = json.dumps(record_of(manifest).to_record(), indent=1)
    (place / RECORD_FILE).write_text(record + "\n")
    for file in place.rglob("*"):
        if file.is_file() and not file.is_symlink():
            _sync(file)


def _left_out_of(folder: Path) -> Callable[[str, list[str]], set[str]]:
    """What `shutil.copytree` asks."""
    anywhere = shutil.ignore_patterns(*_LEFT_OUT)
    name, endings = _FOR_IMAGES
    packages = folder / name

    def left_out(place: str, names: list[str]) -> set[str]:
        here = {one for one in names if one.endswith(endings)} if Path(place) == packages else set()
        return {*anywhere(place, names), *here}

    return left_out


def _sync(file: Path) -> None:
    """The link must not lead to files that a power failure leaves empty."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _requirements(folder: Path) -> list[str]:
    """What the plug-in's package needs, as its pyproject.toml or requirements.txt says."""
    project, plain = folder / "pyproject.toml", folder / "requirements.txt"
    if project.is_file():
        try:
            table = tomllib.loads(project.read_text()).get("project", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RuntimePluginError(
                f"{project} cannot be read: {error}", cure="Correct the file."
            ) from error
        return [str(one) for one in table.get("dependencies", ())]
    if plain.is_file():
        lines = (line.partition("#")[0].strip() for line in plain.read_text().splitlines())
        return [line for line in lines if line]
    return []


def _add_packages(wanted: Sequence[str], site: Path, name: str) -> None:
    """Puts those into `site` that this environment lacks; what it has stays as it is."""
    if all(map(_is_here, wanted)):
        return
    lines = _pip(name, "--dry-run", "--quiet", "--report", "-", *wanted)
    missing = [
        f"{one['metadata']['name']}=={one['metadata']['version']}"
        for one in json.loads(lines)["install"]
    ]
    if missing:
        _pip(name, "--quiet", "--no-deps", "--target", os.fspath(site), *missing)


def _is_here(requirement: str) -> bool:
    """Whether it is plainly satisfied: a second of pip is saved. Pip decides on all else."""
    match = _PLAIN.fullmatch(requirement)
    if match is None:
        return False
    try:
        return _numbers(version(match[1])) >= _numbers(match[2] or "0")
    except PackageNotFoundError:
        return False


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _pip(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--no-input", *arguments],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimePluginError(
            f"{name}: pip did not end within {PIP_SECONDS:g} s", cure="Look at the package index."
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimePluginError(
            f"{name}: the packages it needs could not be installed: {said[-1]}",
            cure="Correct its dependencies, or install them beside fluidpy with pip.",
        )
    return done.stdout


def _point(link: Path, place: Path) -> None:
    """Sets the link at once, whether or not there was one."""
    fresh = place.with_name(f"{place.name}.link")
    fresh.symlink_to(os.path.relpath(place, link.parent))
    fresh.replace(link)


def _sweep(plugins_dir: Path, name: str) -> None:
    """Removes files of the plug-in that its link does not lead to."""
    link = plugins_dir / name
    used = link.resolve() if link.is_symlink() else None
    for one in (plugins_dir.parent / FILES_FOLDER).glob(f"{name}-????????*"):
        if one.is_symlink():
            one.unlink()
        elif one.resolve() != used and one.name.rpartition("-")[0] == name:
            shutil.rmtree(one, ignore_errors=True)
