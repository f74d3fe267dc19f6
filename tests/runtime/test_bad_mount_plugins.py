"""Mount plug-ins that are wrong, each in one way, and the sentence that its author gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fluidpy.cache.directory import mount_of
from fluidpy.control.linux_processes import mount_table, unmount_below
from fluidpy.runtime.discovery import Plugin
from fluidpy.runtime.manifest import load_manifest
from fluidpy.testing.conformance import mount as clauses
from fluidpy.testing.conformance.bed import test_bed
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.conformance.storage_clauses import CLAUSES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems, as root"),
]

MANIFEST = """
apiVersion: runtime.fluidpy.io/v1
kind: mount
name: bad
version: 0.1.0
options: [{name: word, secret: true}]
mount:
  command: [./client, "{source}", "{target}", "{secretFile.word}", "{cacheDir}"]
  filesystemType: TYPE
  readySeconds: 2
  stopSeconds: 1
conformance:
  mountPoint: nas://{directory}
  secrets: {word: open sesame 22}
  refused: {word: a wrong word 33}
"""
GOOD = """#!/bin/sh
set -eu
PREPARE
[ "$(cat "$3")" = "open sesame 22" ] || exit 1
mount --bind "$1" "$2"
STAY
"""
STAY = "exec sleep 1000"
NEVER_ANSWERS = f"""#!{sys.executable}
import ctypes, os, signal, sys
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={{fd}},rootmode=40000,user_id=0,group_id=0,subtype=silent".encode()
ctypes.CDLL(None).mount(b"silent", sys.argv[2].encode(), b"fuse", 0, options)
signal.pause()
"""


def tried(
    folder: Path,
    prepare: str = ":",
    stay: str = STAY,
    kind: str = "",
    client: str = GOOD,
    mode: int = 0o755,
) -> list[Outcome]:
    """What `fluidpy runtime test` says of a plug-in, up to its first failure."""
    plugin = folder / "plugin"
    plugin.mkdir()
    (folder / "store").mkdir()
    holder = mount_of(str(folder), mount_table())
    assert holder is not None
    (plugin / "runtime.yaml").write_text(MANIFEST.replace("TYPE", kind or holder.kind))
    if client:
        script = client.replace("PREPARE", prepare).replace("STAY", stay)
        (plugin / "client").write_text(script)
        (plugin / "client").chmod(mode)
    manifest = load_manifest(plugin)
    outcomes = []
    with test_bed(manifest, plugin, folder / "store") as bed:
        checks = clauses.check_mount_plugin(Plugin(manifest, plugin, "test"), bed, folder / "run")
        for outcome in checks:
            outcomes.append(outcome)
            if outcome.result is Result.FAILED:
                break
        checks.close()  # type: ignore[attr-defined]  # a generator
    left = [one for one in mount_table() if one.mount_point.startswith(f"{folder}/")]
    unmount_below(str(folder))  # else nobody can remove the folder
    assert left == []
    return outcomes


@pytest.mark.parametrize(
    ("wrong", "clause", "sentence"),
    [
        pytest.param(
            {"prepare": "exec sleep 1000"},
            clauses.MOUNTS,
            "nothing was mounted at",
            id="the mount never appears",
        ),
        pytest.param(
            {"kind": "fuse.nas"},
            clauses.MOUNTS,
            "and fuse.nas is declared",
            id="wrong file system type",
        ),
        pytest.param(
            {"prepare": "exit 0"},
            clauses.MOUNTS,
            "has to stay in the foreground",
            id="exits 0 early",
        ),
        pytest.param(
            {"prepare": "echo no route to master; exit 3"},
            clauses.MOUNTS,
            'ended with exit status 3 before anything was mounted at TARGET; it said last: "no '
            'route to master"',
            id="exits with an error",
        ),
        pytest.param(
            {"client": ""}, clauses.MOUNTS, "is not there. Install it", id="no such program"
        ),
        pytest.param(
            {"mode": 0o644},
            clauses.MOUNTS,
            "is not executable. Run: chmod +x",
            id="not executable",
        ),
        pytest.param(
            {"client": GOOD.replace("#!/bin/sh\n", "")},
            clauses.MOUNTS,
            "A script begins with a line such as #!/bin/sh",
            id="a script without its first line",
        ),
        pytest.param(
            {"client": NEVER_ANSWERS, "kind": "fuse.silent"},
            clauses.MOUNTS,
            "listing TARGET was not answered",
            id="mounts and hangs",
        ),
        pytest.param(
            {"prepare": 'mkdir -p "$2-other"; mount --bind "$1" "$2-other"; exec sleep 1000'},
            clauses.MOUNTS,
            "mounted at TARGET-other and not at TARGET",
            id="mounts elsewhere",
        ),
        pytest.param(
            {"stay": "sleep 0.3; exit 0"},
            clauses.STAYS,
            "If it went to the background, keep it in the foreground",
            id="goes to the background",
        ),
        pytest.param(
            {"prepare": 'set -- "$1/train" "$2" "$3"'},
            "a folder lists each child once, odd names too",
            "List all that the store holds",
            id="shows a part only",
        ),
        pytest.param(
            {"prepare": 'cp -a "$1" "$4/copy"; set -- "$4/copy" "$2" "$3"'},
            "other bytes are another version",
            "Switch the client's own caches off",
            id="keeps what has changed",
        ),
        pytest.param(
            {"prepare": 'mkdir "$4/lock" || exit 1'},
            clauses.BACK,
            "Keep nothing from one start to the next",
            id="does not come back after a kill",
        ),
        pytest.param(
            {"prepare": 'cat "$3"'},
            clauses.LEAKS,
            "a secret of the mount was printed",
            id="prints the secret",
        ),
        pytest.param(
            {"stay": 'exec sh -c "sleep 1000; :" x "$(cat "$3")"'},
            clauses.LEAKS,
            "which all users can see (ps). Hand the program the path",
            id="shows the secret in its arguments",
        ),
        pytest.param(
            {"prepare": 'trap "" TERM', "stay": "while :; do sleep 0.2; done"},
            clauses.STOPS,
            "did not end within 1 s of SIGTERM and was killed. Let it unmount and end",
            id="ignores SIGTERM",
        ),
        pytest.param(
            {"prepare": 'printf "open sesame 22" >"$4/word"; set -- "$1" "$2" "$4/word"'},
            clauses.REFUSES,
            "a file was read with a wrong secret",
            id="takes any secret",
        ),
    ],
)
def test_each_is_caught_with_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, str],
    clause: str,
    sentence: str,
) -> None:
    # What is not at stake takes time: a worker, and a thousand files.
    needed = [one for one in CLAUSES if one.promise == clause]
    monkeypatch.setattr(clauses, "CLAUSES", needed)
    monkeypatch.setattr(clauses, "BACK_SECONDS", 3.0)
    monkeypatch.setattr(clauses, "_served", lambda *_: iter(()))
    outcomes = tried(tmp_path, **wrong)  # type: ignore[arg-type]
    last = outcomes[-1]
    target = str(tmp_path / "run" / "mounted" / "mount" / "fuse")
    told = f"{last.said}. {last.cure}"
    assert (last.clause, last.result) == (clause, Result.FAILED), told
    assert sentence.replace("TARGET", target) in told
    assert all(one.result is not Result.FAILED for one in outcomes[:-1])
    assert "open sesame" not in told
