"""The store that a plug-in is tested on: its server, and reads that may hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fluidpy.control.linux_processes import processes_with
from fluidpy.errors import RuntimePluginError
from fluidpy.runtime.manifest import load_manifest
from fluidpy.testing.conformance import bed, mount
from fluidpy.testing.conformance.bed import test_bed
from tests.control.test_life_of_a_dataset import await_true

MANIFEST = """
apiVersion: runtime.fluidpy.io/v1
kind: storage
name: served
version: 0.1.0
storage: {protocols: [served], class: "served:Served"}
conformance:
  mountPoint: served://test
  server: [SERVER]
"""
TESTING = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from fluidpy.runtime.manifest import load_manifest
    from fluidpy.testing.conformance.bed import test_bed
    folder = Path(sys.argv[1])
    with test_bed(load_manifest(folder), folder, folder):
        print("served", flush=True)
        time.sleep(100)
""")


def plugin(folder: Path, server: str) -> Path:
    (folder / "runtime.yaml").write_text(MANIFEST.replace("SERVER", server))
    return folder


def test_a_server_ends_also_when_the_test_itself_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho ready\nexec sleep 100\n")
    program.chmod(0o755)
    plugin(tmp_path, "./server")
    mark = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", TESTING, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "BED_OF": mark},
    ) as testing:
        assert testing.stdout is not None
        assert testing.stdout.readline() == b"served\n"
        await_true(lambda: len(processes_with("BED_OF", mark)) == 2, 30)
        testing.send_signal(signal.SIGKILL)
    await_true(lambda: not processes_with("BED_OF", mark), 30)


@pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="sshd is not installed")
def test_what_waits_for_an_ssh_server_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, programs = tmp_path / "served", tmp_path / "programs"
    served.mkdir()
    programs.mkdir()
    (programs / "ssh-keyscan").write_text("#!/bin/sh\nexit 1\n")
    (programs / "ssh-keyscan").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    script = Path(__file__).parents[2] / "runtimes/sshfs/conformance/serve.sh"
    # The server refuses the port at once; what waits holds stdout open.
    with subprocess.Popen(
        ["sh", script, "no-port", served], stdout=subprocess.PIPE, process_group=0
    ) as process:
        try:
            assert process.communicate(timeout=60)[0] == b""
            assert process.returncode != 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_server_that_closes_its_output_and_goes_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end was waited for, and never came."""
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\nexec sleep 100 >/dev/null\n")
    program.chmod(0o755)
    manifest = load_manifest(plugin(tmp_path, "./server"))
    monkeypatch.setattr(bed, "END_SECONDS", 0.1)
    with (
        pytest.raises(RuntimePluginError, match="closed its standard output"),
        test_bed(manifest, tmp_path, tmp_path),
    ):
        pass


def test_a_killed_process_that_the_kernel_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bed, "KILL_SECONDS", 0.01)
    with subprocess.Popen(["sleep", "100"]) as process:
        with pytest.raises(RuntimePluginError, match=f"process {process.pid} waits in the kernel"):
            bed.await_killed(process, "a test")
        process.kill()


def test_a_server_that_is_no_program_is_told(tmp_path: Path) -> None:
    folder = plugin(tmp_path, "./nowhere")
    with (
        pytest.raises(RuntimePluginError, match=r"\./nowhere\) does not serve: .*not there"),
        test_bed(load_manifest(folder), folder, folder),
    ):
        raise AssertionError


def test_a_read_that_hangs_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "REFUSED_SECONDS", 0.2)
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    try:
        assert not mount._is_read(hanging)
    finally:
        os.close(os.open(hanging, os.O_RDWR | os.O_NONBLOCK))
    monkeypatch.setattr(mount, "REFUSED_SECONDS", 60.0)
    (tmp_path / "there").write_bytes(b"content")
    assert mount._is_read(tmp_path / "there")
    assert not mount._is_read(tmp_path / "not-there")
