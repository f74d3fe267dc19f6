"""`runtime build`: what is asked of a builder, and what is told when an image cannot be had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.discovery import Plugin
from fluidpy.runtime.image import build_image, tool_here
from fluidpy.runtime.image_builder import cure_of, last_words
from fluidpy.runtime.installed_check import problem_of
from fluidpy.runtime.manifest import load_manifest
from tests.runtime.image_store import is_of_the_machine

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "runtimes" / "starfs"


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
    builder.write_text(f"#!/bin/sh\n[ \"$1\" != run ] || echo '{said}'\n")
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
    builder.write_text("#!/bin/sh\n[ $1 = build ] || exit 0\necho 'no space left' >&2\nexit 125\n")
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimePluginError, match="the build failed: no space left"):
        list(build_image("podman", PLUGIN, load_manifest(PLUGIN), "localhost/x:1", ""))


def test_a_docker_client_without_its_service_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon at X.' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(RuntimePluginError, match="Cannot connect to the Docker daemon") as raised:
        tool_here()
    assert "systemctl start docker" in raised.value.cure
    assert "apt-get install buildah" in raised.value.cure


def test_an_image_is_named_only_once_it_was_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    builder = tmp_path / "docker"
    said = '[{"name": "starfs", "version": "1.0.0", "problem": ""}]'
    builder.write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\n'
        f"case $1 in run) echo '{said}' ;; images) echo 9MB ;; build) echo step 1 ;; esac\n"
    )
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    lines = list(build_image("docker", PLUGIN, load_manifest(PLUGIN), "localhost/x:1", "b:1"))
    assert lines == [
        "building localhost/x:1 with docker",
        "step 1",
        "checked localhost/x:1 (9MB): it has starfs 1.0.0",
    ]
    _, build, run, _, tag, remove, _ = (words.split() for words in asked.read_text().splitlines())
    building = build[build.index("--tag") + 1]
    assert build[:2] == ["build", "--build-arg=BASE=b:1"]
    assert building in run
    assert tag == ["tag", building, "localhost/x:1"]
    assert remove == ["rmi", building]


def fake_builder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cases: str, name: str = "podman"
) -> Path:
    """A builder that writes down what it is asked for, and does what `cases` say."""
    asked, builder = folder / "asked", folder / name
    said = '[{"name": "starfs", "version": "1.0.0", "problem": ""}]'
    builder.write_text(
        f"#!/bin/sh\necho \"$@\" >> {asked}\ncase $1 in {cases} run) echo '{said}' ;; esac\n"
    )
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return asked


def built(plugin: Path = PLUGIN) -> list[str]:
    return list(build_image("podman", plugin, load_manifest(PLUGIN), "localhost/x:1", "b:1"))


def test_an_image_whose_size_cannot_be_had_is_built_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_builder(tmp_path, monkeypatch, "images) exit 1 ;;")
    assert built()[-1] == "checked localhost/x:1: it has starfs 1.0.0"


def test_what_killed_builds_have_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "localhost/fluidpy-building"
    listed = f"{name}:1000-ab\n{name}:{time.time():.0f}-cd\nlocalhost/starfs:1.0.0"
    asked = fake_builder(tmp_path, monkeypatch, f"images) echo '{listed}' ;;")
    built()
    removed = [line for line in asked.read_text().splitlines() if line.startswith("rmi ")]
    assert removed[0] == f"rmi {name}:1000-ab"
    assert len(removed) == 2  # and its own


def test_the_container_that_looks_into_an_image_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_builder(tmp_path, monkeypatch, "")
    built()
    lines = [line.split() for line in asked.read_text().splitlines()]
    run, remove = (line for line in lines if line[0] in ("run", "rm"))
    assert remove == ["rm", "--force", run[run.index("--name") + 1]]


def test_what_a_build_makes_can_be_read_by_the_user_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_builder(tmp_path, monkeypatch, "build) umask ;;")
    before = os.umask(0o077)
    try:
        assert "0022" in built()
    finally:
        os.umask(before)


def test_a_folder_that_is_closed_to_the_user_of_the_image_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_builder(tmp_path, monkeypatch, "")
    folder = shutil.copytree(PLUGIN, tmp_path / "starfs")
    folder.chmod(0o755)
    assert not [line for line in built(folder) if "chmod" in line]
    folder.chmod(0o700)
    assert [line for line in built(folder) if f"`chmod o+rx {folder}`" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_whose_terminal_is_closed_removes_what_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    asked = fake_builder(
        tmp_path, monkeypatch, "build) echo it runs; exec sleep 1000 ;;", "buildah"
    )
    # Whoever runs the tests by nohup lets their children ignore SIGHUP.
    usual = ("env", f"--default-signal={number.name.removeprefix('SIG')}", sys.executable)
    words = (*usual, "-m", "fluidpy", "runtime", "build", PLUGIN, "--base", "b:1")
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for said in process.stderr:
            if said == b"it runs\n":
                break
        process.send_signal(number)
        try:
            assert process.wait(60) == 128 + number
            process.stderr.read()  # its end: nothing that was started has it open
        finally:
            process.kill()
    assert asked.read_text().splitlines()[-1].startswith("rmi localhost/fluidpy-building:")


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("write /x: no space left on device", "Free room"),
        ("E: Failed to fetch http://d: Could not resolve 'd'", "into packages/"),
        ("dial tcp: lookup r.example: no such host", "name a base that is here"),
        ("reading manifest 9 in docker.io/x: manifest unknown", "Correct the image's name"),
        ("requested access to the resource is denied", "docker login"),
        ('exec: "runc": executable file not found in $PATH', "BUILDAH_ISOLATION=chroot"),
        ('exec: "newuidmap": executable file not found', "apt-get install uidmap"),
        ("running container: from  creating container for [x]: : exec: no command", "install runc"),
        ("something else", "Run it by hand: docker build 'a b'"),
    ],
)
def test_each_failure_has_its_cure(said: str, cure: str) -> None:
    assert cure in cure_of(["STEP 1/2: FROM x", said], ["docker", "build", "a b"])


@pytest.mark.parametrize(
    ("said", "of_the_machine"),
    [
        ("error mounting /proc: remount: operation not permitted", True),
        ("running container: from creating container for [x]: : exec: no command", True),
        ("unshare(CLONE_NEWNS): Operation not permitted", True),
        ("python3: error while loading shared libraries: libm.so.6", False),
        ("chroot: python3: executable file not found in $PATH", False),
        ("/usr/bin/python3: permission denied", False),
    ],
)
def test_tests_of_images_are_left_out_for_what_the_machine_refuses_alone(
    said: str, of_the_machine: bool
) -> None:
    assert is_of_the_machine(said) == of_the_machine


@pytest.mark.parametrize("state", ["installed", "config-files", ""])
def test_a_removed_package_does_not_count_as_installed(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    query, get = tmp_path / "dpkg-query", tmp_path / "apt-get"
    query.write_text("#!/bin/sh\necho installed\n" + (f"echo {state}\n" if state else "exit 1\n"))
    get.write_text(f"#!/bin/sh\necho $1 >> {asked}\nexit 3\n")
    for one in (query, get):
        one.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = ROOT / "runtimes/base/install-packages"
    done = subprocess.run(["sh", script, "apt", "fuse3", "sshfs"], check=False)
    assert done.returncode == (0 if state == "installed" else 3)
    assert asked.exists() == (state != "installed")


def test_last_words_are_those_that_tell_something() -> None:
    said = ["STEP 2/2: RUN x", "E: it is so", "subprocess exited with status 100", "", "Error: b"]
    assert last_words(said) == "E: it is so / Error: b"
    assert last_words([]) == "it said nothing"


def test_an_engine_without_its_program_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluidpy.runtime.juicefs.driver.find_program", lambda: None)
    folder = ROOT / "runtimes/juicefs"
    plugin = Plugin(load_manifest(folder), folder, "installed")
    assert "the program juicefs is not installed" in problem_of(plugin)


def test_who_is_not_root_needs_a_program_that_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sshfs").touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    folder = ROOT / "runtimes/sshfs"
    plugin = Plugin(load_manifest(folder), folder, "installed")
    assert "apt-get install fuse3" in problem_of(plugin)
    (tmp_path / "fusermount3").touch(0o755)
    assert problem_of(plugin) == ""
