"""What tests of images build with: a store of their own, and a base made of this environment.

The base has this Python, /bin/sh and fluidpy with what it needs, copied from here: it takes
seconds, no network and no registry.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
SMALL_BASE: Final = "localhost/small:1"
STORAGE: Final = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
_NEEDLESS: Final = (
    "test", "site-packages", "dist-packages", "idlelib", "ensurepip", "lib2to3", "tkinter",
    "config-*", "tests", "turtledemo", "*.opt-*.pyc", "pydoc_data",
    "distutils",
)  # fmt: skip
_REFUSALS: Final = re.compile(
    r"(mount|namespace|unshare|chroot|clone|seccomp|cgroup).*(not permitted|permission denied)"
    r"|exec: no command|executable file .*(runc|crun)|cgroups in hybrid mode",
    re.IGNORECASE,
)
_LEXERS: Final = re.compile(r"pygments/lexers/(__pycache__/)?[a-z]")
_DOCKERFILE: Final = """\
FROM scratch
COPY root /
COPY --chown=10001:10001 fluidpys /
ENV PATH=/usr/local/bin:/usr/bin:/bin PYTHONPATH=/site {settings}
USER fluidpy
ENTRYPOINT ["fluidpy"]
"""
_SETTINGS: Final = {
    "FLUIDPY_RUNTIME_PATH": "/opt/fluidpy/runtimes",
    "FLUIDPY_CACHE_DIR": "/var/lib/fluidpy/cache",
    "FLUIDPY_STATE_DIR": "/var/lib/fluidpy/state",
    "FLUIDPY_RUNTIME_DIR": "/run/fluidpy",
}
"""As runtimes/base has them."""


def why_none_can_be_built() -> str:
    """Why no image can be built on this machine; empty when one can."""
    if shutil.which("buildah") is None:
        return "buildah is not installed (apt-get install buildah)"
    mounts = subprocess.run(
        ["unshare", "--mount", "--net", "true"], check=False, capture_output=True
    )
    return "" if mounts.returncode == 0 else "building in a chroot needs root with CAP_SYS_ADMIN"


def why_none_runs(environment: Mapping[str, str]) -> str:
    """What buildah says when this machine lets it run nothing; empty when it runs SMALL_BASE.

    What else keeps the base from running is a fault, and raises AssertionError.
    """
    container = done(environment, "buildah", "from", "--pull-never", SMALL_BASE).strip()
    try:
        done(environment, "buildah", "run", container, "--", "python3", "-V")
    except AssertionError as error:
        if not is_of_the_machine(str(error)):
            raise
        return f"buildah runs nothing on this machine: {error}"
    finally:
        done(environment, "buildah", "rm", container)
    return ""


def is_of_the_machine(said: str) -> bool:
    """Whether a failed run was refused what containers are made of. Pure."""
    return _REFUSALS.search(said) is not None


def image_store(folder: Path, shared: Path | None = None) -> dict[str, str]:
    """The environment in which buildah keeps its images in `folder` and needs no runc.

    Images of another such folder, `shared`, are seen as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "storage.conf"
    environment = {"CONTAINERS_STORAGE_CONF": str(file), "BUILDAH_ISOLATION": "chroot"}
    options = f'[storage.options]\nadditionalimagestores = ["{shared}/root"]\n' if shared else ""
    for driver in ("overlay", "vfs"):  # overlay not where the disk is an overlay itself
        file.write_text(STORAGE.format(driver=driver, folder=folder) + options)
        tried = subprocess.run(
            ["buildah", "images"], env={**os.environ, **environment}, capture_output=True,
            check=False,
        )  # fmt: skip
        if tried.returncode == 0:
            break
    return environment


def in_store(environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Names of images, and containers."""
    form = "{{.Name}}:{{.Tag}}"
    images = done(environment, "buildah", "images", "--noheading", "--format", form)
    containers = done(environment, "buildah", "containers", "--noheading")
    return sorted(images.split()), containers.splitlines()


def unmount(folder: Path) -> None:
    """Of a store whose tests are over: the overlay driver mounts its own folder."""
    subprocess.run(["umount", "-l", folder / "root/overlay"], capture_output=True, check=False)


def done(environment: Mapping[str, str], *words: str | Path, timeout: float = 600) -> str:
    """The output of a command that must succeed."""
    finished = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return finished.stdout


def make_small_base(context: Path, environment: Mapping[str, str]) -> None:
    """Builds SMALL_BASE from scratch."""
    root, owned = context / "root", context / "fluidpys"
    _copy_python(root)
    _copy_packages(root / "site")
    _copy_libraries(root)
    for place in ("opt/fluidpy/runtimes", "opt/fluidpy/runtime-files", "var/lib/fluidpy"):
        (owned / place).mkdir(parents=True)
    (owned / "run/fluidpy").mkdir(parents=True)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nfluidpy:x:10001:10001::/var/lib/fluidpy:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nfluidpy:x:10001:\n")
    settings = " ".join(f"{name}={value}" for name, value in _SETTINGS.items())
    (context / "Dockerfile").write_text(_DOCKERFILE.format(settings=settings))
    done(environment, "buildah", "build", "--tag", SMALL_BASE, context)


def _copy_python(root: Path) -> None:
    program = Path(os.path.realpath(sys.executable))
    stdlib = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    for file in (program, Path("/bin/sh")):
        _copy_file(root, file)
    _take_tree(stdlib, root / stdlib.relative_to("/"))
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True, exist_ok=True)
    install_packages = ROOT / "runtimes/base/install-packages"
    shutil.copy2(install_packages, programs / install_packages.name)
    (programs / "fluidpy").write_text(f'#!/bin/sh\nexec {program} -m fluidpy "$@"\n')
    (programs / "fluidpy").chmod(0o755)
    (programs / "python3").symlink_to(program)


def _copy_packages(site: Path) -> None:
    """fluidpy and what its commands need, from this environment."""
    _take_tree(ROOT / "fluidpy", site / "fluidpy")
    for one in _needed(Requirement("fluidpy[cli]"), set()):
        for file in one.files or ():
            place = site / file
            if ".." in file.parts or one.name == "fluidpy" or _LEXERS.match(str(file)):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            _take(file.locate(), place)


def _needed(wanted: Requirement, seen: set[str]) -> Iterator[Distribution]:
    one = distribution(wanted.name)
    if wanted.name not in seen:
        seen.add(wanted.name)
        yield one
    for text in one.requires or ():
        further = Requirement(text)
        extras = wanted.extras or {""}
        asked = further.marker is None or any(
            further.marker.evaluate({"extra": extra}) for extra in extras
        )
        if asked and further.name not in seen:
            yield from _needed(further, seen)


def _copy_libraries(root: Path) -> None:
    """What the copied programs and extensions are linked with, found as the loader finds it."""
    programs = [one for one in root.rglob("*") if one.is_file() and _is_program(one)]
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    words = {word for line in said.splitlines() for word in line.split() if word.startswith("/")}
    for word in sorted(words):
        if not word.endswith(":") and not word.startswith(str(root)):
            _copy_file(root, Path(word))


def _is_program(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _copy_file(root: Path, file: Path) -> None:
    place = root / file.relative_to("/")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        _take(file, place)


def _take_tree(source: Path, place: Path) -> None:
    needless = shutil.ignore_patterns(*_NEEDLESS)
    shutil.copytree(source, place, ignore=needless, copy_function=_take)


def _take(source: object, place: object) -> None:
    """The builder copies it from here: a link is enough, where one can be made."""
    try:
        os.link(os.path.realpath(str(source)), str(place))
    except OSError:
        shutil.copy2(str(source), str(place))
