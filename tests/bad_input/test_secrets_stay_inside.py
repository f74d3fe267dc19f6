"""The secret of a mount is on no command line, in no environment, file, log or message."""

from __future__ import annotations

from pathlib import Path

from fluidpy.testing.servers.process_group import free_ports
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.conftest import Refusals
from tests.bad_input.test_bad_sources import bucket_dataset

SECRET = "fluidpy-admin-secret"


def test_nothing_of_ours_holds_the_secret(
    refusals: Refusals, seaweedfs_server: SeaweedServer, bucket: str, tmp_path: Path
) -> None:
    line = refusals.line
    seaweedfs_server.put_objects(bucket, {"a.txt": b"a" * 5000})
    assert seaweedfs_server.secret_key == SECRET
    file, directory = tmp_path / "d.yaml", tmp_path / "data"
    file.write_text(bucket_dataset(seaweedfs_server, f"s3://{bucket}"))
    directory.mkdir()
    line.done("mount", "-f", file, directory)
    try:
        assert (directory / "a.txt").read_bytes() == b"a" * 5000
        line.done("load", "-f", file)
        doctor = line.run("doctor", "-o", "json")  # finds fault with the machine, maybe
        told = line.done("status", "-o", "json").encode() + doctor.stdout + doctor.stderr
        assert SECRET.encode() not in told
        processes = refusals.processes("fluidpy.")
        assert len(processes) >= 3
        for process in processes:
            for name in ("cmdline", "environ"):
                assert SECRET.encode() not in Path(f"/proc/{process}/{name}").read_bytes()
    finally:
        line.done("umount", "--lazy", directory)
    line.done("worker", "--stop")
    _assert_nowhere(refusals)


def test_no_message_and_no_traceback_holds_the_secret(
    refusals: Refusals, seaweedfs_server: SeaweedServer, tmp_path: Path
) -> None:
    refusals.line.environment |= {"FLUIDPY_DEBUG": "1", "FLUIDPY_SOURCE_DEADLINE_SECONDS": "2"}
    text = bucket_dataset(seaweedfs_server, "s3://no-such-bucket")
    (port,) = free_ports(1)
    (tmp_path / "data").mkdir()
    for wrong in (
        text,
        text.replace(seaweedfs_server.endpoint, f"http://127.0.0.1:{port}"),
        text.replace("name: secret_access_key", "name: secret_access_kye"),
        text.replace(seaweedfs_server.endpoint, "not an endpoint"),
        text.replace("stringData", "data"),
    ):
        (tmp_path / "d.yaml").write_text(wrong)
        finished = refusals.line.run("mount", "-f", "d.yaml", "data")
        assert finished.returncode == 1
        assert b"Traceback" in finished.stderr
        assert SECRET.encode() not in finished.stdout + finished.stderr
    (tmp_path / "d.yaml").write_text(text)
    loaded = refusals.line.run("load", "-f", "d.yaml")
    assert loaded.returncode == 1
    assert SECRET.encode() not in loaded.stdout + loaded.stderr
    _assert_nowhere(refusals)


def _assert_nowhere(refusals: Refusals) -> None:
    cache = Path(refusals.line.environment["FLUIDPY_CACHE_DIR"])
    files = [p for top in (cache, refusals.runtime) for p in top.rglob("*") if p.is_file()]
    assert files
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
        assert path.stat().st_mode & 0o077 == 0, path
