"""`runtime build`: an image made offline and looked into; and what is told when it cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.image import build_image, tool_here
from fluidpy.runtime.manifest import load_manifest
from tests.cli.conftest import CommandLine, command_line_in

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "runtimes" / "starfs"
BASE = "localhost/base:1"
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{0}/root"
runroot = "{0}/run"
"""


def test_without_a_builder_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimePluginError, match="apt-get install buildah"):
        tool_here()


def test_without_a_dockerfile_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(RuntimePluginError, match="has no Dockerfile"):
        next(build_image("buildah", tmp_path, load_manifest(PLUGIN), "localhost/x:1", ""))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("not json", "gives no list of plug-ins"),
        ("[]", "does not know starfs 1.0.0 (it knows: none)"),
        ('[{"name": "starfs", "version": "0.9"}]', "it knows: starfs"),
        ('[{"name": "starfs", "version": "1.0.0", "problem": "no client"}]', "no client"),
    ],
)
def test_an_image_that_lacks_the_plugin_is_refused(
    said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder that builds anything, and an image that says what it is told to."""
    builder = tmp_path / "podman"
    builder.write_text(f'#!/bin/sh\n[ "$1" = build ] || echo \'{said}\'\n[ "$1" = build ]\n')
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimePluginError) as raised:
        list(build_image("podman", PLUGIN, load_manifest(PLUGIN), "localhost/x:1", ""))
    assert told in raised.value.message
    assert raised.value.cure


def test_the_last_words_of_a_builder_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = tmp_path / "podman"
    builder.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 125\n")
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimePluginError, match="the build failed: no space left"):
        next(build_image("podman", PLUGIN, load_manifest(PLUGIN), "localhost/x:1", ""))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line with an image store of its own, which has a small Debian with Python."""
    if os.geteuid() != 0 or not (shutil.which("buildah") and shutil.which("debootstrap")):
        pytest.skip("needs root, buildah and debootstrap")
    with command_line_in(tmp_path) as line:
        (tmp_path / "storage.conf").write_text(STORAGE.format(tmp_path / "images"))
        line.environment |= {
            "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }
        _make_base(tmp_path / "rootfs", line.environment)
        yield line
        subprocess.run(["umount", "-l", tmp_path / "images/root/overlay"], check=False)


def _make_base(rootfs: Path, environment: dict[str, str]) -> None:
    packages = "python3,python3-venv,python3-pip"
    _run(
        environment, "debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", rootfs
    )
    container = _run(environment, "buildah", "from", "scratch").strip()
    _run(environment, "buildah", "add", "--quiet", container, rootfs, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    _run(environment, "buildah", "config", "--env", path, container)
    _run(environment, "buildah", "commit", "--quiet", "--rm", container, BASE)


def _run(environment: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_images_are_built_and_run_without_a_registry(machine: CommandLine) -> None:
    environment = machine.environment
    script = ROOT / "tools" / "build_base_image.sh"
    _run({**environment, "PYTHON": machine.python}, script, "localhost/fluidpy:1", BASE)
    done = machine.run(
        "runtime", "build", PLUGIN, "--base", "localhost/fluidpy:1", "--tag", "localhost/s:1",
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"localhost/s:1\n"
    assert b"it has starfs 1.0.0" in done.stderr
    container = _run(environment, "buildah", "from", "localhost/s:1").strip()
    who = _run(environment, "buildah", "run", container, "--", "id", "-u")
    assert who.strip() == "10001"
    valid = _run(
        environment, "buildah", "run", container, "--",
        "fluidpy", "validate", "-f", "/plugin/dataset.yaml", "-o", "json",
    )  # fmt: skip
    assert '"problems": []' in valid
