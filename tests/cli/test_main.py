"""The command line as a process: messages, exit codes, what it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluidpy.cli import main as main_module
from fluidpy.cli import status
from fluidpy.cli.main import main
from tests.cli.conftest import CommandLine

HEAVY = ("pydantic", "yaml", "rich", "obstore", "aiohttp", "fsspec", "asyncio", "sqlite3")


def test_help_names_every_command_and_hides_processes(command_line: CommandLine) -> None:
    text = command_line.done("--help")
    for command in ("mount", "umount", "status", "load", "ls", "cat", "cp", "du", "validate"):
        assert f"\n  {command}" in text
    for hidden in ("worker", "fuse"):
        assert f"\n  {hidden} " not in text


def test_kubectl_finds_the_same_commands() -> None:
    """kubectl runs the program `kubectl-fluidpy` of the path with the words behind its name."""
    program = Path(sys.executable).with_name("kubectl-fluidpy")

    def run(*words: str) -> tuple[int, str]:
        finished = subprocess.run(
            [sys.executable, program, *words], capture_output=True, check=False, timeout=100
        )
        return finished.returncode, (finished.stdout + finished.stderr).decode()

    code, text = run("load", "--help")
    assert code == 0
    assert text.startswith("Usage: kubectl fluidpy load ")
    assert run("nonsense") == (
        2,
        "fluidpy: no such command 'nonsense'\ncure: See kubectl fluidpy --help\n",
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fluidpy.cli.main import main; main(['--help']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert finished.stderr.decode().strip() == "[]"


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "fluidpy", "--help"], capture_output=True, check=True)
        after = os.times()  # of the processor: others may use it as well
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message", "cure"),
    [
        (["doctr"], "no such command 'doctr'", "fluidpy --help"),
        (["ls"], "missing argument", "fluidpy ls --help"),
        (["ls", "fluid://a", "--wrong"], "no such option", "fluidpy ls --help"),
        (["ls", "fluid://a", "-o", "xml"], "invalid value for", "fluidpy ls --help"),
        (["ls", "s3://a/b"], "s3://a/b is not a fluid:// URL", "fluid://NAME/PATH"),
        (["mount", "/data"], "nothing to mount is given", "fluidpy mount -f FILE DIR"),
        (["load"], "no Dataset is named", "Give NAME, or -f FILE."),
        (["validate"], "no file is given", "fluidpy validate -f FILE"),
        (["schema"], "give either a kind or --all", "Dataset"),
        (["schema", "Datset"], "there is no kind 'Datset'", "Dataset"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_cure(
    arguments: list[str], message: str, cure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.lower().startswith(f"fluidpy: {message.lower()}")
    assert second.startswith("cure: ")
    assert cure in second


def test_writing_to_a_dataset_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cp", "fluid://a/x", "fluid://b/y"]) == 1
    assert "Datasets are read-only" in capfd.readouterr().err


def test_without_typer_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["--help"]) == 1
    assert "pip install 'fluidpy[cli]'" in capfd.readouterr().err


def test_the_unexpected_is_a_message_and_a_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise ValueError("boom")

    monkeypatch.setattr(main_module, "_run", fail)
    monkeypatch.delenv("FLUIDPY_DEBUG", raising=False)
    assert main([]) == 1
    quiet = capfd.readouterr().err
    assert quiet.startswith("fluidpy: ValueError: boom\ncure: ")
    assert "Traceback" not in quiet
    monkeypatch.setenv("FLUIDPY_DEBUG", "1")
    assert main([]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_an_interrupt_is_exit_130(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_run", interrupt)
    assert main([]) == 130
    assert capfd.readouterr().err == "fluidpy: interrupted\n"


def test_an_interrupt_within_a_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """typer turns Ctrl-C into an exit code of its own."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "load_settings", interrupt)
    assert main(["status"]) == 130
    assert capfd.readouterr().err == "fluidpy: interrupted\n"


