"""Folders that nginx and Apache index, with names that need escaping in HTML and in URLs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.testing.servers.certificates import make_certificate
from tests.cli.conftest import CommandLine
from tests.odd_keys.conftest import files_below, mounted
from tests.odd_keys.web_servers import web_server

NAMES = (
    "plain.txt", "a b", " lead", "trail ", "100%", "%41", "a&b", "&amp;", "lt<gt>", "q?x=1",
    "?C=N;O=D", "hash#x", "plus+", "semi;colon", "quote'\"", "back\\slash", "[x]", "{y}|^`",
    "colon:name", "mailto:me", "a:b/c:d", "http:/x", "~tilde", "e\u0301", "é", "日本/emoji😀",
    "dir with space/in side", "dir%20encoded/x", "deep/er/est/file", "long-" + "x" * 200,
)  # fmt: skip
SECRET, EMPTY, LINE = b"only root reads it", b"empty", b"line\nfeed"


def content(name: str) -> bytes:
    return b"content of " + os.fsencode(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' own users can read, as pytest's are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        top = Path(directory)
        top.chmod(0o755)
        for name in NAMES:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content(name))
        for odd, data in ((EMPTY, b""), (LINE, b"left out"), (SECRET, b"left out")):
            (top / os.fsdecode(odd)).write_bytes(data)
        (top / os.fsdecode(SECRET)).chmod(0)
        for file in filter(Path.is_file, top.rglob("*")):
            os.utime(file, (1_700_000_000, 1_700_000_000))  # what changed just now is not kept
        yield top


@pytest.mark.parametrize("program", ["nginx", "apache2"])
def test_an_index_is_a_directory(
    program: str, folder: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    if os.getuid():
        pytest.skip("a file that the server may not read needs root and a server of another user")
    certificate = make_certificate(tmp_path / "certificate")
    file = tmp_path / "web.yaml"
    with web_server(program, folder, tmp_path / "server", certificate) as url:
        file.write_text(
            "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {name: web}\n"
            f"spec:\n  mounts:\n    - {{name: web, path: /, mountPoint: '{url}',\n"
            "       options: {ca_bundle: ./certificate/authority.pem}}\n"
        )
        listed = command_line.run("ls", "fluid://web", "-f", file)
        assert listed.returncode == 0
        assert b"not readable" in listed.stderr
        assert b"a NUL or control character" in listed.stderr
        with mounted(command_line, file) as directory:
            wanted = {os.fsencode(name): content(name) for name in NAMES} | {EMPTY: b""}
            assert files_below(directory) == wanted, listed.stderr
        for name in ("100%", "q?x=1", "日本/emoji😀"):
            said = command_line.done("cat", f"fluid://web/{name}", "-f", file)
            assert said.encode() == content(name)
