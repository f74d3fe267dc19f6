"""A storage plug-in as users meet it: installed, declared by YAML, read through a real worker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fluidpy.client.connection import close_connections, connection_for
from fluidpy.client.start import connect
from fluidpy.errors import FluidpyError, WorkerError
from fluidpy.filesystem import FluidFileSystem
from fluidpy.settings import Settings
from fluidpy.storage.plugins import InstalledPlugin
from fluidpy.testing.conformance.bed import TestBed
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.sample_tree import TREE

SERVED: Final = "a Dataset is read by fluid:// with the right bytes"
CACHED: Final = "what was read once is cached"
KILLED: Final = "readers go on after the worker was killed"
INSIDE: Final = "no secret is left in a file, but for the one it was declared in"
CALL_SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 20.0
"""A file that changed less than 2 s ago is not kept yet (`SETTLED_NS` of local files)."""
UNREAD: Final = "unread.bin"
UNREAD_BYTES: Final = b"nobody has read this yet" * 100
_CURE: Final = "See the clauses before; `worker.log` is quoted above."


def served_by_a_worker(plugin: InstalledPlugin, bed: TestBed, scratch: Path) -> Iterator[Outcome]:
    """The clauses that need a worker; `scratch` has the plug-in installed in `state/runtimes`."""
    bed.put({UNREAD: UNREAD_BYTES})
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as run:
        settings = Settings(
            cache_dir=scratch / "cache",
            runtime_dir=Path(run) / "r",
            state_dir=scratch / "state",
            source_deadline_seconds=CALL_SECONDS,
        )
        file = Path(run) / "dataset.yaml"
        file.write_text(json.dumps(declared(bed)))
        file.chmod(0o600)
        served = _Served(settings, file)
        try:
            for clause, check in (
                (SERVED, served.reads),
                (CACHED, served.is_cached),
                (KILLED, served.outlives_a_kill),
            ):
                yield _tried(clause, check, settings)
        finally:
            served.close()
        yield _inside(bed, (scratch / "cache", Path(run) / "r"))


def declared(bed: TestBed) -> dict[str, Any]:
    """The Dataset of the bed and its Secret, as a `List`."""
    reference = {"name": "test-secret"}
    mount = {
        "name": "data",
        "path": "/",
        "mountPoint": bed.mount_point,
        "options": dict(bed.options),
        "encryptOptions": [
            {"name": name, "valueFrom": {"secretKeyRef": {**reference, "key": name}}}
            for name in bed.secrets
        ],
    }
    dataset = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "conformance"},
        "spec": {"mounts": [mount]},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": reference,
        "stringData": dict(bed.secrets),
    }
    return {"apiVersion": "v1", "kind": "List", "items": [dataset, secret][: 1 + bool(bed.secrets)]}


class _Served:
    """The Dataset in the hands of a worker of its own."""

    def __init__(self, settings: Settings, file: Path) -> None:
        self._settings = settings
        names = ("cache_dir", "runtime_dir", "state_dir")
        # The worker is started with them; this process tests one plug-in and ends.
        os.environ.update({f"FLUIDPY_{n.upper()}": str(getattr(settings, n)) for n in names})
        self._options: dict[str, Any] = {"file": str(file)}

    @property
    def _fs(self) -> FluidFileSystem:
        return FluidFileSystem(**self._options)

    def reads(self) -> str:
        """Every file, by name and by walking."""
        found = {path.partition("/")[2] for path in self._fs.find("conformance")}
        missing = sorted(set(TREE) - found)
        if missing:
            return f"{missing[:3]} are not found"
        return next((said for path in TREE if (said := self._wrong(path))), "")

    def _wrong(self, path: str) -> str:
        got = self._fs.cat_file(f"conformance/{path}")
        return "" if got == TREE[path] else f"{path} has other bytes than were put there"

    def is_cached(self) -> str:
        """The worker counts the bytes that it keeps: of files that have just changed, later."""
        wanted = sum(map(len, TREE.values()))
        limit = time.monotonic() + SETTLE_SECONDS
        while (kept := self._kept()) < wanted and time.monotonic() < limit:
            time.sleep(0.2)  # what is awaited is the passing of time itself
            if said := self.reads():
                return said
        return "" if kept >= wanted else f"{kept} of {wanted} bytes are cached"

    def _kept(self) -> int:
        status = self._status()
        rows = [row for row in status["datasets"] if row["key"] == "default/conformance"]
        return sum(int(row.get("cached_bytes", 0)) for row in rows)

    def outlives_a_kill(self) -> str:
        """SIGKILL, and the same reader reads on: what is cached, and what is not."""
        os.kill(int(self._status()["pid"]), signal.SIGKILL)
        if self._fs.cat_file(f"conformance/{UNREAD}") != UNREAD_BYTES:
            return f"{UNREAD} has other bytes than were put there"
        return next((said for path in TREE if (said := self._wrong(path))), "")

    def _status(self) -> dict[str, Any]:
        """The worker's; asked again where the last one was killed meanwhile."""
        connection = connection_for(self._settings)
        with contextlib.suppress(WorkerError):
            status, _ = connection.call("status", deadline=CALL_SECONDS)
            return status
        status, _ = connection.call("status", deadline=CALL_SECONDS)
        return status

    def close(self) -> None:
        """Ends the worker, if one runs."""
        listening = connect(self._settings)
        if listening is not None:
            listening.close()
            pid = int(self._status()["pid"])
            with contextlib.suppress(FluidpyError):  # it may be gone before it has answered
                connection_for(self._settings).call("stop", deadline=CALL_SECONDS)
            _await_end(pid)
        close_connections()
        FluidFileSystem.clear_instance_cache()


def _await_end(pid: int) -> None:
    """Waits for the worker, whose files are looked at and removed then; kills it in the end."""
    limit = time.monotonic() + CALL_SECONDS
    while _runs(pid):
        if time.monotonic() > limit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)  # it is not always our child, so there is nothing to wait on


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _tried(clause: str, check: Any, settings: Settings) -> Outcome:
    began = time.monotonic()
    try:
        said = check()
    except FluidpyError as error:
        said = str(error)
    result = Result.FAILED if said else Result.PASSED
    outcome = Outcome(clause, result, said, _CURE if said else "", time.monotonic() - began)
    log = settings.runtime_dir / "worker.log"
    if said and log.is_file():
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        outcome = replace(outcome, said=f"{said} (worker.log: {''.join(last)})")
    return outcome


def _inside(bed: TestBed, folders: tuple[Path, ...]) -> Outcome:
    secrets = [secret.encode() for secret in bed.all_secrets if len(secret) >= 4]
    if not secrets:
        return Outcome(INSIDE, Result.LEFT_OUT, "the manifest names no secrets to test with")
    for file in (one for folder in folders for one in folder.rglob("*") if one.is_file()):
        data = file.read_bytes()
        if any(secret in data for secret in secrets):
            said = f"a secret of the mount stands in {file.name}"
            return Outcome(INSIDE, Result.FAILED, said, "Log neither secrets nor whole requests.")
    return Outcome(INSIDE, Result.PASSED)