def test_a_reader_that_goes_away_is_no_message() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "fluidpy", "schema", "--all"],
            stdout=write,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(write)
    assert finished.returncode == 1
    assert finished.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_output_that_finds_no_room_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "fluidpy", "schema", "--all"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert finished.returncode == 1
    assert finished.stderr.decode().splitlines() == [
        "fluidpy: the output cannot be written: No space left on device",
        "cure: Look at where the output goes.",
    ]


def test_a_stdout_that_was_closed_is_an_error_without_traceback() -> None:
    command = ["sh", "-c", 'exec "$0" -m fluidpy schema Dataset >&-', sys.executable]
    finished = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith(b"fluidpy: the output cannot be written: Bad file")


@pytest.mark.parametrize("words", [[], ["cache"], ["runtime"]])
def test_no_command_at_all_prints_the_help(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capfd.readouterr().err
    assert said.startswith("Usage: ")
    assert "\nCommands:\n" in said


def test_a_path_that_the_system_refuses_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", "n" * 300]) == 1
    said = capfd.readouterr()
    assert "File name too long" in said.out + said.err
    assert "Not expected" not in said.err


def test_version(command_line: CommandLine) -> None:
    from fluidpy import __version__

    assert command_line.done("--version") == f"fluidpy {__version__}\n"


def test_validate_says_everything_about_many_files(
    command_line: CommandLine, dataset_file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {name: bad}\n"
        "spec:\n  mounts:\n    - mountpoint: s3://a/b\n      name: x\n"
    )
    worse = tmp_path / "worse.yaml"
    worse.write_text("kind: Dataset\nkind: Dataset\n")
    finished = command_line.run("validate", "-f", dataset_file, "-f", bad, worse)
    lines = finished.stdout.decode().splitlines()
    assert finished.returncode == 1
    assert (
        f"{bad}:6:7: spec.mounts[0].mountpoint: unknown field; did you mean 'mountPoint'?" in lines
    )
    assert any(line.startswith(str(worse)) for line in lines)
    assert not any(line.startswith(str(dataset_file)) for line in lines)
    assert finished.stderr.decode().splitlines()[-1] == f"fluidpy: {len(lines)} problems"


def test_a_url_is_checked_as_a_mount_is(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    finished = command_line.run("mount", "s3://b/p", tmp_path / "place", "-o", "endpiont=x")
    assert finished.returncode == 1
    assert "unknown option endpiont; did you mean endpoint?" in finished.stderr.decode()
    finished = command_line.run(
        "mount", "local:///no/such/place", tmp_path / "place", "-o", "jindo.a=1"
    )
    assert "warning: option jindo.a has no meaning here" in finished.stderr.decode()


def test_validate_refuses_what_no_driver_takes(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "source.yaml"
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {name: d}\n"
        "spec:\n  mounts:\n    - mountPoint: s3://b/p\n      name: x\n"
        "      options: {endpiont: https://host, jindo.a: '1'}\n"
    )
    finished = command_line.run("validate", "-f", file)
    assert finished.returncode == 1
    assert finished.stdout.decode().startswith(f"{file}:6:7: spec.mounts[0]: mount x: unknown")
    file.write_text(file.read_text().replace("endpiont", "endpoint"))
    finished = command_line.run("validate", "-f", file)
    assert (finished.returncode, finished.stdout) == (0, b"")
    assert "option jindo.a has no meaning here and is ignored" in finished.stderr.decode()


def test_validate_as_json_and_from_stdin(command_line: CommandLine, dataset_file: Path) -> None:
    text = command_line.done("validate", "-f", "-", "-o", "json", stdin=dataset_file.read_bytes())
    found = json.loads(text)
    assert found["problems"] == []
    assert found["objects"] == ["Dataset/default/pets"]


def test_schema_is_json_schema(command_line: CommandLine) -> None:
    schema = json.loads(command_line.done("schema", "Dataset"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    manifest = json.loads(command_line.done("schema", "runtime.yaml"))
    assert manifest["$schema"] == schema["$schema"]
    assert {"apiVersion", "kind", "name", "version"} <= set(manifest["required"])
    assert "filesystemType" in manifest["$defs"]["MountSection"]["properties"]
    names = command_line.done("schema", "--all", "-o", "name").split()
    assert len(names) == len(json.loads(command_line.done("schema", "--all"))) == 14
