"""A plug-in's image: made from its Dockerfile by whichever builder is here, and looked into.

What is asked of the builder is what buildah, podman and docker have in common. Storage and
isolation are theirs to configure (`CONTAINERS_STORAGE_CONF`, `BUILDAH_ISOLATION`). The image is
built under a name of its own and gets the one that was asked for once it was looked into, so one
that is no good replaces none.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from fluidpy.errors import RuntimePluginError
from fluidpy.runtime import image_builder
from fluidpy.runtime.manifest import Manifest

BUILDERS: Final = ("buildah", "podman", "docker")
"""In the order in which they are taken: the first needs no service and no root."""
BUILD_SECONDS: Final = 1800.0
CHECK_SECONDS: Final = 120.0
UNFINISHED: Final = "localhost/fluidpy-building"
"""Name of images that are being built; the tag begins with the time of the start."""
UNFINISHED_SECONDS: Final = 86400.0
"""An older one was left by a build that was killed."""
CHECK: Final = ("fluidpy", "runtime", "list", "--check", "-o", "json")
"""What is run in the image: it has fluidpy, the plug-in, and what the plug-in needs."""
_LIMITS: Final = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
"""podman run by root asks for more, which a root without CAP_SYS_RESOURCE may not grant."""
_BASE_ARGUMENT: Final = re.compile(r"^ARG\s+BASE=(\S+)", re.MULTILINE)


def tool_here() -> str:
    """The builder to use. Raises RuntimePluginError when there is none, or none that works."""
    for name in BUILDERS[:2]:
        if shutil.which(name) is not None:
            return name
    if shutil.which("docker") is None:
        raise RuntimePluginError(
            f"no image builder is here (looked for {', '.join(BUILDERS)})",
            cure="Install one, such as `apt-get install buildah`.",
        )
    if problem := _service_problem():
        raise RuntimePluginError(
            f"docker is here, but its service does not answer: {problem}",
            cure="Start it (`systemctl start docker`), name one that runs by DOCKER_HOST, or "
            "install a builder that needs none: `apt-get install buildah`.",
        )
    return "docker"


def _service_problem() -> str:
    """What docker's client says of the service; empty if it answers. The client builds nothing."""
    try:
        image_builder.answer(
            ["docker", "info", "--format", "{{.ServerVersion}}"], 30, "docker info"
        )
    except RuntimePluginError as error:
        return error.message.partition("failed: ")[2] or error.message
    return ""


def build_image(
    tool: str, folder: Path, manifest: Manifest, image: str, base: str
) -> Iterator[str]:
    """Builds and checks the image; yields what the builder says, and what was done.

    Raises RuntimePluginError with the last words of the builder, or with what the image lacks;
    then nothing is left of the image, and an older one of that name stays. What builds that were
    killed have left is removed by those of later days.
    """
    _require_base(tool, folder, base)
    _sweep(tool)
    yield f"building {image} with {tool}"
    if folder.stat().st_mode & 0o005 != 0o005:
        yield (
            f"{folder} is closed to other users, and steps of a Dockerfile run as one: "
            f"`chmod o+rx {folder}` if the build is refused its files"
        )
    name = f"{UNFINISHED}:{time.time():.0f}-{secrets.token_hex(6)}"
    arguments = [f"--build-arg=BASE={base}"] if base else []
    command = [tool, "build", *arguments, "--tag", name, os.fspath(folder)]
    try:
        yield from image_builder.follow(command, BUILD_SECONDS, "the build")
        _check(_inside(tool, name, image), manifest, image)
        _answer([tool, "tag", name, image], "naming the image")
    finally:
        with suppress(RuntimePluginError):  # not built, or the user is told of what went wrong
            _answer([tool, "rmi", name], "removing the image")
    yield f"checked {image}{_size(tool, image)}: it has {manifest.name} {manifest.version}"


def _size(tool: str, image: str) -> str:
    """In brackets; empty if it cannot be had: the image has its name by now."""
    try:
        size = _answer([tool, "images", "--format", "{{.Size}}", image], "its size")
    except RuntimePluginError:
        return ""
    return f" ({size.splitlines()[0]})" if size.strip() else ""


def _sweep(tool: str) -> None:
    """Removes what killed builds have left. That it fails is no reason not to build."""
    field = "Name" if tool == "buildah" else "Repository"
    form = f"{{{{.{field}}}}}:{{{{.Tag}}}}"
    with suppress(RuntimePluginError):
        for name in left_over(_answer([tool, "images", "--format", form], "").split(), time.time()):
            _answer([tool, "rmi", name], "removing an image that was left")


def left_over(names: Iterable[str], now: float) -> list[str]:
    """Those of unfinished images that no build is at any more. Pure; `now` in epoch seconds."""
    started = ((one, re.fullmatch(rf"{UNFINISHED}:(\d+)-\w+", one)) for one in names)
    return [one for one, at in started if at and now - int(at[1]) > UNFINISHED_SECONDS]


def _require_base(tool: str, folder: Path, base: str) -> None:
    """Raises RuntimePluginError without a Dockerfile, or the local image that it stands on.

    Builders would ask a registry named localhost for it.
    """
    file = folder / "Dockerfile"
    if not file.is_file():
        raise RuntimePluginError(
            f"{folder} has no Dockerfile", cure="`fluidpy runtime init` writes one."
        )
    declared = _BASE_ARGUMENT.search(file.read_text(errors="replace"))
    wanted = base or (declared[1] if declared else "")
    if not wanted.startswith("localhost/"):
        return
    kind = ["--type", "image"] if tool == "buildah" else ["--type=image"]
    try:
        _answer([tool, "inspect", *kind, wanted], "looking for the base")
    except RuntimePluginError as error:
        raise RuntimePluginError(
            f"the base {wanted} is not among the images of {tool} ({error.message})",
            cure=f"`tools/build_base_image.sh {wanted}` makes it; --base IMAGE names another.",
        ) from error


def _inside(tool: str, name: str, image: str) -> str:
    """What the image says of its plug-ins; it needs no network for it."""
    try:
        return _run_buildah(name) if tool == "buildah" else _run_once(tool, name)
    except RuntimePluginError as error:
        # The one that was built is removed: another has to be built to be looked into.
        cure = error.cure.replace("Run it by hand: ", f"Build {image} by hand, then run: ")
        raise RuntimePluginError(error.message, cure=cure.replace(name, image)) from error


def _run_once(tool: str, name: str) -> str:
    limits = list(_LIMITS) if tool == "podman" and os.geteuid() == 0 else []
    container = f"fluidpy-checking-{secrets.token_hex(6)}"
    options = ["--rm", "--name", container, "--network=none", *limits, "--entrypoint", CHECK[0]]
    try:
        command = [tool, "run", *options, name, *CHECK[1:]]
        return _answer(command, "a run of the image", checks=True)
    finally:
        with suppress(RuntimePluginError):  # mostly it is gone; else the client ended before it
            _answer([tool, "rm", "--force", container], "removing the container")


def _run_buildah(name: str) -> str:
    container = _answer(["buildah", "from", "--pull-never", name], "a container of it").strip()
    try:
        return _answer(["buildah", "run", container, "--", *CHECK], "a run of it", checks=True)
    finally:
        _answer(["buildah", "rm", container], "removing the container")


def _answer(command: list[str], what: str, checks: bool = False) -> str:
    """Of a check, exit code 1 says that not all plug-ins are well."""
    return image_builder.answer(command, CHECK_SECONDS, what, (0, 1) if checks else (0,))


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
