"""A plug-in's image: made from its Dockerfile by whichever builder is here, and looked into.

What is asked of the builder is what buildah, podman and docker have in common. Storage and
isolation are theirs to configure (`CONTAINERS_STORAGE_CONF`, `BUILDAH_ISOLATION`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.manifest import Manifest

BUILDERS: Final = ("buildah", "podman", "docker")
"""In the order in which they are taken: the first needs no service and no root."""
BUILD_SECONDS: Final = 1800.0
CHECK_SECONDS: Final = 120.0
CHECK: Final = ("fluidpy", "runtime", "list", "--check", "-o", "json")
"""What is run in the image: it has fluidpy, the plug-in, and what the plug-in needs."""


def tool_here() -> str:
    """The builder to use. Raises RuntimePluginError when there is none."""
    for name in BUILDERS:
        if shutil.which(name) is not None and (name != "docker" or _docker_answers()):
            return name
    raise RuntimePluginError(
        f"no image builder is here (looked for {', '.join(BUILDERS)})",
        cure="Install one, such as `apt-get install buildah`.",
    )


def _docker_answers() -> bool:
    """The client alone builds nothing: its service has to run."""
    done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def build_image(
    tool: str, folder: Path, manifest: Manifest, image: str, base: str
) -> Iterator[str]:
    """Builds and checks the image; yields what was done, one line a step.

    Raises RuntimePluginError with the last words of the builder, or with what the image lacks.
    """
    if not (folder / "Dockerfile").is_file():
        raise RuntimePluginError(
            f"{folder} has no Dockerfile", cure="`fluidpy runtime init` writes one."
        )
    verb = "bud" if tool == "buildah" else "build"
    arguments = [f"--build-arg=BASE={base}"] if base else []
    _run([tool, verb, *arguments, "--tag", image, os.fspath(folder)], BUILD_SECONDS, "the build")
    yield f"built {image} with {tool}"
    _check(_inside(tool, image), manifest, image)
    yield f"checked {image}: it has {manifest.name} {manifest.version}"


def _inside(tool: str, image: str) -> str:
    """What the image says of its plug-ins."""
    if tool != "buildah":
        return _run(
            [tool, "run", "--rm", "--entrypoint", CHECK[0], image, *CHECK[1:]],
            CHECK_SECONDS,
            "a run of the image",
            allowed=(0, 1),
        )
    container = _run([tool, "from", "--pull-never", image], CHECK_SECONDS, "a container of it")
    try:
        return _run(
            [tool, "run", container.strip(), "--", *CHECK],
            CHECK_SECONDS,
            "a run of it",
            allowed=(0, 1),
        )
    finally:
        _run([tool, "rm", container.strip()], CHECK_SECONDS, "removing the container")


def _check(said: str, manifest: Manifest, image: str) -> None:
    try:
        rows = {row["name"]: row for row in json.loads(said)}
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimePluginError(
            f"{image}: fluidpy in it gives no list of plug-ins", cure="Build on fluidpy's image."
        ) from error
    row = rows.get(manifest.name)
    if row is None or row["version"] != manifest.version:
        there = ", ".join(sorted(rows)) or "none"
        raise RuntimePluginError(
            f"{image} does not know {manifest.name} {manifest.version} (it knows: {there})",
            cure="Let the Dockerfile RUN fluidpy runtime install --to /opt/fluidpy/runtimes DIR.",
        )
    if row.get("problem"):
        raise RuntimePluginError(
            f"{image}: {row['problem']}", cure="Install what it needs in the Dockerfile."
        )


def _run(command: Sequence[str], seconds: float, what: str, allowed: Sequence[int] = (0,)) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimePluginError(
            f"{what} did not end within {seconds:g} s", cure=f"Run it by hand: {' '.join(command)}"
        ) from error
    if done.returncode not in allowed:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimePluginError(
            f"{what} failed: {' / '.join(last)}", cure=f"Run it by hand: {' '.join(command)}"
        )
    return done.stdout
