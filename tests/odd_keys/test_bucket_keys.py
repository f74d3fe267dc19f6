"""Keys of a bucket that no file system likes: shown, or left out by the stated rule and counted.

A real server first; then one that holds any key, for those that SeaweedFS refuses or rewrites
(it takes `a//b` for `a/b`, and knows no name over 255 bytes).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import fsspec

from fluidpy.storage.s3_signature import AccessKey, sign_request
from fluidpy.testing.servers.object_server import object_server
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.conftest import dataset
from tests.bad_input.test_bad_sources import bucket_dataset
from tests.cli.conftest import CommandLine
from tests.odd_keys.conftest import files_below, mounted

SHOWN = (
    "Case", "case", "%41", "A", "a+b", "a b", " lead", "trail ", "q?x=1&y", "hash#x", "q'\"",
    "*", "[x]", "..a", "...", "semi;colon", "emoji😀/é ü", "nb\u00a0sp", "\u202ertl", "x" * 255,
    "/".join(["d" * 100] * 8) + "/deep", "both/in", "plain.txt",
)  # fmt: skip
LEFT_OUT = {
    "line\nfeed": "a NUL or control character",
    "tab\there": "a NUL or control character",
    "escape\x1b[31m": "a NUL or control character",
    "del\x7f": "a NUL or control character",
    "both": "a file that is also a folder",
}
LEFT_OUT_ELSEWHERE = LEFT_OUT | {
    "a//b": "empty path part",
    "/a": "empty path part",
    "../x": "'.' or '..' as a path part",
    "./x": "'.' or '..' as a path part",
    "y/../z": "'.' or '..' as a path part",
    "n" * 256: "a name over 255 bytes",
    "n" * 300: "a name over 255 bytes",
    "bad\udcff": "not UTF-8",
    "marker/": "a folder marker that holds bytes",
}
SHOWN_ELSEWHERE = (*SHOWN, "back\\slash", "folder/" + "é" * 127)


def content(key: str) -> bytes:
    return b"bytes of " + os.fsencode(key)


def put(server: SeaweedServer, bucket: str, key: str) -> None:
    """Puts an object under any key; obstore, by which others are put, refuses odd ones."""
    host = server.endpoint.removeprefix("http://")
    path, body = f"/{bucket}/{quote(key, safe='/-_.~')}", content(key)
    sign = AccessKey(server.access_key, server.secret_key)
    headers = sign_request(sign, server.region, "PUT", host, path, "", datetime.now(UTC), body)
    connection = HTTPConnection(host, timeout=60)
    connection.request("PUT", path, body, headers)
    assert connection.getresponse().status == 200, key
    connection.close()


def test_a_real_bucket(
    command_line: CommandLine, seaweedfs_server: SeaweedServer, bucket: str, tmp_path: Path
) -> None:
    for key in (*SHOWN, *LEFT_OUT):
        put(seaweedfs_server, bucket, key)
    file = tmp_path / "d.yaml"
    file.write_text(bucket_dataset(seaweedfs_server, f"s3://{bucket}"))
    check_all_ways(command_line, file, SHOWN, LEFT_OUT)


def test_a_bucket_with_any_key(command_line: CommandLine, tmp_path: Path) -> None:
    with object_server() as server:
        for key in (*SHOWN_ELSEWHERE, *LEFT_OUT_ELSEWHERE):
            server.put("odd", key, content(key))
        file = tmp_path / "d.yaml"
        options = f"      options: {{endpoint: '{server.endpoint}'}}\n"
        file.write_text(dataset("s3://odd", more=options))
        check_all_ways(command_line, file, SHOWN_ELSEWHERE, LEFT_OUT_ELSEWHERE)


def check_all_ways(
    line: CommandLine, file: Path, shown: tuple[str, ...], left_out: Mapping[str, str]
) -> None:
    """Lists lazily, loads metadata, reads by mount and by URL: the same names, the same counts."""
    wanted = {os.fsencode(key): content(key) for key in shown}
    reasons = Counter(left_out.values())
    at_root = {reason for key, reason in left_out.items() if "/" not in key}
    with mounted(line, file) as directory:  # each folder is listed when it is visited
        assert files_below(directory) == wanted
    listed = line.run("ls", "-f", file, "fluid://pets/")
    assert "names are left out: " in listed.stderr.decode()
    assert all(reason in listed.stderr.decode() for reason in at_root)
    metadata = json.loads(line.done("load", "--metadata", "-f", file, "-o", "json"))
    assert metadata["omitted"] == reasons
    assert metadata["files"] == len(shown)
    loaded = line.run("load", "-f", file)
    assert loaded.returncode == 0
    assert f"{sum(reasons.values())} names are left out: " in loaded.stderr.decode()
    (one,) = json.loads(line.done("status", "-o", "json"))["worker"]["datasets"]
    assert one["omitted"] == reasons
    read_by_url(line, file, shown, left_out)


def read_by_url(
    line: CommandLine, file: Path, shown: tuple[str, ...], left_out: Mapping[str, str]
) -> None:
    fs = fsspec.filesystem(
        "fluid",
        file=str(file),
        cache_dir=line.environment["FLUIDPY_CACHE_DIR"],
        runtime_dir=line.environment["FLUIDPY_RUNTIME_DIR"],
        skip_instance_cache=True,
    )
    assert set(fs.find("pets")) == {f"pets/{key}" for key in shown}
    for key in shown:
        assert fs.cat_file(f"pets/{key}") == content(key), key
    for key, reason in left_out.items():
        if reason in ("a file that is also a folder", "a folder marker that holds bytes"):
            assert fs.isdir(f"pets/{key}")
        elif reason != "empty path part":  # `a//b` is a way of writing `a/b`
            assert not fs.exists(f"pets/{key}"), key


def test_no_path_leads_out(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "source" / "both").mkdir(parents=True)
    (tmp_path / "d.yaml").write_text(dataset(f"local://{tmp_path}/source"))
    for path in ("../../etc/passwd", "both/../../etc/passwd", "/../etc/passwd"):
        finished = command_line.run("cat", "-f", "d.yaml", f"fluid://pets/{path}")
        assert finished.returncode == 1, path
        assert finished.stdout == b""
        assert "leads out of the Dataset" in finished.stderr.decode()
