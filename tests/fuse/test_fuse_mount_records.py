"""The table of mounts, records and the checks before a mount."""

from __future__ import annotations

import errno
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.errors import MountError
from fluidpy.fuse import kernel_mount, mount_probe
from fluidpy.fuse.mount_checks import check_mount_point, plain_path
from fluidpy.fuse.mount_record import (
    MountRecord,
    read_records,
    record_path,
    remove_record,
    write_record,
)
from fluidpy.fuse.mount_table import parse_mountinfo
from fluidpy.fuse.mounting import list_mounts, mount_dataset, unmount
from fluidpy.namespace.definition import MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.under_storage import MountSource
from tests.fuse.tree_worker import definition


def record(directory: Path, holder: int = 1) -> MountRecord:
    return MountRecord(directory, "tree", "default", holder, 2, "plain", 3.0, Path("/x.yaml"))


def test_mountinfo_is_parsed_with_its_escapes() -> None:
    line = (
        rb"36 35 0:45 / /mnt/a\040b\134c ro,nosuid shared:1 - fuse.fluidpy default/tree ro" + b"\n"
    )
    (point,) = parse_mountinfo(line + b"nonsense\n")
    assert point.directory == Path("/mnt/a b\\c")
    assert (point.device, point.source, point.ours) == ("0:45", "default/tree", True)


def test_a_record_is_private_and_comes_back(fuse_settings: Settings, tmp_path: Path) -> None:
    write_record(fuse_settings, record(tmp_path))
    path = record_path(fuse_settings, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_records(fuse_settings) == [record(tmp_path)]
    assert set(record(tmp_path).to_wire()) == {
        "mountPoint", "dataset", "namespace", "holderPid", "serverPid", "readMode", "startedAt",
        "file", "url", "readModeReason", "restarts", "failure", "managed",
    }  # fmt: skip


def test_a_record_is_removed_only_by_its_own_holder(
    fuse_settings: Settings, tmp_path: Path
) -> None:
    write_record(fuse_settings, record(tmp_path, holder=7))
    remove_record(fuse_settings, tmp_path, 8)
    assert read_records(fuse_settings)
    remove_record(fuse_settings, tmp_path, 7)
    assert not read_records(fuse_settings)


def test_broken_and_stale_records_are_not_listed(fuse_settings: Settings, tmp_path: Path) -> None:
    gone = 2**22 - 3
    write_record(fuse_settings, record(tmp_path, holder=gone))
    (fuse_settings.mounts_dir / "broken.json").write_text("{")
    assert list_mounts(fuse_settings) == []
    assert not record_path(fuse_settings, tmp_path).exists()


def check(directory: Path, settings: Settings, **options: bool) -> None:
    check_mount_point(plain_path(directory), definition(), settings, **options)


def test_a_missing_mount_point_is_named_with_the_command(
    fuse_settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(MountError, match=rf"{tmp_path}/no does not exist. Make it: mkdir -p"):
        check(tmp_path / "no", fuse_settings)


def test_a_file_is_no_mount_point(fuse_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match="is not a directory"):
        check(tmp_path / "file", fuse_settings)


def test_what_lies_under_a_mount_is_not_hidden_unasked(
    fuse_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match=r"is not empty \(it has file\)"):
        check(tmp_path, fuse_settings)
    check(tmp_path, fuse_settings, allow_non_empty=True)


def test_cache_and_mount_point_do_not_overlap(fuse_settings: Settings) -> None:
    inside = fuse_settings.cache_dir / "mnt"
    inside.mkdir(parents=True)
    with pytest.raises(MountError, match="lies in the cache directory"):
        check(inside, fuse_settings)
    with pytest.raises(MountError, match="would hide the cache directory"):
        check(fuse_settings.cache_dir.parent, fuse_settings)


@pytest.mark.parametrize("scheme", ["local", "file", "pvc"])
def test_a_source_and_its_mount_point_do_not_overlap(
    fuse_settings: Settings, tmp_path: Path, scheme: str
) -> None:
    source = tmp_path / "source"
    (source / "mnt").mkdir(parents=True)
    settings = replace(fuse_settings, pvc_directories={"claim": os.fspath(source)})
    url = "pvc://claim" if scheme == "pvc" else f"{scheme}://{source}"
    shown = definition(mounts=(MountDefinition("data", "/", MountSource(url, label="data")),))
    for inside in (source, source / "mnt"):
        with pytest.raises(MountError, match=r"lies in the directory .*/source that mount data"):
            check_mount_point(plain_path(inside), shown, settings)
    with pytest.raises(MountError, match=r"would hide the directory .*/source that mount data"):
        check_mount_point(plain_path(tmp_path), shown, settings, allow_non_empty=True)
    beside = tmp_path / "source-2"
    beside.mkdir()
    check_mount_point(plain_path(beside), shown, settings)


def test_another_file_systems_mount_is_left_alone(fuse_settings: Settings) -> None:
    with pytest.raises(MountError, match="/proc is a mount of proc already"):
        check(Path("/proc"), fuse_settings)
    with pytest.raises(MountError, match="mount of proc, not of fluidpy"):
        unmount(Path("/proc"), fuse_settings)


def test_unmounting_what_is_not_mounted_says_so(fuse_settings: Settings, tmp_path: Path) -> None:
    write_record(fuse_settings, record(tmp_path, holder=2**22 - 3))
    with pytest.raises(MountError, match="nothing is mounted at"):
        unmount(tmp_path, fuse_settings)
    assert not read_records(fuse_settings)


def test_a_symlink_to_the_mount_point_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert plain_path(tmp_path / "link") == Path(os.path.realpath(tmp_path)) / "real"


def test_without_the_device_the_cure_is_named(
    fuse_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_mount, "DEVICE", str(tmp_path / "fuse"))
    (tmp_path / "mnt").mkdir()
    with pytest.raises(MountError, match="modprobe fuse"):
        mount_dataset(
            definition(), tmp_path / "mnt", fuse_settings, foreground=False, file=None, deadline=5
        )


def test_without_privilege_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_mount, "may_mount", lambda: False)
    monkeypatch.setattr(kernel_mount, "fusermount", lambda: None)
    monkeypatch.setattr(kernel_mount, "DEVICE", "/dev/null")
    with pytest.raises(MountError, match="package fuse3"):
        kernel_mount.check_possible()


def test_a_hanging_probe_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    event = threading.Event()
    error = mount_probe.probe(event.wait, 0.05)
    event.set()
    assert isinstance(error, TimeoutError)


def test_a_mount_that_is_not_permitted_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_directory: Path, _source: str) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(kernel_mount, "may_mount", lambda: True)
    monkeypatch.setattr(kernel_mount, "fusermount", lambda: None)
    monkeypatch.setattr(kernel_mount, "_mount_directly", refuse)
    with pytest.raises(MountError, match=r"not permitted: Permission denied.*apparmor=unconfined"):
        kernel_mount.mount(tmp_path, "default/tree")


def test_a_holders_number_that_is_a_thread_by_now_is_a_mount_gone(
    fuse_settings: Settings, tmp_path: Path
) -> None:
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, args=(30,))
    thread.start()
    try:
        assert thread.native_id is not None
        write_record(fuse_settings, record(tmp_path, holder=thread.native_id))
        assert list_mounts(fuse_settings) == []
    finally:
        ends.set()
        thread.join()
